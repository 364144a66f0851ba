"""The same network in float32, and with most of it in half as many bits: whichever serves."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.graph import WORTH, Graph, Replicas
from trainer.runner import Runner

PROBES = 64
"""Images of noise on which both have to agree."""

AGREEMENT = 0.01
"""The most by which an output may differ, as a share of its size if that is more than 1."""


class Faster(Runner):
    """The `lower` precision once it is found to be faster and to agree, and `exact` otherwise."""

    def __init__(self, exact: Graph | Replicas, lower: Graph | Replicas) -> None:
        self._exact, self._lower = exact, lower
        self._used = exact
        self.shape = exact.shape

    @property
    def most(self) -> int:
        """Images that the one that is used computes at once at most."""
        return self._used.most

    def at(self, rows: NDArray[np.int64], pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """The outputs of the one that is used for some rows of images, at least one."""
        return self._used.at(rows, pixels)

    def warm(self, *shape: int) -> None:
        """Try both on images of this shape, and decide."""
        self._exact.warm(*shape)
        self._lower.warm(*shape)
        is_faster = self._lower.rate(*shape) > WORTH * self._exact.rate(*shape)
        self._used = self._lower if is_faster and self._agree(*shape) else self._exact

    def _agree(self, *shape: int) -> bool:
        probes = np.random.default_rng(0).integers(0, 256, (PROBES, *shape), np.uint8)
        return all(
            np.allclose(lower, exact, rtol=AGREEMENT, atol=AGREEMENT)
            for lower, exact in zip(self._lower(probes), self._exact(probes), strict=True)
        )


def lowered(model: Any, policy: str) -> Any:
    """A Keras model with the same weights whose layers compute by a dtype policy, but the last."""
    import keras

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        if "dtype" in config and layer is not model.layers[-1]:
            config["dtype"] = policy
        return type(layer).from_config(config)

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy
