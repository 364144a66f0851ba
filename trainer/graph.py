"""A Keras model as one compiled graph, on one device or a copy of it on each of several."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH_SHAPES = (1, 4, 16, 64, 256, 1024)
"""Batches are divided and padded to these sizes, so that the runtime prepares few shapes."""

UNTRIED = 64
"""The largest batch of images of a shape that was not warmed."""

WORTH = 1.05
"""A larger batch shape is used where it gives so many times the images a second."""

TRIES = 3
"""How often a batch shape is timed; the fastest counts."""


class Graph:
    """Calls a model of one input, uint8 (n, height, width, channels), with few batch shapes only.

    Each output is float32 (n, …). `shape` is that of one input, None where it may vary. All is
    computed on the `device`, by TensorFlow's name of it, on which the model has to be.
    """

    def __init__(self, model: Any, device: str | None = None) -> None:
        import tensorflow as tf

        self.shape: tuple[int | None, ...] = tuple(model.input_shape[1:])
        self._outputs = len(model.outputs)
        self._largest: dict[tuple[int, ...], int] = {}
        self._device = partial(tf.device, device)
        self._too_much: type[Exception] = tf.errors.ResourceExhaustedError
        # Not a lambda: TensorFlow warns of many of them, taking all for one that is traced anew.
        self._call: Callable[[Any], Any] = tf.function(
            partial(model, training=False),
            input_signature=[tf.TensorSpec((None, *self.shape), tf.uint8)],
        )

    @property
    def most(self) -> int:
        """Images that it takes at once at most, as fast as it can: what `warm` found."""
        return max(self._largest.values(), default=UNTRIED)

    def __call__(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Its outputs for images that lie in memory."""
        return self.at(np.arange(len(pixels)), pixels)

    def at(self, rows: NDArray[np.int64], pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Its outputs for some rows of images that need not fit into memory, at least one."""
        largest = self._largest.get(pixels.shape[1:], UNTRIED)
        parts, start = [], 0
        while start < len(rows):
            size = _next_shape(len(rows) - start, largest)
            parts.append(self._padded(pixels[rows[start : start + size]], size))
            start += size
        return _joined(parts)

    def warm(self, *shape: int) -> None:
        """Run each batch shape on images of this shape, so that none pays for it later.

        That tells how fast each is. The smallest that is about as fast as any will be the largest
        that is used; those for which the memory of the device is too small are left out.
        """
        rates: dict[int, float] = {}
        with contextlib.suppress(self._too_much):
            for size in BATCH_SHAPES:
                rates[size] = self._rate(np.zeros((size, *shape), np.uint8))
        enough = max(rates.values(), default=0.0) / WORTH
        self._largest[shape] = next(
            (size for size, rate in rates.items() if rate >= enough), BATCH_SHAPES[0]
        )

    def _rate(self, pixels: NDArray[np.uint8]) -> float:
        """Images a second of a batch, not counting the first time, when it is prepared."""
        self._padded(pixels, len(pixels))
        seconds = []
        for _ in range(TRIES):
            begin = time.perf_counter()
            self._padded(pixels, len(pixels))
            seconds.append(time.perf_counter() - begin)
        return len(pixels) / min(seconds)

    def _padded(self, pixels: NDArray[np.uint8], size: int) -> list[NDArray[np.float32]]:
        batch = np.zeros((size, *pixels.shape[1:]), np.uint8)
        batch[: len(pixels)] = pixels
        with self._device():
            outputs = self._call(batch)
        return [
            np.asarray(output, dtype=np.float32)[: len(pixels)]
            for output in (outputs if self._outputs > 1 else [outputs])
        ]


class Replicas:
    """The same network on several devices, each of which computes a share at the same time."""

    def __init__(self, graphs: Sequence[Graph]) -> None:
        self._graphs = graphs
        self.shape = graphs[0].shape

    @property
    def most(self) -> int:
        """Images that all together take at once at most, as fast as they can."""
        return sum(graph.most for graph in self._graphs)

    def __call__(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Its outputs for images that lie in memory, at least one."""
        return self.at(np.arange(len(pixels)), pixels)

    def at(self, rows: NDArray[np.int64], pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Its outputs for some rows of images that need not fit into memory, at least one."""
        shares = np.array_split(rows, min(len(self._graphs), len(rows)))
        with self._together() as each:
            return _joined(
                list(each(lambda graph, share: graph.at(share, pixels), self._graphs, shares))
            )

    def warm(self, *shape: int) -> None:
        """As of a Graph, each on its device."""
        with self._together() as each:
            list(each(lambda graph: graph.warm(*shape), self._graphs))

    @contextlib.contextmanager
    def _together(self) -> Iterator[Callable[..., Iterator[Any]]]:
        """`map`, with a thread for each device: TensorFlow gives way to others as it computes."""
        with ThreadPoolExecutor(len(self._graphs), thread_name_prefix="device") as threads:
            yield threads.map


def _joined(parts: Sequence[Sequence[NDArray[np.float32]]]) -> list[NDArray[np.float32]]:
    """The outputs of all images, of those of some at a time."""
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def _next_shape(left: int, largest: int) -> int:
    """The smallest that takes all that is left, unless more than a quarter of it were padding."""
    sizes = [size for size in BATCH_SHAPES if size <= largest]
    fitting = next((size for size in sizes if size >= left), largest)
    if 4 * left >= 3 * fitting or fitting == sizes[0]:
        return fitting
    return max((size for size in sizes if size <= left), default=fitting)
