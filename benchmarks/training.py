"""A step of training from the input pipeline, against one on a batch that lies in memory."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.figures import TRIALS, Figure
from trainer import backend
from trainer.cleaning import CleanData
from trainer.dataset import Example

IMAGES, WARM_UP, STEPS = 1_600, 5, 20
NAME = "training"


def measure(photos: Sequence[Path], folder: Path) -> list[Figure]:
    """Of `compact` on noise, which takes the same time as faces."""
    data, figures = _noise(), []
    in_memory = [_in_memory(data) for _ in range(TRIALS)]
    from_pipeline = _from_pipeline(data, folder)
    ratios = [p / m for p, m in zip(from_pipeline, in_memory, strict=True)]
    figures.append(Figure(NAME, "in memory", "images/s", in_memory))
    figures.append(Figure(NAME, "with its input pipeline", "images/s", from_pipeline))
    figures.append(Figure(NAME, "pipeline / in memory", "x", ratios, at_least=0.9))
    return figures


def _noise() -> CleanData:
    rng = np.random.default_rng(0)
    labels = np.arange(IMAGES) % 2
    return CleanData(
        examples=[Example(Path(f"{i}"), int(label), 0) for i, label in enumerate(labels)],
        sha256s=[f"{i:064}" for i in range(IMAGES)],
        labels=labels,
        groups=np.arange(IMAGES),
        pixels=rng.integers(0, 256, (IMAGES, 48, 48, 1), dtype=np.uint8),
        flagged=[],
    )


def _in_memory(data: CleanData) -> float:
    backend.start()  # before Keras is imported
    from trainer.networks import network

    net = network("compact")
    model = net.build(net.input)
    model.compile(
        net.optimizer(WARM_UP + STEPS, 1.0), loss="binary_crossentropy", jit_compile=False
    )
    pixels = data.pixels[: net.batch_size].astype(np.float32)
    labels = data.labels[: net.batch_size].astype(np.float32)[:, None]
    for step in range(WARM_UP + STEPS):
        if step == WARM_UP:
            begin = time.perf_counter()
        model.train_on_batch(pixels, labels)
    return STEPS * net.batch_size / (time.perf_counter() - begin)


def _from_pipeline(data: CleanData, folder: Path) -> list[float]:
    """What training says of each epoch but the first, which has to compile."""
    from trainer.networks import network
    from trainer.training import Plan, fit

    lines: list[str] = []
    plan = Plan(
        targets=data.labels.astype(np.float32),
        epochs=1 + TRIALS,
        patience=1 + TRIALS,
        seed=0,
        precision="float32",
        logs=folder / "logs",
        state=folder / "state.npz",
        run={},
    )
    few = np.arange(64)
    fit(network("compact"), data, np.arange(IMAGES), few, plan, lines.append)
    found = [re.search(r"(\d+) images/s", line) for line in lines]
    return [float(match[1]) for match in found if match][1:]
