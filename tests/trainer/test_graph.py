from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.trainer.answering import answering
from tests.trainer.replicated import MARK
from trainer import backend
from trainer.graph import BATCH_SHAPES, Graph

backend.start()

import keras  # noqa: E402
from keras import layers, ops  # noqa: E402


class Company(layers.Layer):
    """How many images are in the batch of each: (n, 1)."""

    def call(self, images: Any) -> Any:
        return ops.cast(ops.shape(images)[0], "float32") + 0 * images[:, 0, 0, :1]

    def compute_output_spec(self, images: Any) -> Any:
        return keras.KerasTensor((None, 1), "float32")


class Device:
    """As if a device were fastest with batches of 16, and had memory for so many images.

    `now`: a clock that goes on only while it computes.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.now = 0.0

    def compute(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """How many images are in the batch, of each."""
        if len(images) > self.room:
            raise MemoryError  # To TensorFlow the same as too little memory of its own.
        self.now += 0.005 if len(images) <= 16 else 0.01 * len(images) / 16
        return np.full((len(images), 1), len(images), np.float32)


@pytest.fixture(scope="module")
def graph() -> Graph:
    """Gives the first value of each image, and the size of the batch that it was in."""
    image = keras.Input((2, 2, 1), dtype="uint8")
    values = layers.Rescaling(1.0)(image)
    first = layers.Flatten()(layers.MaxPooling2D(2)(values))
    return Graph(keras.Model(image, [first, Company()(values)]))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 12, 16, 17, 40, 48, 64, 65, 100, 150])
def test_batches_have_few_shapes_with_little_padding(graph: Graph, count: int) -> None:
    pixels = np.repeat(np.arange(count, dtype=np.uint8), 4).reshape(count, 2, 2, 1)
    values, sizes = graph(pixels)
    assert values[:, 0].tolist() == list(range(count))
    used = {int(size): int((sizes == size).sum()) for size in np.unique(sizes)}
    assert set(used) <= set(BATCH_SHAPES)
    computed = sum(size * -(-rows // size) for size, rows in used.items())
    assert count <= computed <= count * 4 / 3


def test_the_wanted_rows_alone_are_looked_at(graph: Graph) -> None:
    pixels = np.repeat(np.arange(90, dtype=np.uint8), 4).reshape(90, 2, 2, 1)
    rows = np.array([7, 3, 80, 3])
    values, sizes = graph.at(rows, pixels)
    assert values[:, 0].tolist() == rows.tolist()
    assert sizes[:, 0].tolist() == [4.0] * 4


@pytest.mark.parametrize(("room", "most"), [(64, 16), (4, 4), (0, 1)])
def test_a_batch_is_as_large_as_pays_and_fits(
    room: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(room)
    graph = Graph(answering(device.compute))
    monkeypatch.setattr("trainer.graph.time.perf_counter", lambda: device.now)
    graph.warm(2, 2, 1)
    assert graph.most == most
    if room:
        [sizes] = graph(np.zeros((40, 2, 2, 1), np.uint8))
        assert sizes.max() == most


def test_each_device_computes_a_share(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.trainer.replicated", tmp_path / "said.json"],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "0"},  # It tells what is placed where.
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads((tmp_path / "said.json").read_text())
    for answers in (said["both"], said["warmed"], *said["one"]):
        np.testing.assert_allclose(answers, said["lite"], atol=1e-3)
        np.testing.assert_allclose(answers, said["both"], atol=1e-6)
    np.testing.assert_allclose(said["half"], said["both"], atol=1e-2)
    np.testing.assert_allclose(said["single"], said["both"][:1], atol=1e-6)
    assert said["most"] in said["shapes"]
    _, placed, _ = done.stderr.split(MARK)
    for device in ("CPU:0", "CPU:1"):
        assert re.search(rf"\(Conv2D\).*device:{device}", placed)
