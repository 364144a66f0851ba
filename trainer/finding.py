"""Photos -> the faces in them that count, looked for as closely as is worth the time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image, ImageOps

from trainer.crowds import GLANCE, CrowdFinder
from trainer.detection import Detector, merge
from trainer.faces import FaceLimits
from trainer.image import DecodedImage
from trainer.sight import Sight
from trainer.spotting import Spotter
from trainer.stored import StoredNetwork
from trainer.views import Letterboxed, letterboxed

VIEWS = (128, GLANCE)
"""Pixels of the longer sides in which a photo is looked at, one after the other.

A face has to have 20 to 24 pixels in a view to be found there. The second costs four times as much
as the first, so it is used only where that leaves something to be found, in 0.63 of web photos.
"""

LARGE, ALONE = 0.3, 0.15
"""In sides of the photo, the longer: a sure face beside which it is not looked at a second time,
and one beside which the first look shows no other."""

FULL, MARGIN = 0.4, 0.2
"""In sides of the photo, the longer: a face that may fill it, so that a detector is not sure of it
for want of what is around a face, and how much black around the photo makes up for that.

Measured: of 1,549 portraits, cut tightly, the detector is not sure of 100, and of 2 with this.
"""


class FaceFinder:
    """Finds the faces of photos that count."""

    photo_side = 400
    """Of the photos that it takes, as in a `View`.

    Measured in 5 folds of 238 web photos: with 320, 0.866 are right, with 400, 0.891.
    """

    def __init__(
        self, detector: Detector, limits: FaceLimits, spotter: Spotter | None = None
    ) -> None:
        """Without a `spotter`, crowds are not looked for."""
        self._detector, self._limits = detector, limits
        self._crowds = CrowdFinder(detector, spotter, limits) if spotter else None

    def warm(self) -> None:
        """Make the first call as fast as the later ones."""
        for side in VIEWS:
            self._detector.warm(side)
        if self._crowds:
            self._crowds.warm()

    @property
    def network(self) -> StoredNetwork:
        """The detector's."""
        return self._detector.network

    @property
    def enabled(self) -> bool:
        """Whether it looks for faces at all."""
        return self._limits.enabled

    def find(self, images: Sequence[DecodedImage]) -> list[Sight]:
        """What is seen of each: the faces that count, the largest first."""
        sights = [Sight.of(image) for image in images]
        if not self.enabled:
            return sights
        first, second = VIEWS
        self._look(sights, _views(sights, first, lambda sight: not sight.is_small))
        self._look(sights, _views(sights, first, self._may_be_full, _with_margin))
        views = _views(sights, second, self._may_have_more)
        self._look(sights, views)
        if self._crowds:
            for i, crowd in self._crowds.find(sights, views, images).items():
                sights[i] = crowd
        return [self._counting(sight) for sight in sights]

    def _look(self, sights: list[Sight], views: Mapping[int, Letterboxed]) -> None:
        """Look for faces in views of some photos, by their row."""
        found = self._detector.look(list(views.values()), self._limits.suspected)
        for i, faces in zip(views, found, strict=True):
            sights[i] = replace(sights[i], faces=merge([sights[i].faces, faces]))

    def _may_be_full(self, sight: Sight) -> bool:
        return bool((sight.sides >= FULL).any() and not self._has(sight, 0.0))

    def _may_have_more(self, sight: Sight) -> bool:
        return not (sight.is_small or self._has(sight, ALONE if len(sight.faces) == 1 else LARGE))

    def _has(self, sight: Sight, side: float) -> bool:
        """Whether a face of that side, in those of the photo, is sure."""
        return bool((sight.sides[sight.faces.sure(self._limits.score)] >= side).any())

    def _counting(self, sight: Sight) -> Sight:
        counts = sight.faces.sure(self._limits.score)
        if not counts.any():
            counts = np.array([alone.is_crop for alone in _one_by_one(sight)], bool)
        counts &= sight.faces.sides * sight.scale >= self._limits.smallest
        faces = sight.faces[counts]
        order = np.argsort(-faces.sides, kind="stable")
        return replace(sight, faces=faces[order[: self._limits.most]])


def _one_by_one(sight: Sight) -> list[Sight]:
    """The same photo with each of its faces alone."""
    return [replace(sight, faces=sight.faces[[i]]) for i in range(len(sight.faces))]


def _views(
    sights: Sequence[Sight],
    side: int,
    worth_it: Callable[[Sight], bool],
    view: Callable[[Image.Image, int], Letterboxed] = letterboxed,
) -> Mapping[int, Letterboxed]:
    """Of the photos that are worth a look, by their row."""
    rows = [i for i, sight in enumerate(sights) if worth_it(sight)]
    return {i: view(sights[i].photo, side) for i in rows}


def _with_margin(photo: Image.Image, side: int) -> Letterboxed:
    """A view of the photo in the middle of a black one."""
    margin = round(MARGIN * max(photo.size))
    view = letterboxed(ImageOps.expand(photo, margin), side)
    return replace(view, corner=view.corner + np.float32(margin * view.scale))
