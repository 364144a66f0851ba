"""Average the weights of face networks that began with the same ones, and calibrate the mean.

python docs/average.py DATA… --out BUNDLE --from models/second:4 --from models/first:3 …

Source: Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models improves
accuracy without increasing inference time". The data, their split and what is left out are as
`moodsort train` has them with the same options.
"""

from __future__ import annotations

import re
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from trainer import backend, bundle
from trainer.cli import Pattern, Shares
from trainer.dataset import find_examples

backend.start()

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
@click.option("--from", "parts", multiple=True, required=True, help="BUNDLE:WEIGHT, each.")
@click.option("--split", "shares", type=Shares(), required=True, help="In percent.")
@click.option("--group-by", type=Pattern(), help="As of `moodsort train`.")
def main(
    data: Sequence[Path],
    out: Path,
    parts: Sequence[str],
    shares: tuple[float, float, float],
    group_by: re.Pattern[str] | None,
) -> None:
    """Save the mean as a bundle that judges faces."""
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
        fitted = Fitted(mean_of(parts), NO_EPOCHS)
        made, extras = assess(fitted, cleaned, divided, training, workers=WORKERS, say=click.echo)
    bundle.save(out, made, extras)


def mean_of(parts: Sequence[str]) -> Any:
    """A model with the mean of the weights, each counting so much."""
    named = [part.rpartition(":") for part in parts]
    shares = np.array([float(weight) for _, _, weight in named])
    models = [bundle.load(where).main.network.model for where, _, _ in named]
    weights = zip(*(model.get_weights() for model in models), strict=True)
    models[0].set_weights([np.average(each, axis=0, weights=shares) for each in weights])
    return models[0]


if __name__ == "__main__":
    main()
