"""A network as it lies in a model bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from trainer import backend
from trainer.errors import BundleError
from trainer.graph import Graph, Replicas
from trainer.lite import Lite, convert
from trainer.precision import Faster, lowered
from trainer.runner import Runner


def file_names(keras: str) -> tuple[str, str]:
    """The two files of a network: as Keras saves it, and as LiteRT runs it without a GPU."""
    return keras, str(Path(keras).with_suffix(".tflite"))


@dataclass(frozen=True)
class StoredNetwork:
    """A network as Keras saves it, and as LiteRT runs it."""

    keras: bytes
    lite: bytes

    @classmethod
    def of(
        cls, model: Any, shape: tuple[int, int, int] | None = None, *, int8: bool = False
    ) -> StoredNetwork:
        """A Keras model; `shape` of an image where the model leaves that open. See `convert`."""
        with tempfile.TemporaryDirectory(prefix="moodsort-") as folder:
            path = Path(folder) / "network.keras"
            model.save(path)
            lite = convert(model, shape or tuple(model.input_shape[1:]), int8=int8)
            return cls(path.read_bytes(), lite)

    def __reduce__(self) -> tuple[type[StoredNetwork], tuple[bytes, bytes]]:
        """Another process makes of it what it needs itself."""
        return StoredNetwork, (self.keras, self.lite)

    def files(self, keras: str) -> Mapping[str, bytes]:
        """Its files by name, of which `keras` is the one that Keras saves."""
        return dict(zip(file_names(keras), (self.keras, self.lite), strict=True))

    @cached_property
    def runner(self) -> Runner:
        """What computes it fastest here: TensorFlow on a GPU, LiteRT without one.

        Raises:
            BundleError: it cannot be loaded.
        """
        if backend.has_gpu():
            return self.on(backend.gpus())
        try:
            return Lite(self.lite)
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"LiteRT cannot load a network: {error}") from error

    @cached_property
    def judge(self) -> Runner:
        """As `runner`; on a GPU in half the precision if that is faster there and agrees.

        Raises:
            BundleError: it cannot be loaded.
        """
        policy = backend.half_precision() if backend.has_gpu() else None
        return self.in_half(backend.gpus(), policy) if policy else self.runner

    def in_half(self, devices: Sequence[str], policy: str) -> Faster:
        """As `on`; by a dtype policy of Keras if that is faster and agrees, as is found by `warm`.

        Raises:
            BundleError: Keras cannot load it.
        """
        return Faster(self.on(devices), self._on(devices, lambda: lowered(self._loaded(), policy)))

    def on(self, devices: Sequence[str]) -> Graph | Replicas:
        """What computes it on each of the devices, by TensorFlow's names of them, at least one.

        Raises:
            BundleError: Keras cannot load it.
        """
        return self._on(devices, self._loaded)

    def _on(self, devices: Sequence[str], load: Callable[[], Any]) -> Graph | Replicas:
        import tensorflow as tf

        graphs = []
        for device in devices:
            with tf.device(device):
                graphs.append(Graph(load(), device))
        return graphs[0] if len(graphs) == 1 else Replicas(graphs)

    @cached_property
    def model(self) -> Any:
        """The Keras model, uncompiled.

        Raises:
            BundleError: Keras cannot load it.
        """
        return self._loaded()

    def _loaded(self) -> Any:
        backend.start()
        import keras

        with tempfile.TemporaryDirectory(prefix="moodsort-") as folder:
            path = Path(folder) / "network.keras"
            path.write_bytes(self.keras)
            try:
                return keras.saving.load_model(path, compile=False, safe_mode=True)
            except Exception as error:  # Keras raises whatever its layers raise.
                raise BundleError(f"Keras cannot load a network: {error}") from error
