"""What computes a network, wherever that is."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray


class Runner(ABC):
    """A network of one input, uint8 (n, height, width, channels); each output is float32 (n, …).

    `shape` is that of one image, None where it may vary.
    """

    shape: tuple[int | None, ...]

    @property
    @abstractmethod
    def most(self) -> int:
        """Images that are computed at once at most, as fast as it can."""

    @abstractmethod
    def at(self, rows: NDArray[np.int64], pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Its outputs for some rows of images that need not fit into memory, at least one."""

    @abstractmethod
    def warm(self, *shape: int) -> None:
        """Make the first call with images of this shape as fast as the later ones."""

    def __call__(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Its outputs for images that lie in memory, at least one."""
        return self.at(np.arange(len(pixels)), pixels)
