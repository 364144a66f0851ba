from __future__ import annotations

from typing import Any

import numpy as np
import pytest

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
