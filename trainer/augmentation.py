"""Vary training images, so that a network learns what a face means, not how it was cropped."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

Tensor = Any
"""A TensorFlow tensor; TensorFlow ships no types."""

ROTATION = 0.26
"""Largest turn in radians, about 15 degrees."""
LOG_ZOOM = 0.22
"""Largest change of size, as a natural logarithm: 0.80x to 1.25x."""
LOG_ASPECT = 0.12
SHIFT = 0.08
"""Largest shift, as a share of the side."""
BLUR = 0.035
"""Largest standard deviation of a Gaussian blur, as a share of the side: at 48 pixels, as soft as a
face of 14 that was enlarged."""
CONTRAST = 0.4
BRIGHTNESS = 45.0
"""In steps of 0 to 255."""
ERASED = 0.35
"""Largest side of the erased rectangle, as a share of the image's side."""
MIXUP_ALPHA = 0.3


Augmentation = Callable[..., tuple[Any, ...]]
"""Varies a batch of images, labels and weights by a `seed`, as `augment` does."""


_traced = tf.function(autograph=False)
"""Once, not in each epoch; and nothing branches by tensors, for which AutoGraph would be needed."""


@_traced  # type: ignore[untyped-decorator]
def mirror(images: Tensor, labels: Tensor, weights: Tensor, *, seed: Tensor) -> tuple[Any, ...]:
    """Like `augment`, but only mirror half of the images."""
    draw = _Draws(tf.shape(images)[0], seed)
    return _mirror(tf.cast(images, tf.float32), draw), labels, weights


@_traced  # type: ignore[untyped-decorator]
def augment(images: Tensor, labels: Tensor, weights: Tensor, *, seed: Tensor) -> tuple[Any, ...]:
    """Vary one batch; the same `seed` (int64 scalar) gives the same images.

    images: uint8 (n, h, w, c) -> float32 (n, h, w, c), 0 to 255. labels: float32 (n, 1) -> the
    same, mixed. weights: float32 (n, 1), mixed alike.
    """
    draw = _Draws(tf.shape(images)[0], seed)
    x = tf.cast(images, tf.float32)
    x = _mirror(x, draw)
    x = _deform(x, draw)
    x = _blur(x, draw)
    x = _relight(x, draw)
    x = _erase(x, draw)
    return _mix(x, labels, weights, draw)


class _Draws:
    """A stream of random numbers, one an image, each call another."""

    def __init__(self, count: Tensor, seed: Tensor) -> None:
        self.count, self.seed, self.calls = count, seed, 0

    def next_seed(self) -> Tensor:
        self.calls += 1
        return tf.stack([self.seed, tf.constant(self.calls, tf.int64)])

    def uniform(self, low: float, high: float) -> Tensor:
        return tf.random.stateless_uniform([self.count], self.next_seed(), low, high)

    def beta(self, alpha: float) -> Tensor:
        one = tf.random.stateless_gamma([self.count], self.next_seed(), alpha)
        other = tf.random.stateless_gamma([self.count], self.next_seed(), alpha)
        return one / (one + other + 1e-12)


def _each(values: Tensor) -> Tensor:
    """One value an image, shaped to multiply whole images."""
    return tf.reshape(values, [-1, 1, 1, 1])


def _mirror(x: Tensor, draw: _Draws) -> Tensor:
    return tf.where(_each(draw.uniform(0, 1)) < 0.5, x, tf.reverse(x, [2]))


def _deform(x: Tensor, draw: _Draws) -> Tensor:
    """Turn, zoom, stretch and shift about the centre in one resampling."""
    height, width = float(x.shape[1]), float(x.shape[2])
    angle = draw.uniform(-ROTATION, ROTATION)
    zoom = draw.uniform(-LOG_ZOOM, LOG_ZOOM)
    aspect = draw.uniform(-LOG_ASPECT, LOG_ASPECT)
    across, down = tf.exp(zoom + aspect / 2), tf.exp(zoom - aspect / 2)
    cos, sin = tf.cos(angle), tf.sin(angle)
    a, b, d, e = cos * across, -sin * down, sin * across, cos * down
    middle_x = (width - 1) / 2
    middle_y = (height - 1) / 2
    c = middle_x - a * middle_x - b * middle_y + draw.uniform(-SHIFT, SHIFT) * width
    f = middle_y - d * middle_x - e * middle_y + draw.uniform(-SHIFT, SHIFT) * height
    zero = tf.zeros_like(a)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=x,
        transforms=tf.stack([a, b, c, d, e, f, zero, zero], axis=1),
        output_shape=x.shape[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )


def _blur(x: Tensor, draw: _Draws) -> Tensor:
    """Half of the images, each by its own measure, along the rows and then along the columns."""
    largest = BLUR * float(x.shape[1])
    softened = draw.uniform(0, 1) < 0.5
    deviation = tf.where(softened, draw.uniform(0.1, 1) * largest, 0.01)
    reach = math.ceil(2 * largest)
    away = tf.range(-reach, reach + 1, dtype=tf.float32)[:, None]
    shares = tf.nn.softmax(-0.5 * (away / deviation) ** 2, axis=0)
    # Each image is a channel, since channels have filters of their own.
    x = tf.transpose(x, [3, 1, 2, 0])
    for along in (shares[:, None, :, None], shares[None, :, :, None]):
        pads = [[0, 0], *([reach * (n > 1)] * 2 for n in along.shape[:2]), [0, 0]]
        x = tf.nn.depthwise_conv2d(tf.pad(x, pads, "SYMMETRIC"), along, [1, 1, 1, 1], "VALID")
    return tf.transpose(x, [3, 1, 2, 0])


def _relight(x: Tensor, draw: _Draws) -> Tensor:
    contrast = 1 + _each(draw.uniform(-CONTRAST, CONTRAST))
    mean = tf.reduce_mean(x, axis=[1, 2, 3], keepdims=True)
    shift = _each(draw.uniform(-BRIGHTNESS, BRIGHTNESS))
    return tf.clip_by_value((x - mean) * contrast + mean + shift, 0, 255)


def _erase(x: Tensor, draw: _Draws) -> Tensor:
    """Random erasing (Zhong et al. 2017) of one gray rectangle in half of the images."""
    rows = _inside(draw, int(x.shape[1]))[:, :, None, None]
    columns = _inside(draw, int(x.shape[2]))[:, None, :, None]
    chosen = _each(draw.uniform(0, 1)) < 0.5
    return tf.where(rows & columns & chosen, _each(draw.uniform(0, 255)), x)


def _inside(draw: _Draws, size: int) -> Tensor:
    """Bool (n, size): the stretch of one side that is erased."""
    length = draw.uniform(0.1, ERASED)
    start = draw.uniform(0, 1) * (1 - length)
    at = (tf.range(size, dtype=tf.float32) / size)[None]
    return (at >= start[:, None]) & (at < (start + length)[:, None])


def _mix(x: Tensor, labels: Tensor, weights: Tensor, draw: _Draws) -> tuple[Any, ...]:
    """Mixup (Zhang et al. 2018) of each image with its neighbour in the batch."""
    share = draw.beta(MIXUP_ALPHA)
    share = tf.maximum(share, 1 - share)
    flat = share[:, None]

    def blend(values: Tensor, mine: Tensor) -> Tensor:
        return values * mine + tf.roll(values, 1, axis=0) * (1 - mine)

    return blend(x, _each(share)), blend(labels, flat), blend(weights, flat)
