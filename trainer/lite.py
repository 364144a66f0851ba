"""A network on the processor, as LiteRT runs it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer import backend
from trainer.graph import compiled
from trainer.runner import Runner


@dataclass(frozen=True)
class _Prepared:
    """An interpreter of images of one shape, and LiteRT's details of what goes in and comes out."""

    interpreter: Any
    input: dict[str, Any]
    outputs: list[dict[str, Any]]


class _Own(threading.local):
    """The interpreters of one thread, by the shape of their images."""

    def __init__(self) -> None:
        self.interpreters: dict[tuple[int, ...], _Prepared] = {}


class Lite(Runner):
    """Calls a LiteRT network, whose outputs are not in the order of the Keras model.

    `shape` says what it was made for; one of convolutions alone takes images of other heights and
    widths, too.

    Images go through it one by one, on the thread that calls: that leaves the cache undisturbed,
    and several threads may call at the same time. Measured on one core, against TensorFlow in
    batches of 16: the detector takes 0.5 of the time, `scene` 0.5, `compact` with 8-bit weights
    0.25.
    """

    def __init__(self, content: bytes) -> None:
        """Raises ValueError if the content is no network."""
        self._content = content
        self._own = _Own()
        with backend.without_native_chatter():  # It is written but once.
            own = self._prepared(None)
        self.shape: tuple[int | None, ...] = tuple(map(int, own.input["shape"][1:]))

    @property
    def most(self) -> int:
        """Images that are computed at once at most."""
        return 1

    def __reduce__(self) -> tuple[type[Lite], tuple[bytes]]:
        """Another process makes interpreters of its own."""
        return Lite, (self._content,)

    def at(self, rows: NDArray[np.int64], pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Its outputs for some rows of images that need not fit into memory, at least one."""
        own = self._interpreter(pixels.shape[1:])
        outputs: list[list[NDArray[np.float32]]] = [[] for _ in own.outputs]
        for row in rows:
            own.interpreter.set_tensor(own.input["index"], pixels[row : row + 1])
            own.interpreter.invoke()
            for values, output in zip(outputs, own.outputs, strict=True):
                values.append(own.interpreter.get_tensor(output["index"]))
        return [np.concatenate(values) for values in outputs]

    def warm(self, *shape: int) -> None:
        """Run it once on an image of this shape, on this thread."""
        self(np.zeros((1, *shape), np.uint8))

    def _interpreter(self, shape: tuple[int, ...]) -> _Prepared:
        """This thread's interpreter of images of a shape."""
        known = self._own.interpreters
        if shape not in known:
            known[shape] = self._prepared(shape)
        return known[shape]

    def _prepared(self, shape: tuple[int, ...] | None) -> _Prepared:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=self._content, num_threads=1)
        [taken] = interpreter.get_input_details()
        if shape is not None:
            interpreter.resize_tensor_input(taken["index"], (1, *shape))
        interpreter.allocate_tensors()
        return _Prepared(interpreter, taken, interpreter.get_output_details())


def convert(model: Any, shape: tuple[int, int, int], *, int8: bool) -> bytes:
    """A Keras model of one image input, uint8, for `Lite`.

    `shape` is that of an image. Weights become float16, which does not make it slower; with `int8`
    they become 8-bit numbers, and convolutions compute in those, too, which suits wide ones.
    """
    backend.start()
    import tensorflow as tf

    # From a SavedModel that Keras exports the same network is made, in four times the time.
    call = compiled(model, (1, *shape)).get_concrete_function()
    holder = tf.Module()  # TensorFlow finds no variables in a model of Keras' itself.
    holder.held = [variable.value for variable in model.variables]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([call], holder)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if not int8:
        converter.target_spec.supported_types = [tf.float16]
    with backend.without_native_chatter():
        return bytes(converter.convert())
