"""Make a bundle of a face network that docs/face_training.py has trained: calibrate and assess it.

python docs/face_bundle.py DATA… --weights faces.keras --out BUNDLE --split 85/5/10 --group-by REGEX

The data and options are those of docs/face_crops.py, so that what is called validation and test is
what the network has not learnt from.
"""

from __future__ import annotations

import re
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from trainer import backend, bundle
from trainer.cli import Pattern, Shares
from trainer.dataset import find_examples

backend.start()

import keras  # noqa: E402

from trainer.assessment import Training, assess  # noqa: E402
from trainer.cleaning import clean  # noqa: E402
from trainer.networks import network  # noqa: E402
from trainer.splitting import split  # noqa: E402
from trainer.training import Fitted  # noqa: E402

NETWORK = "compact"
WORKERS = 2
NO_EPOCHS: dict[str, list[float]] = {
    name: [] for name in ("loss", "val_loss", "accuracy", "val_accuracy")
}


@click.command()
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--weights", required=True, type=click.Path(path_type=Path))
@click.option("--split", "shares", type=Shares(), required=True, help="In percent.")
@click.option("--group-by", type=Pattern(), help="As of `moodsort train`.")
def main(
    data: Sequence[Path],
    out: Path,
    weights: Path,
    shares: tuple[float, float, float],
    group_by: re.Pattern[str] | None,
) -> None:
    """Save the network as a bundle that judges faces."""
    bundle.require_new(out)
    examples = [e for source, folder in enumerate(data) for e in find_examples(folder, source)]
    training = Training(
        name=out.stem,
        network=NETWORK,
        command=shlex.join(["python", *sys.argv]),
        finder=bundle.face_finder(),
    )
    with tempfile.TemporaryDirectory() as temporary:
        cleaned = clean(
            examples,
            network(NETWORK).input,
            Path(temporary) / "pixels.npy",
            workers=WORKERS,
            finder=training.finder,
        )
        divided = split(cleaned, shares, group_by)
        fitted = Fitted(keras.saving.load_model(weights, compile=False), NO_EPOCHS)
        made, extras = assess(fitted, cleaned, divided, training, workers=WORKERS, say=click.echo)
    bundle.save(out, made, extras)


if __name__ == "__main__":
    main()
