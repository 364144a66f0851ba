"""Make a bundle of a face network that docs/face_training.py has trained: calibrate and assess it.

python docs/face_bundle.py DATA… --weights faces.keras --out BUNDLE --split 85/5/10 --group-by REGEX

The data and options are those of docs/face_crops.py, so that what is called validation and test is
what the network has not learnt from.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from face_crops import NETWORK, WORKERS, command, divided

from trainer import backend, bundle

backend.start()

import keras  # noqa: E402

from trainer.assessment import Training, assess  # noqa: E402
from trainer.training import Fitted  # noqa: E402

NO_EPOCHS: dict[str, list[float]] = {
    name: [] for name in ("loss", "val_loss", "accuracy", "val_accuracy")
}


@command
@click.option("--weights", required=True, type=click.Path(path_type=Path))
def main(
    data: Sequence[Path],
    out: Path,
    weights: Path,
    shares: tuple[float, float, float],
    group_by: re.Pattern[str] | None,
) -> None:
    """Save the network as a bundle that judges faces."""
    bundle.require_new(out)
    training = Training(
        name=out.stem,
        network=NETWORK,
        command=shlex.join(["python", *sys.argv]),
        finder=bundle.face_finder(),
    )
    fitted = Fitted(keras.saving.load_model(weights, compile=False), NO_EPOCHS)
    with divided(data, shares, group_by) as (cleaned, parts):
        made, extras = assess(fitted, cleaned, parts, training, workers=WORKERS, say=click.echo)
    bundle.save(out, made, extras)


if __name__ == "__main__":
    main()
