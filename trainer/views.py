"""Photos, fitted into rectangles of few shapes, which networks look at in batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

STEP = 16
"""Of the sides of a view, in pixels."""

PROPORTIONS = (9 / 16, 2 / 3, 3 / 4, 1)
"""Shorter side of a view by the longer: those of most photos, so that little is empty."""


@dataclass(frozen=True)
class Letterboxed:
    """A photo in the middle of a black rectangle, uint8 (h, w, 3).

    `corner`: x and y in it of the photo's upper left corner. `scale`: from photo to view.
    """

    pixels: NDArray[np.uint8]
    corner: NDArray[np.float32]
    scale: float


@cache
def shapes(side: int) -> tuple[tuple[int, int], ...]:
    """Heights and widths of the views of a side, the smallest first: few, to batch the alike."""
    shorts = [STEP * math.ceil(side * proportion / STEP) for proportion in PROPORTIONS]
    return tuple(shape for short in shorts for shape in ((short, side), (side, short)))


def letterboxed(photo: Image.Image, side: int) -> Letterboxed:
    """A photo, in colour, in a view whose longer side is `side`, a multiple of STEP."""
    width, height = photo.size
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = photo.resize(size, Image.Resampling.BILINEAR, reducing_gap=1.0)
    shape = next(s for s in shapes(side) if s[0] >= size[1] and s[1] >= size[0])
    left, top = (shape[1] - size[0]) // 2, (shape[0] - size[1]) // 2
    pixels = np.zeros((*shape, 3), np.uint8)
    pixels[top : top + size[1], left : left + size[0]] = np.asarray(small)
    return Letterboxed(pixels, np.array([left, top], np.float32), scale)


def alike(views: Sequence[Letterboxed]) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
    """The views by their shape: which have it, and their pixels in one array."""
    rows: dict[tuple[int, ...], list[int]] = {}
    for i, view in enumerate(views):
        rows.setdefault(view.pixels.shape, []).append(i)
    for some in rows.values():
        yield some, np.stack([views[i].pixels for i in some])
