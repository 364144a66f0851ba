"""Photos -> the faces in them that count, looked for as closely as is worth the time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trainer.detection import Detector, Found, merge
from trainer.faces import FaceLimits
from trainer.image import DecodedImage
from trainer.logits import logit, probability
from trainer.sight import Sight
from trainer.spotting import Spots, Spotter
from trainer.stored import StoredNetwork
from trainer.views import Letterboxed, letterboxed

VIEWS = (128, 256, 512)
"""Pixels of the longer sides in which a photo is looked at, one after the other.

A face has to have 20 to 24 pixels in a view to be found there. Each costs four times as much as
the one before, so it is used only where that leaves something to be found. Measured on 238 web
photos: the second is used for 0.63 of them, the third for 0.03.
"""

LARGE, ALONE = 0.3, 0.15
"""In sides of the photo, the longer: who has found such a face, or such a one and no other, need
not look for smaller ones."""
SMALL = 0.12
"""The same: faces that may have more like them, too small to be seen."""
HINTS, GROUP = 4, 8
"""SMALL faces that are worth a third look, where no face is sure and where one is."""
TINY = 6.5
"""Pixels in the second view of a face that is never found there."""
CROWD = 20
"""Faces that make one: to guess from the second view; SMALL ones and likely spots in the third."""
LIKELY, POSSIBLE = 0.0, -1.5
"""Logits of spots that are counted, and of those that are worth a close look in a crowd."""
SAMPLE, MOST_SPOTS = 6, 48
"""Spots that get it first, of which half have to show a sure face, and that get it at most."""
SUPPORT = 0.8
"""Most that the logit of a spot adds to that of a face around it: 0.4 may become 0.6."""
LARGER = 1024
"""Least pixels of the longer side of the photo of a crowd, from which its faces are cut."""
AROUND, CLOSE = 1 / 16, 96
"""Sides of what is looked at around a spot: in the longer one of the photo, and in pixels."""

FULL, MARGIN = 0.4, 0.2
"""In sides of the photo, the longer: a face that may fill it, so that a detector is not sure of it
for want of what is around a face, and how much black around the photo makes up for that.

Measured: of 1,549 portraits, cut tightly, the detector is not sure of 100, and of 2 with this.
"""

SUSPECTED = 0.5
"""The detector's score, in that from which a face counts, from which it may: as a hint at more, or
because it is all that the photo shows, with nothing around it by which it might be told.

