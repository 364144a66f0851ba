"""A Keras model as one compiled graph."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH_SHAPES = (1, 4, 16, 64)
"""Batches are divided and padded to these sizes, so that the runtime prepares few shapes."""


class Graph:
    """Calls a model of one input, uint8 (n, height, width, channels), with few batch shapes only.

    Each output is float32 (n, …). `shape` is that of one input, None where it may vary.
    """

    def __init__(self, model: Any) -> None:
        import tensorflow as tf

        self.shape: tuple[int | None, ...] = tuple(model.input_shape[1:])
        self._outputs = len(model.outputs)
        # Not a lambda: TensorFlow warns of many of them, taking all for one that is traced anew.
        self._call: Callable[[Any], Any] = tf.function(
            partial(model, training=False),
            input_signature=[tf.TensorSpec((None, *self.shape), tf.uint8)],
        )

    def __call__(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Its outputs for images that lie in memory."""
        return self.at(np.arange(len(pixels)), pixels)

    def at(self, rows: NDArray[np.int64], pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Its outputs for some rows of images that need not fit into memory, at least one."""
        parts, start = [], 0
        while start < len(rows):
            size = _next_shape(len(rows) - start)
            parts.append(self._padded(pixels[rows[start : start + size]], size))
            start += size
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def warm(self, *shape: int) -> None:
        """Run each batch shape once on images of this shape, so that none pays for it later."""
        for size in BATCH_SHAPES:
            self._padded(np.zeros((size, *shape), np.uint8), size)

    def _padded(self, pixels: NDArray[np.uint8], size: int) -> list[NDArray[np.float32]]:
        batch = np.zeros((size, *pixels.shape[1:]), np.uint8)
        batch[: len(pixels)] = pixels
        outputs = self._call(batch)
        return [
            np.asarray(output, dtype=np.float32)[: len(pixels)]
            for output in (outputs if self._outputs > 1 else [outputs])
        ]


def _next_shape(left: int) -> int:
    """The smallest that takes all that is left, unless more than a quarter of it were padding."""
    fitting = next((size for size in BATCH_SHAPES if size >= left), BATCH_SHAPES[-1])
    if 4 * left >= 3 * fitting or fitting == BATCH_SHAPES[0]:
        return fitting
    return max((size for size in BATCH_SHAPES if size <= left), default=fitting)
