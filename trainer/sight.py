"""What is seen of a photo: the faces in it, and how much of it they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainer.crops import FRAME, crops
from trainer.detection import NONE, Found
from trainer.image import DecodedImage, InputSpec, larger_photo, stretched

COVERED, SQUARE = 0.5, 1.3
"""Share of a photo that the crop of its only face would be, from which it is one already, if its
sides differ by no more than this factor.

To turn and cut it again would cost sharpness, and there is no scene around the face to speak of.
"""

LARGEST_CROP = 96
"""Most pixels of a side of an image that is taken for the crop of a face, as it is.

In so small an image a detector may find nothing, and there is no scene to speak of.
"""


@dataclass(frozen=True)
class Sight:
    """A photo, in colour, and faces in it.

    `scale`: pixels of the whole upright image for one of the photo.
    """

    photo: Image.Image
    scale: float
    faces: Found = NONE

    @classmethod
    def of(cls, image: DecodedImage) -> Sight:
        """An image that was decoded with a photo, without any faces yet."""
        assert image.photo is not None  # Whoever looks for faces decodes for that.
        return cls(image.photo, _scale(image, image.photo))

    def enlarged(self, image: DecodedImage, side: int) -> Sight:
        """The same with a larger photo of the image, as for a View's `side`, if that can be had."""
        photo = larger_photo(image, side) if self.scale > 1 else None  # Else it is the whole image.
        if photo is None:
            return self
        scale = _scale(image, photo)
        return Sight(photo, scale, self.faces.scaled(self.scale / scale))

    @property
    def side(self) -> int:
        """Pixels of the longer side of the photo."""
        return max(self.photo.size)

    @property
    def is_small(self) -> bool:
        """Whether the image is too small to be more than the crop of a face."""
        return bool(self.side * self.scale <= LARGEST_CROP)

    @property
    def sides(self) -> NDArray[np.float32]:
        """Those of the faces, in sides of the photo, the longer; float32 (n,)."""
        return np.asarray(self.faces.sides / self.side, np.float32)

    @property
    def covered(self) -> NDArray[np.float64]:
        """The share of the photo that the crop of each face is, float64 (n,)."""
        return np.asarray((FRAME * self.faces.sides) ** 2 / math.prod(self.photo.size))

    @property
    def is_crop(self) -> bool:
        """Whether it shows nothing but one face."""
        if self.is_small:
            return True
        short, long = sorted(self.photo.size)
        return len(self.faces) == 1 and self.covered[0] > COVERED and long <= SQUARE * short

    @property
    def rest(self) -> float:
        """The share of the photo that crops of the faces leave, [0, 1]; 0 if it is one itself."""
        return 0.0 if self.is_crop else max(0.0, 1 - float(self.covered.sum()))

    def crops(self, spec: InputSpec) -> NDArray[np.uint8]:
        """The faces by themselves, uint8 (n, *spec.shape); the photo, where it is one already."""
        if self.is_crop:
            return stretched(self.photo, spec)[None]
        return crops(self.photo, self.faces, spec)


def _scale(image: DecodedImage, photo: Image.Image) -> float:
    return max(image.width, image.height) / max(photo.size)


def largest_faces(
    images: Sequence[DecodedImage], sights: Sequence[Sight], spec: InputSpec
) -> NDArray[np.uint8]:
    """The largest face of each image, or the whole image where there is none: (n, *spec.shape)."""
    largest = [replace(sight, faces=sight.faces[:1]).crops(spec) for sight in sights]
    return np.stack(
        [
            faces[0] if len(faces) else image.pixels
            for image, faces in zip(images, largest, strict=True)
        ]
    )
