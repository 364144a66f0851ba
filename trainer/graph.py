"""A Keras model as one compiled graph, on one device or a copy of it on each of several."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import starmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.runner import Runner

BATCH_SHAPES = (1, 4, 16, 64, 256, 1024)
"""Batches are divided and padded to these sizes, so that the runtime prepares few shapes."""

UNTRIED = 64
"""The largest batch of images of a shape that was not warmed."""

WORTH = 1.05
"""A larger batch shape is used where it gives so many times the images a second."""

AHEAD = 2
"""Batches that are on a device at a time: one on its way, one that is computed."""

TRIES = 3
"""How often a batch shape is timed; the fastest counts."""


_Batch = tuple[NDArray[np.uint8], int]
"""Images, and how many they are padded to."""


def compiled(model: Any, shape: Sequence[int | None]) -> Any:
    """A Keras model as a function of TensorFlow that takes uint8 images (batch, ...) of a shape."""
    import tensorflow as tf

    # Not a lambda: TensorFlow warns of many of them, taking all for one that is traced anew.
    call = partial(model, training=False)
    return tf.function(call, input_signature=[tf.TensorSpec(shape, tf.uint8)], autograph=False)


class Graph(Runner):
    """Calls a model with few batch shapes only.

    All is computed on the `device`, by TensorFlow's name of it, on which the model has to be.
    """

    def __init__(self, model: Any, device: str | None = None) -> None:
        import tensorflow as tf

        self.shape: tuple[int | None, ...] = tuple(model.input_shape[1:])
        self._outputs = len(model.outputs)
        self._rates: dict[tuple[int, ...], dict[int, float]] = {}
        self._device = partial(tf.device, device)
        self._too_much: type[Exception] = tf.errors.ResourceExhaustedError
        self._call: Callable[[Any], Any] = compiled(model, (None, *self.shape))

    @property
    def most(self) -> int:
        """Images that it takes at once at most, as fast as it can: what `warm` found."""
        return max(map(self._largest, self._rates), default=UNTRIED)

    def rate(self, *shape: int) -> float:
        """Images of this shape a second, as `warm` found; 0 where there is no memory for one."""
        return max(self._rates[shape].values(), default=0.0)

    def at(self, rows: NDArray[np.int64], pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Its outputs for some rows of images that need not fit into memory, at least one."""
        sizes = _sizes(len(rows), self._largest(pixels.shape[1:]))
        parts = np.split(rows, np.cumsum(sizes)[:-1])
        batches = ((pixels[part], size) for part, size in zip(parts, sizes, strict=True))
        return _joined(list(self._computed(batches)))

    def warm(self, *shape: int) -> None:
        """Run each batch shape on images of this shape, so that none pays for it later.

        That tells how fast each is; those for which the memory of the device is too small are left
        out.
        """
        rates: dict[int, float] = {}
        with contextlib.suppress(self._too_much):
            for size in BATCH_SHAPES:
                rates[size] = self._rate(np.zeros((size, *shape), np.uint8))
        self._rates[shape] = rates

    def _largest(self, shape: tuple[int, ...]) -> int:
        """The batch shape that is used at most: the smallest that is about as fast as any."""
        if shape not in self._rates:
            return UNTRIED
        enough = self.rate(*shape) / WORTH
        by_size = self._rates[shape].items()
        return next((size for size, rate in by_size if rate >= enough), BATCH_SHAPES[0])

    def _rate(self, pixels: NDArray[np.uint8]) -> float:
        """Images a second of a batch, not counting the first times, when all is prepared."""
        batch = pixels, len(pixels)
        list(self._computed([batch] * AHEAD))
        seconds = []
        for _ in range(TRIES):
            begin = time.perf_counter()
            list(self._computed([batch]))
            seconds.append(time.perf_counter() - begin)
        return len(pixels) / min(seconds)

    def _computed(self, batches: Iterable[_Batch]) -> Iterator[list[NDArray[np.float32]]]:
        """The outputs of batches; each goes to the device while that computes the one before."""
        begun: deque[tuple[Any, int]] = deque()
        for images, size in batches:
            begun.append((self._begin(images, size), len(images)))
            if len(begun) == AHEAD:
                yield _arrays(*begun.popleft())
        yield from starmap(_arrays, begun)

    def _begin(self, images: NDArray[np.uint8], size: int) -> Any:
        """A list of tensors, which on a GPU are not computed yet."""
        batch = np.zeros((size, *images.shape[1:]), np.uint8)
        batch[: len(images)] = images
        with self._device():
            outputs = self._call(batch)
        return outputs if self._outputs > 1 else [outputs]


class Replicas(Runner):
    """The same network on several devices, each of which computes a share at the same time."""

    def __init__(self, graphs: Sequence[Graph]) -> None:
        self._graphs = graphs
        self.shape = graphs[0].shape

    @property
    def most(self) -> int:
        """Images that all together take at once at most, as fast as they can."""
        return sum(graph.most for graph in self._graphs)

    def rate(self, *shape: int) -> float:
        """As of a Graph, of all together."""
        return sum(graph.rate(*shape) for graph in self._graphs)

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


def _arrays(outputs: Sequence[Any], images: int) -> list[NDArray[np.float32]]:
    """Waits for them; those of the padding are left out."""
    return [np.asarray(output, dtype=np.float32)[:images] for output in outputs]


def _sizes(images: int, largest: int) -> list[int]:
    """The shapes of the batches that so many images make."""
    sizes = []
    while images > 0:
        sizes.append(_next_shape(images, largest))
        images -= sizes[-1]
    return sizes


def _next_shape(left: int, largest: int) -> int:
    """The smallest that takes all that is left, unless more than a quarter of it were padding."""
    sizes = [size for size in BATCH_SHAPES if size <= largest]
    fitting = next((size for size in sizes if size >= left), largest)
    if 4 * left >= 3 * fitting or fitting == sizes[0]:
        return fitting
    return max((size for size in sizes if size <= left), default=fitting)
