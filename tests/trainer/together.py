"""Train a small network, by the strategy that is named; print how it went, as JSON.

python -m tests.trainer.together STRATEGY FOLDER. Logs and state go to FOLDER. It trains on two
processors that TensorFlow takes for two devices.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from trainer import backend
from trainer.cleaning import CleanData
from trainer.dataset import Example
from trainer.image import InputSpec

backend.start()

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402

from trainer import devices  # noqa: E402
from trainer.networks import network  # noqa: E402
from trainer.training import Plan, fit  # noqa: E402

SPEC = InputSpec(12, 12, 1)
TRAIN, VALIDATION = np.arange(90), np.arange(90, 120)


def build(spec: InputSpec) -> Any:
    """Nothing in it is random or looks at a whole batch: it does not matter how that is divided."""
    return keras.Sequential(
        [
            keras.Input(spec.shape, dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(1, activation="sigmoid", dtype="float32"),
        ]
    )


def noise() -> CleanData:
    """Of which one class is brighter."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    pixels = rng.integers(0, 156, (120, *SPEC.shape)) + 60 * labels[:, None, None, None]
    return CleanData(
        examples=[Example(Path(f"{i}"), int(label), 0) for i, label in enumerate(labels)],
        sha256s=[f"{i:064}" for i in range(120)],
        labels=labels,
        groups=np.arange(120),
        pixels=pixels.astype(np.uint8),
        flagged=[],
    )


def main(strategy: str, folder: Path) -> None:
    """Three epochs."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    together = devices.choose(strategy)
    data = noise()
    plan = Plan(
        targets=data.labels.astype(np.float32),
        epochs=3,
        patience=3,
        seed=1,
        precision="float32",
        logs=folder / "logs",
        state=folder / "state.npz",
        run={},
        devices=together,
    )
    net = replace(network("compact"), name="tiny", input=SPEC, build=build, batch_size=30)
    fitted = fit(net, data, TRAIN, VALIDATION, plan, lambda line: None)
    click.echo(
        json.dumps(
            {
                "replicas": together.strategy.num_replicas_in_sync,
                "history": fitted.history,
                "weights": [w.tolist() for w in fitted.model.get_weights()],
            }
        )
    )
    together.wait_for_all()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
