"""Photos -> what a network says of their faces, and of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.faces import Box, JudgedFace
from trainer.finding import FaceFinder, Sight
from trainer.fusion import of_faces
from trainer.graph import Graph
from trainer.image import DecodedImage, InputSpec, stretched
from trainer.logits import logit, probability

if TYPE_CHECKING:
    from trainer.gradcam import Explainer

LARGEST_CROP = 96
"""Most pixels of a side of an image that is taken for the crop of a face, as it is."""


class Predictor:
    """A network from images to the probability of sad."""

    def __init__(self, model: Any, temperature: float = 1.0) -> None:
        self.temperature = temperature
        self.spec = InputSpec(*model.input_shape[1:])
        self._model, self._graph = model, Graph(model)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the network says, float32 (n,), of uint8 images (n, height, width, channels)."""
        return self.at(np.arange(len(pixels)), pixels)

    def at(self, rows: NDArray[np.int64], pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The same of some rows of images that need not fit into memory, float32 (len(rows),)."""
        return self._graph.at(rows, pixels)[0][:, 0] if len(rows) else np.empty(0, np.float32)

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The logits of the same, float64 (n,)."""
        return logit(self(pixels))

    def warm(self) -> None:
        """Make the first call as fast as the later ones."""
        self._graph.warm(*self.spec.shape)

    @cached_property
    def explainer(self) -> Explainer | None:
        """What draws Grad-CAM maps; None where the network does not allow it."""
        from trainer.gradcam import explainer

        return explainer(self._model)

    def save(self, path: Path) -> None:
        """Write the network as a Keras model."""
        self._model.save(path)


@dataclass(frozen=True)
class Judged:
    """The faces that counted in an image, and the logit of sad that they make together.

    Without any, it is an image too small to be more than the crop of a face.

    The logit is as the network gives it; `p_sad` of the faces is calibrated. `rest`: the share of
    the image that their crops leave, in [0, 1].
    """

    faces: tuple[JudgedFace, ...]
    logit: float
    rest: float


class FaceJudge:
    """Says of each face of a photo how sad it looks."""

    photo_side = FaceFinder.photo_side

    def __init__(self, finder: FaceFinder, predict: Predictor) -> None:
        self.finder, self.predict = finder, predict

    def warm(self) -> None:
        """Make the first call as fast as the later ones."""
        self.finder.warm()
        self.predict.warm()

    def judge(self, images: Sequence[DecodedImage]) -> list[Judged | None]:
        """What the faces of each image say; None where it takes more than faces to judge it."""
        if not self.finder.enabled:
            return [None] * len(images)
        sights = iter(self.finder.find([image for image in images if not _is_small(image)]))
        seen = [None if _is_small(image) else next(sights) for image in images]
        pixels = [self._shown(*both) for both in zip(images, seen, strict=True)]
        if not pixels:
            return []
        logits = self.predict.logits(np.concatenate(pixels))
        ends = np.cumsum([len(some) for some in pixels])
        return [
            self._judged(sight, of_these) if len(of_these) else None
            for sight, of_these in zip(seen, np.split(logits, ends[:-1]), strict=True)
        ]

    def _shown(self, image: DecodedImage, sight: Sight | None) -> NDArray[np.uint8]:
        """What the network is shown of an image, uint8 (n, h, w, c)."""
        if sight:
            return sight.crops(self.predict.spec)
        assert image.photo is not None  # Whoever judges faces decodes for that.
        return stretched(image.photo, self.predict.spec)[None]

    def _judged(self, sight: Sight | None, logits: NDArray[np.float64]) -> Judged:
        if not sight:
            return Judged((), float(logits[0]), 0.0)
        faces = sight.faces
        p_sad = probability(logits / self.predict.temperature)
        return Judged(
            faces=tuple(
                JudgedFace(
                    _box(faces.boxes[i] * sight.scale), float(faces.scores[i]), float(p_sad[i])
                )
                for i in range(len(faces))
            ),
            logit=of_faces(logits, faces.sides),
            rest=sight.rest,
        )


def _is_small(image: DecodedImage) -> bool:
    return max(image.width, image.height) <= LARGEST_CROP


def _box(corners: NDArray[np.float32]) -> Box:
    left, top, right, bottom = (round(float(c)) for c in corners)
    return Box(left, top, right - left, bottom - top)
