"""Photos, fitted into rectangles of few shapes, which networks look at in batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

STEP = 16
"""Of the sides of a view, in pixels."""

PROPORTIONS = (9 / 16, 2 / 3, 3 / 4, 1)
"""Shorter side of a view by the longer: those of most photos, so that little is empty."""


OVERLAP = 0.12
"""How far a quarter of a photo reaches over its middle, in sides of the photo: what is cut by the
edge of one is to be seen whole in another.
"""

QUARTERS = np.array(list(np.ndindex(2, 2)))
"""Whether each lies in the second half of a photo, 0 or 1, across and down: (4, 2)."""


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
    return _boxed(*_scaled(photo, side), side)


def quarters(photo: Image.Image, side: int) -> list[Letterboxed]:
    """The QUARTERS of a photo in colour, with what surrounds them, as `letterboxed` makes a view.

    Places in them become those of the whole photo as in a view of that.
    """
    share = 0.5 + OVERLAP
    small, scale = _scaled(photo, math.ceil(side / share))
    part = np.maximum(1, (share * np.array(small.size)).astype(int))
    corners = QUARTERS * (small.size - part)
    views = [_boxed(small.crop((*at, *(at + part))), scale, side) for at in corners]
    return [
        replace(view, corner=view.corner - at.astype(np.float32))
        for view, at in zip(views, corners, strict=True)
    ]


def _scaled(photo: Image.Image, side: int) -> tuple[Image.Image, float]:
    """A photo whose longer side is `side`, and by how much it is scaled."""
    scale = side / max(photo.size)
    width, height = (max(1, round(length * scale)) for length in photo.size)
    small = photo.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=1.0)
    return small, scale


def _boxed(small: Image.Image, scale: float, side: int) -> Letterboxed:
    """What was scaled and fits, in the middle of a view whose longer side is `side`."""
    width, height = small.size
    shape = next(s for s in shapes(side) if s[0] >= height and s[1] >= width)
    left, top = (shape[1] - width) // 2, (shape[0] - height) // 2
    pixels = np.zeros((*shape, 3), np.uint8)
    pixels[top : top + height, left : left + width] = np.asarray(small)
    return Letterboxed(pixels, np.array([left, top], np.float32), scale)


def alike(views: Sequence[Letterboxed]) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
    """The views by their shape: which have it, and their pixels in one array."""
    rows: dict[tuple[int, ...], list[int]] = {}
    for i, view in enumerate(views):
        rows.setdefault(view.pixels.shape, []).append(i)
    for some in rows.values():
        yield some, np.stack([views[i].pixels for i in some])
