"""A network on two processors that TensorFlow takes for two devices; writes what it did, as JSON.

python -m tests.trainer.replicated FILE

Not to standard output, where TensorFlow tells of places, at times amid what others print.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import numpy as np

from trainer import backend

backend.start()

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402

from trainer.graph import BATCH_SHAPES  # noqa: E402
from trainer.stored import StoredNetwork  # noqa: E402

SHAPE = (8, 8, 1)
COUNT = 101

MARK = "-- both --"
"""On standard error before and after what TensorFlow tells of both."""


def main() -> None:
    """Both devices, and each alone, on the same images."""
    tf.debugging.set_log_device_placement(True)
    [cpu] = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    devices = [device.name for device in tf.config.list_logical_devices("CPU")]
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            layers.Input(SHAPE, dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3),
            layers.Flatten(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    stored = StoredNetwork.of(model)
    pixels = np.random.default_rng(2).integers(0, 256, (COUNT, *SHAPE), np.uint8)
    both = stored.on(devices)
    click.echo(MARK, err=True)
    answers = both(pixels)[0][:, 0].tolist()
    click.echo(MARK, err=True)
    both.warm(*SHAPE)
    half = stored.in_half(devices, "mixed_bfloat16")
    half.warm(*SHAPE)
    Path(sys.argv[1]).write_text(
        json.dumps(
            {
                "both": answers,
                "warmed": both(pixels)[0][:, 0].tolist(),
                "half": half(pixels)[0][:, 0].tolist(),
                "one": [stored.on([name])(pixels)[0][:, 0].tolist() for name in devices],
                "single": both(pixels[:1])[0][:, 0].tolist(),
                "lite": stored.runner(pixels)[0][:, 0].tolist(),
                "most": both.most,
                "shapes": [one + other for one in BATCH_SHAPES for other in BATCH_SHAPES],
            }
        )
    )


if __name__ == "__main__":
    main()
