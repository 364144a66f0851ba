"""Cut the faces out of data sets, and divide them for docs/face_training.py, which needs no files.

python docs/face_crops.py DATA… --out CROPS.npz --split 85/5/10 --group-by REGEX

CROPS.npz holds `pixels`, uint8 (n, 48, 48, 1); `labels`, an index into CLASSES; `sources`, which of
DATA; `parts`, an index into PARTS or -1 for what may be used for nothing; `folds`, 0 to FOLDS - 1,
of which each has images and people that no other has; and `names`.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from trainer import backend, bundle
from trainer.cleaning import CleanData, clean
from trainer.cli import Pattern, Shares
from trainer.dataset import PARTS, find_examples
from trainer.splitting import belonging_together, split

backend.start()

from trainer.networks import network  # noqa: E402

NETWORK = "compact"
FOLDS = 4
WORKERS = 2


def command(function: Callable[..., None]) -> click.Command:
    """A command that takes data, how they are split, and where what it makes is to be."""
    for parameter in (
        click.option("--group-by", type=Pattern(), help="As of `moodsort train`."),
        click.option("--split", "shares", type=Shares(), required=True, help="In percent."),
        click.option("--out", required=True, type=click.Path(path_type=Path)),
        click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path)),
    ):
        function = parameter(function)
    return click.command()(function)


@command
def main(
    data: Sequence[Path],
    out: Path,
    shares: tuple[float, float, float],
    group_by: re.Pattern[str] | None,
) -> None:
    """Write the largest face of each image, as the network sees it."""
    with divided(data, shares, group_by) as (cleaned, rows_of):
        parts = np.full(len(cleaned.labels), -1)
        for name, rows in rows_of.items():
            parts[rows] = PARTS.index(name)
        np.savez_compressed(
            out,
            pixels=cleaned.pixels,
            labels=cleaned.labels,
            sources=sources(cleaned),
            parts=parts,
            folds=folds(cleaned, group_by),
            names=[str(example.path) for example in cleaned.examples],
        )
    click.echo(f"{len(parts)} faces in {out}")


@contextmanager
def divided(
    data: Sequence[Path], shares: tuple[float, float, float], group_by: re.Pattern[str] | None
) -> Iterator[tuple[CleanData, dict[str, NDArray[np.int64]]]]:
    """The faces of folders of data, as `compact` sees them, and which are in which of PARTS."""
    examples = [e for source, folder in enumerate(data) for e in find_examples(folder, source)]
    spec, finder = network(NETWORK).input, bundle.face_finder()
    with tempfile.TemporaryDirectory() as temporary:
        store = Path(temporary) / "pixels.npy"
        cleaned = clean(examples, spec, store, workers=WORKERS, finder=finder)
        yield cleaned, split(cleaned, shares, group_by)


def sources(data: CleanData) -> NDArray[np.int64]:
    """The number of the data folder that each came from, (n,)."""
    return np.array([example.source for example in data.examples])


def folds(data: CleanData, group_by: re.Pattern[str] | None) -> NDArray[np.int64]:
    """Of each the number of its fold, (n,); all folds have the like of all sources."""
    groups = np.empty(len(data.labels), np.int64)
    for number, members in enumerate(belonging_together(data, group_by)):
        groups[list(members)] = number
    kinds = 2 * sources(data) + data.labels
    numbers = np.empty(len(data.labels), np.int64)
    divided = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    for number, (_, rows) in enumerate(divided.split(groups, kinds, groups)):
        numbers[rows] = number
    return numbers


if __name__ == "__main__":
    main()
