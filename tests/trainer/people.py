"""Photos of drawn faces, and whether those were found."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image

from tests.faces import MOODS, draw_face
from trainer.detection import Found

Place = tuple[int, int, int]
"""Where a drawn face lies: x and y of its upper left corner, and its side."""


def drawn(seed: int, side: int) -> Image.Image:
    return draw_face(random.Random(seed), MOODS[seed % 2], (side, side))


def people(size: tuple[int, int], *places: Place) -> Image.Image:
    """Drawn faces on gray."""
    image = Image.new("RGB", size, (150, 160, 170))
    for seed, (x, y, side) in enumerate(places, start=1):
        image.paste(drawn(seed, side), (x, y))
    return image


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)


def faces_of(*rows: tuple[float, float, float, float]) -> Found:
    """Squares by their left, top and side, with their scores; the eyes in their usual places."""
    corners, sides, scores = np.split(np.array(rows, np.float32).reshape(-1, 4), [2, 3], axis=1)
    eyes = corners[:, None] + sides[:, None] * np.array([[0.35, 0.4], [0.65, 0.4]], np.float32)
    return Found(np.concatenate([corners, corners + sides], axis=1), eyes, scores[:, 0])


def assert_found(found: Found, *places: Place) -> None:
    """Each once, none elsewhere; `tests.faces` says where in a drawn face what lies."""
    assert len(found) == len(places)
    for x, y, side in places:
        boxes = (found.boxes - [x, y, x, y]) / side
        eyes = (found.eyes - [x, y]) / side
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        [at] = np.flatnonzero((np.abs(middles - [0.5, 0.58]) < 0.15).all(axis=1))
        width, height = boxes[at, 2:] - boxes[at, :2]
        assert 0.45 < width < 0.95
        assert height == pytest.approx(width, abs=0.02)
        assert eyes[at] == pytest.approx(np.array([[0.35, 0.45], [0.65, 0.45]]), abs=0.15)