Measured: at a score of 0.6 it finds a face in 75 % of crops of FER2013 and 93 % of the portraits,
with this in 94 % and all.
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
        """Without a `spotter`, tiny faces in crowds are not looked for."""
        self._detector, self._limits, self._spotter = detector, limits, spotter
        self._least = SUSPECTED * limits.score

    def warm(self) -> None:
        """Make the first call as fast as the later ones."""
        for side in VIEWS[:2]:
            self._detector.warm(side)
        if self._spotter:
            self._spotter.warm(VIEWS[1])

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
        first, second, third = VIEWS
        self._look(sights, first, lambda sight: True)
        self._look_with_margin(sights, first)
        views = self._look(sights, second, self._may_have_more)
        self._look(sights, third, self._hinting_at_more)
        for i, spots in self._crowds(sights, views).items():
            larger = sights[i].enlarged(images[i], LARGER)
            likeliest = spots[:MOST_SPOTS].scaled(sights[i].scale / larger.scale)
            sights[i] = self._with_tiny(larger, likeliest)
        return [self._counting(sight) for sight in sights]

    def _look(
        self, sights: list[Sight], side: int, worth_it: Callable[[Sight], bool]
    ) -> Mapping[int, Letterboxed]:
        """Look for faces where it is worth it, never in what is small: the views, by their row."""
        rows = [i for i, sight in enumerate(sights) if not sight.is_small and worth_it(sight)]
        views = {i: letterboxed(sights[i].photo, side) for i in rows}
        found = self._detector.look(list(views.values()), self._least)
        for i, faces in zip(rows, found, strict=True):
            sights[i] = replace(sights[i], faces=merge([sights[i].faces, faces]))
        return views

    def _look_with_margin(self, sights: list[Sight], side: int) -> None:
        """Look again where a face may fill the photo."""
        rows = [i for i, sight in enumerate(sights) if self._may_be_full(sight)]
        parts = [_with_margin(sights[i].photo) for i in rows]
        found = self._detector.find([photo for photo, _ in parts], side, self._least)
        for i, faces, (_, corner) in zip(rows, found, parts, strict=True):
            sights[i] = replace(sights[i], faces=merge([sights[i].faces, faces.moved(corner)]))

    def _crowds(
        self, sights: Sequence[Sight], views: Mapping[int, Letterboxed]
    ) -> Mapping[int, Spots]:
        """Which of them show crowds, and where in those there may be faces that are not known yet.

        `views`: the second ones, by their row, so far as there are some.
        """
        if not self._spotter:
            return {}
        _, second, third = VIEWS
        rows = [i for i, sight in enumerate(sights) if self._may_have_tiny(sight)]
        seconds = [views.get(i) or letterboxed(sights[i].photo, second) for i in rows]
        counts = self._spotter.count(seconds)
        rows = [i for i, count in zip(rows, counts, strict=True) if count >= CROWD]
        thirds = [letterboxed(sights[i].photo, third) for i in rows]
        found = self._spotter.find(thirds, POSSIBLE)
        crowds: dict[int, Spots] = {}
        for i, spots in zip(rows, found, strict=True):
            known = sights[i].faces.boxes[self._sure(sights[i]) & (sights[i].sides < SMALL)]
            new = spots[~_inside(spots.places, known).any(axis=1)]
            if len(known) + np.sum(new.logits >= LIKELY) >= CROWD:
                crowds[i] = new
        return crowds

    def _with_tiny(self, sight: Sight, spots: Spots) -> Sight:
        """With the faces around some spots, if there are many around the first of them."""
        sample, rest = spots[:SAMPLE], spots[SAMPLE:]
        faces = self._around(sight.photo, sample)
        sure = sum((some.scores >= self._limits.score).any() for some in faces)
        if len(rest) and sure < SAMPLE / 2:
            return sight
        faces += self._around(sight.photo, rest)
        told = [_told_twice(some, spots[[i]]) for i, some in enumerate(faces)]
        surer = [some[some.scores >= self._limits.score] for some in told]
        return replace(sight, faces=merge([sight.faces, *surer]))

    def _around(self, photo: NDArray[np.uint8], spots: Spots) -> list[Found]:
        """The faces that there may be in a view of the surroundings of each spot."""
        parts = _surroundings(photo, spots.places)
        found = self._detector.find([part for part, _ in parts], CLOSE, self._least)
        return [some.moved(corner) for some, (_, corner) in zip(found, parts, strict=True)]

    def _may_be_full(self, sight: Sight) -> bool:
        return bool((sight.sides >= FULL).any() and not self._sure(sight).any())

    def _may_have_more(self, sight: Sight) -> bool:
        enough = ALONE if len(sight.faces) == 1 else LARGE
        return not (self._sure(sight) & (sight.sides >= enough)).any()

    def _may_have_tiny(self, sight: Sight) -> bool:
        smallest = self._limits.smallest / sight.scale / sight.side
        return bool(smallest * VIEWS[1] < TINY)

    def _hinting_at_more(self, sight: Sight) -> bool:
        enough = GROUP if self._sure(sight).any() else HINTS
        return bool((sight.sides < SMALL).sum() >= enough)

    def _sure(self, sight: Sight) -> NDArray[np.bool_]:
        return np.asarray(sight.faces.scores >= self._limits.score)

    def _counting(self, sight: Sight) -> Sight:
        counts = self._sure(sight)
        if not counts.any():
            counts = np.array([alone.is_crop for alone in _one_by_one(sight)], bool)
        counts &= sight.faces.sides * sight.scale >= self._limits.smallest
        faces = sight.faces[counts]
        order = np.argsort(-faces.sides, kind="stable")
        return replace(sight, faces=faces[order[: self._limits.most]])


def _one_by_one(sight: Sight) -> list[Sight]:
    """The same photo with each of its faces alone."""
    return [replace(sight, faces=sight.faces[[i]]) for i in range(len(sight.faces))]


def _with_margin(photo: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """A photo in the middle of a black one, and where in the photo the corner of that is."""
    margin = round(MARGIN * max(photo.shape[:2]))
    return np.pad(photo, ((margin, margin), (margin, margin), (0, 0))), (-margin, -margin)


def _surroundings(
    photo: NDArray[np.uint8], places: NDArray[np.float32]
) -> list[tuple[NDArray[np.uint8], tuple[int, int]]]:
    """A square part of the photo around each place, and x and y of its corner."""
    height, width = photo.shape[:2]
    side = max(1, min(round(AROUND * max(height, width)), height, width))
    last = np.array([width - side, height - side])
    corners = np.clip(np.round(places - side / 2).astype(int), 0, last).tolist()
    return [(photo[y : y + side, x : x + side], (x, y)) for x, y in corners]


def _told_twice(faces: Found, spot: Spots) -> Found:
    """With the scores that both networks give to those at the spot: the logits are added."""
    [at_spot] = _inside(spot.places, faces.boxes)
    logits = logit(faces.scores) + at_spot * np.clip(spot.logits, 0, SUPPORT)
    return replace(faces, scores=probability(logits))


def _inside(places: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of n places (n, 2) is in which of m boxes (m, 4): (n, m)."""
    after, before = places[:, None] >= boxes[:, :2], places[:, None] <= boxes[:, 2:]
    return np.asarray((after & before).all(axis=2))
