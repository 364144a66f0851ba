"""Images that a network learns from, each time another way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trainer import backend

backend.start()

import tensorflow as tf  # noqa: E402

from trainer.augmentation import augment, mirror  # noqa: E402

IMAGES, SIDE = 256, 48
HALVES = np.repeat([[0, 255]], SIDE // 2, axis=1).repeat(SIDE, axis=0).astype(np.uint8)
"""Black on the left and white on the right."""


def varied(seed: int, channels: int = 1) -> NDArray[np.float32]:
    """Copies of HALVES, (n, h, w, c)."""
    images = np.broadcast_to(HALVES[None, :, :, None], (IMAGES, SIDE, SIDE, channels))
    ones = np.ones((IMAGES, 1), np.float32)
    pixels: Any = augment(images, ones, ones, seed=tf.constant(seed, tf.int64))[0]
    return np.asarray(pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_seed_gives_the_same_images_and_another_others(channels: int) -> None:
    once, again, other = varied(1, channels), varied(1, channels), varied(2, channels)
    np.testing.assert_array_equal(once, again)
    assert once.shape == (IMAGES, SIDE, SIDE, channels)
    assert not np.array_equal(once, other)
    assert once.min() >= 0
    assert once.max() <= 255


def test_some_images_are_as_soft_as_small_faces_that_were_enlarged() -> None:
    pixels = varied(1)[..., 0]
    steepest = np.abs(np.diff(pixels, axis=2)).max(axis=2)
    ranges = np.ptp(pixels, axis=2)
    # In the middle row of all, since a rectangle is erased in some.
    edges = np.median(steepest / np.maximum(ranges, 1), axis=1)
    assert 0.15 < np.mean(edges < 0.5) < 0.5


def test_half_of_the_images_are_mirrored() -> None:
    ones = np.ones((IMAGES, 1), np.float32)
    images = np.broadcast_to(HALVES[None, :, :, None], (IMAGES, SIDE, SIDE, 1))
    pixels = np.asarray(mirror(images, ones, ones, seed=tf.constant(1, tf.int64))[0])
    turned = pixels[:, 0, 0, 0] == 255
    assert 0.4 < turned.mean() < 0.6
    np.testing.assert_array_equal(pixels[turned], pixels[turned][:1].repeat(turned.sum(), axis=0))
