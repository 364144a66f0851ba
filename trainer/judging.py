"""Photos -> what a network says of their faces, and of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.faces import Box, JudgedFace
from trainer.finding import FaceFinder
from trainer.fusion import of_faces
from trainer.image import DecodedImage, InputSpec
from trainer.logits import logit, probability
from trainer.sight import Sight
from trainer.stored import StoredNetwork


class Predictor:
    """A network from images to the probability of sad."""

    def __init__(self, network: StoredNetwork, temperature: float = 1.0) -> None:
        self.network, self.temperature = network, temperature
        self._runner = network.judge
        height, width, channels = self._runner.shape
        assert height  # Only a detector leaves the shape open.
        assert width
        assert channels
        self.spec = InputSpec(height, width, channels)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the network says, float32 (n,), of uint8 images (n, height, width, channels)."""
        return self.at(np.arange(len(pixels)), pixels)

    def at(self, rows: NDArray[np.int64], pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The same of some rows of images that need not fit into memory, float32 (len(rows),)."""
        return self._runner.at(rows, pixels)[0][:, 0] if len(rows) else np.empty(0, np.float32)

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The logits of the same, float64 (n,)."""
        return logit(self(pixels))

    @property
    def most(self) -> int:
        """Images that it computes at once at most."""
        return self._runner.most

    def warm(self) -> None:
        """Make the first call as fast as the later ones."""
        self._runner.warm(*self.spec.shape)


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
        if not images or not self.finder.enabled:
            return [None] * len(images)
        sights = self.finder.find(images)
        pixels = [sight.crops(self.predict.spec) for sight in sights]
        logits = self.predict.logits(np.concatenate(pixels))
        ends = np.cumsum([len(some) for some in pixels])
        return [
            self._judged(sight, of_these) if len(of_these) else None
            for sight, of_these in zip(sights, np.split(logits, ends[:-1]), strict=True)
        ]

    def _judged(self, sight: Sight, logits: NDArray[np.float64]) -> Judged:
        faces = sight.faces
        if not len(faces):
            return Judged((), float(logits[0]), sight.rest)
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


def _box(corners: NDArray[np.float32]) -> Box:
    left, top, right, bottom = (round(float(c)) for c in corners)
    return Box(left, top, right - left, bottom - top)
