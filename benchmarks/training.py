"""A step of training from the input pipeline, against one on a batch that lies in memory."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.figures import TRIALS, Figure
from trainer import backend
from trainer.cleaning import CleanData
from trainer.dataset import Example

IMAGES, STEPS = 2_432, 38
"""Of an epoch: so many batches of 64."""
NAME = "training"


def measure(photos: Sequence[Path], folder: Path) -> list[Figure]:
    """Of `compact` on noise, which takes the same time as faces; the two take turns."""
    data = _noise()
    in_memory = _in_memory(data)
    both: list[tuple[float, float]] = []

    def take_turns(line: str) -> None:
        if match := re.search(r"(\d+) images/s", line):
            both.append((float(match[1]), in_memory()))

    _fit(data, folder, take_turns)
    measured = both[1:]  # In the first epoch the graph is compiled.
    return [
        Figure(NAME, "in memory", "images/s", [memory for _, memory in measured]),
        Figure(NAME, "with its input pipeline", "images/s", [whole for whole, _ in measured]),
        Figure(
            NAME,
            "pipeline / in memory",
            "x",
            [whole / memory for whole, memory in measured],
            at_least=0.9,
        ),
    ]


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


def _in_memory(data: CleanData) -> Callable[[], float]:
    """As many steps as an epoch has, always on the same batch; gives images/s."""
    backend.start()  # before Keras is imported
    from trainer.networks import network

    net = network("compact")
    model = net.build(net.input)
    model.compile(net.optimizer(STEPS, 1.0), loss="binary_crossentropy", jit_compile=False)
    pixels = data.pixels[: net.batch_size].astype(np.float32)
    labels = data.labels[: net.batch_size].astype(np.float32)[:, None]

    def epoch() -> float:
        begin = time.perf_counter()
        for _ in range(STEPS):
            model.train_on_batch(pixels, labels)
        return STEPS * net.batch_size / (time.perf_counter() - begin)

    return epoch


def _fit(data: CleanData, folder: Path, say: Callable[[str], None]) -> None:
    """Train for an epoch more than there are trials."""
    from trainer.networks import network
    from trainer.training import Plan, fit

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
    fit(network("compact"), data, np.arange(IMAGES), few, plan, say)
