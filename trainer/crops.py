"""Faces cut out of photos, upright and framed as a face network has learnt to see them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainer.detection import Found
from trainer.image import InputSpec

FRAME = 1.17
"""Sides of a crop, in those of the box that the detector gives.

The median of 248 crops of FER2013 in which it found the face: such is the frame of the images that
face networks are trained on. So is RAISED.
"""

RAISED = 0.07
"""How far the middle of a crop lies above that of the box, in sides of the crop."""

EYES_APART = 0.2
"""Eyes nearer to each other, in sides of the box, are those of a profile: no line to turn by."""

SAMPLES = 2
"""Most places along a pixel's side that it is the mean of."""


def crops(photo: Image.Image, faces: Found, spec: InputSpec) -> NDArray[np.uint8]:
    """Each face of the photo, uint8 (h, w, 3), with its eyes level: uint8 (n, *spec.shape).

    Where a crop reaches over the edge of the photo, the edge is continued.
    """
    cut = [np.asarray(_crop(photo, faces.boxes[i], faces.eyes[i], spec)) for i in range(len(faces))]
    return np.array(cut, np.uint8).reshape(-1, *spec.shape)


def _crop(
    photo: Image.Image, box: NDArray[np.float32], eyes: NDArray[np.float32], spec: InputSpec
) -> Image.Image:
    width = float((box[2:] - box[:2]).max())
    side = max(FRAME * width, 1.0)
    across = _level(eyes, width)
    down = np.array([-across[1], across[0]])
    middle = (box[:2] + box[2:]) / 2 - RAISED * side * down
    part, corner = _around(photo, middle, side)
    factor = max(1, int(side / (SAMPLES * spec.width)))
    middle, side = (middle - corner) / factor, side / factor
    part, corner = _continued(part.convert(spec.mode).reduce(factor), middle, side)
    samples = max(1, min(SAMPLES, round(side / spec.width)))
    size = spec.width * samples, spec.height * samples
    # From places in the crop to places in the part.
    step = np.stack([side / size[0] * across, side / size[1] * down], axis=1)
    start = middle - corner - step @ np.array(size) / 2
    matrix = tuple(np.column_stack([step, start]).ravel().tolist())
    fine = part.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return fine.reduce(samples) if samples > 1 else fine


def _level(eyes: NDArray[np.float32], width: float) -> NDArray[np.float64]:
    """The direction, x and y of length 1, from the left to the right of a face."""
    line = (eyes[1] - eyes[0]).astype(np.float64)
    length = float(np.hypot(*line))
    return line / length if length > EYES_APART * width else np.array([1.0, 0.0])


def _around(
    image: Image.Image, middle: NDArray[np.float64], side: float
) -> tuple[Image.Image, NDArray[np.float64]]:
    """The part of the image that a turned square may touch, and its corner: the rest costs time."""
    reach = _reach(side)
    left, top = np.floor(np.clip(middle - reach, 0, np.array(image.size) - 1)).astype(int)
    right, bottom = np.ceil(np.clip(middle + reach, (left + 1, top + 1), image.size)).astype(int)
    part = image.crop((int(left), int(top), int(right), int(bottom)))
    return part, np.array([left, top], np.float64)


def _continued(
    part: Image.Image, middle: NDArray[np.float64], side: float
) -> tuple[Image.Image, NDArray[np.float64]]:
    """The part with its edges continued as far as a turned square may reach, and its corner."""
    reach = _reach(side)
    before = np.maximum(0, np.ceil(reach - middle)).astype(int)
    after = np.maximum(0, np.ceil(middle + reach - part.size)).astype(int)
    if before.any() or after.any():
        pixels = np.asarray(part)
        edges = [(before[1], after[1]), (before[0], after[0]), (0, 0)][: pixels.ndim]
        part = Image.fromarray(np.pad(pixels, edges, mode="edge"))
    return part, -before.astype(np.float64)


def _reach(side: float) -> float:
    """How far from its middle a square may have places, however it is turned, and the next ones."""
    return side / float(np.sqrt(2)) + 2
