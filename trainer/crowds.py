"""Photos of many people -> their faces, which are too small to be found at a glance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainer.detection import Detector, Found, merge
from trainer.faces import FaceLimits
from trainer.image import DecodedImage
from trainer.logits import logit, probability
from trainer.sight import Sight
from trainer.spotting import Spots, Spotter
from trainer.views import Letterboxed, letterboxed

GLANCE, AFAR, CLOSER = 256, 320, 576
"""Pixels of the longer sides of the views in which spots are looked for: in all photos that may
show a crowd, in those of larger images where some are likely but too few, and in those that seem to
show a crowd and have more pixels.

Measured, as what follows, on 276 composed crowds: without the second, 3 of 120 in photos with faces
of 24 to 37 pixels are not taken for crowds, with it all are. With 512 in the end, 0.008 fewer of
the faces of 24 to 32 pixels are found, with 640 some more, but `trainer.lite` would not keep what
that takes.
"""

LARGE, CERTAIN = 0.2, 0.8
"""A face of this side, in that of the photo, the longer, and with this score of the detector is one
beside which others need not be looked for. What has a lower score may be a group of them."""

LIKELY, CROWD, GROUP = 1.0, 5, 6
"""Least logit of a spot that counts, how many of those that are no known faces may be a crowd, and
beside how many known faces one will do.

Measured: with four no more of the faces are found, with six one photo of 120 is not taken for a
crowd. Of what is found in web photos beside five known faces half is none.
"""

LARGER = 1024
"""Least pixels of the longer side of the photo of a crowd, from which its faces are cut."""

POSSIBLE = -3.0
"""Least logit of a spot in a crowd that is worth a close look."""

SAMPLE, VAIN, MOST = 4, 2, 60
"""Spots of a view that get a close look at once, the likeliest first; after how many times in a row
without a face those that are less likely get none; and spots of a view that get one at all.

Measured: after one in vain 0.017 fewer of the faces in photos are found, after three 0.001 more.
"""

AROUND, CLOSE = 1.75, 64
"""Sides of what is looked at around a spot: in that of the face expected there, and in pixels.

Measured: with 2.0 and 80, 0.004 more are found, and 0.37 in a photo that are none rather than 0.17;
a look takes 1.5 times as long.
"""

AGAIN, CLOSER_BY = 2.0, 1.4
"""Least logit of a spot where a look that shows nothing is followed by another, and AROUND in that.

Measured: 0.003 more of the faces in photos and 0.002 of those in rows are found, 0.18 in a photo
are none rather than 0.17. With 1.0 no more in photos, but 0.22 are none.
"""

NEAR = 0.75
"""How far from the middle of a face the spot may be that led to it, in sides of the face.

In a small view a spot is that inexact: with 0.5, as for a spot within the face, 2 of 120 photos are
not taken for crowds, and 0.012 fewer of the faces are found; with 1.0 no more, but some that are
none.
"""

SUPPORT = 1.5
"""Most that the logit of a spot adds to that of a face around it: 0.3 may become 0.66.

Measured: with 1.0 0.003 fewer are found, and 0.10 in a photo that are none rather than 0.17.
"""

SMALLER, SEVERAL = 2.0, 3
"""Factor by which faces are smaller than one that is not certain and may be a group of them, and
how many make one; so many have to be found where only spots speak for a crowd."""


Place = NDArray[np.float32]
"""x and y in a photo, float32 (2,)."""


class CrowdFinder:
    """Finds the faces of crowds that a detector has overlooked.

    A spotter says where they may be, at little cost; there the detector looks closely.
    """

    def __init__(self, detector: Detector, spotter: Spotter, limits: FaceLimits) -> None:
        self._detector, self._spotter, self._limits = detector, spotter, limits

    def warm(self) -> None:
        """Make the first call as fast as the later ones."""
        self._spotter.warm(GLANCE)

    def find(
        self,
        sights: Sequence[Sight],
        views: Mapping[int, Letterboxed],
        images: Sequence[DecodedImage],
    ) -> Mapping[int, Sight]:
        """The sights that show a crowd, by their row, with its faces.

        `views`: those of GLANCE pixels, so far as there are some. `images`: what each row shows.
        """
        rows = [i for i, sight in enumerate(sights) if self._may_be_crowd(sight)]
        glances = [views.get(i) or letterboxed(sights[i].photo, GLANCE) for i in rows]
        spots = self._spotter.find(glances, POSSIBLE)
        return {
            i: crowd
            for i, possible in zip(rows, spots, strict=True)
            if (crowd := self._crowd(sights[i], images[i], possible))
        }

    def _may_be_crowd(self, sight: Sight) -> bool:
        large = sight.sides[sight.faces.sure(CERTAIN)] >= LARGE
        return not (sight.is_small or large.any())

    def _unknown(self, spots: Spots, sight: Sight) -> Spots:
        """Those that are not within a face that is known; what may be a group is none."""
        known = self._sure(sight.faces)
        same_size = known.sides < SMALLER * spots.sides[:, None]
        at_face = _inside(spots.places, known.boxes) & (same_size | known.sure(CERTAIN))
        return spots[~at_face.any(axis=1)]

    def _crowd(self, sight: Sight, image: DecodedImage, possible: Spots) -> Sight | None:
        """With the faces around spots, if the likely ones and those that are known are many."""
        is_crowd = len(self._sure(sight.faces)) >= GROUP
        enough = 1 if is_crowd else CROWD
        unknown = self._unknown(possible, sight)
        if 0 < unknown.count(LIKELY) < enough and sight.scale > 1:
            unknown = self._unknown_in(sight, AFAR)
        if unknown.count(LIKELY) < enough:
            return None
        large = sight.enlarged(image, LARGER)
        large, shown = self._closely(large, unknown.scaled(sight.scale / large.scale))
        if shown and large.side > CLOSER:
            large, more = self._closely(large, self._unknown_in(large, CLOSER))
            shown += more
        if not is_crowd and shown < SEVERAL:
            return None
        return replace(large, faces=_without_groups(self._sure(large.faces)))

    def _unknown_in(self, sight: Sight, side: int) -> Spots:
        """As `_unknown`, of the possible ones in a view of this side."""
        [spots] = self._spotter.find([letterboxed(sight.photo, side)], POSSIBLE)
        return self._unknown(spots, sight)

    def _closely(self, sight: Sight, spots: Spots) -> tuple[Sight, int]:
        """With the faces around spots, as long as some show a sure one; and how many do."""
        known, shown, vain = [sight.faces], 0, 0
        spots = spots[:MOST]
        for start in range(0, len(spots), SAMPLE):
            some = spots[start : start + SAMPLE]
            faces = self._around(sight.photo, some)
            sure = sum(len(self._sure(each)) > 0 for each in faces)
            vain = 0 if sure else vain + 1
            if vain == VAIN:
                break
            shown += sure
            known += [
                self._sure(_told_twice(each, likely))
                for each, likely in zip(faces, some.logits.tolist(), strict=True)
                if len(each)
            ]
        return replace(sight, faces=merge(known)), shown

    def _sure(self, faces: Found) -> Found:
        """Those with the score of a face that counts."""
        return faces[faces.sure(self._limits.score)]

    def _around(self, photo: Image.Image, spots: Spots) -> list[Found]:
        """What may be faces at each spot; at a likely one they are looked for twice."""
        found = self._look(photo, spots, AROUND)
        again = [i for i, faces in enumerate(found) if not len(faces) and spots.logits[i] >= AGAIN]
        nearer = self._look(photo, spots[again], CLOSER_BY)
        replaced = dict(zip(again, nearer, strict=True))
        return [replaced.get(i, faces) for i, faces in enumerate(found)]

    def _look(self, photo: Image.Image, spots: Spots, around: float) -> list[Found]:
        """What may be faces at each spot, in a view of `around` times the side expected there."""
        views = [
            _surroundings(photo, place, around * side)
            for place, side in zip(spots.places, spots.sides.tolist(), strict=True)
        ]
        found = self._detector.look(views, self._limits.suspected)
        return [_at(place, faces) for place, faces in zip(spots.places, found, strict=True)]


def _surroundings(photo: Image.Image, place: Place, side: float) -> Letterboxed:
    """A view of a square part of the photo around a place."""
    whole = max(1, min(round(side), *photo.size))
    x, y = (
        max(0, min(round(float(at) - whole / 2), length - whole))
        for at, length in zip(place, photo.size, strict=True)
    )
    box, scale = (x, y, x + whole, y + whole), CLOSE / whole
    view = photo.resize((CLOSE, CLOSE), Image.Resampling.BILINEAR, box, reducing_gap=1.0)
    return Letterboxed(np.asarray(view), np.array([-x, -y], np.float32) * scale, scale)


def _at(place: Place, faces: Found) -> Found:
    """The faces around a place."""
    return faces[np.abs(place - faces.middles).max(axis=1) <= NEAR * faces.sides]


def _told_twice(faces: Found, likely: float) -> Found:
    """With the scores that both networks give: the logit of the spot is added to theirs."""
    logits = logit(faces.scores) + max(0.0, min(likely, SUPPORT))
    return replace(faces, scores=probability(logits))


def _without_groups(faces: Found) -> Found:
    """Without those in which there are several smaller ones: a group may look like a face."""
    smaller = SMALLER * faces.sides[:, None] < faces.sides
    of_several = (_inside(faces.middles, faces.boxes) & smaller).sum(axis=0) >= SEVERAL
    return faces[~of_several | faces.sure(CERTAIN)]


def _inside(places: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of n places (n, 2) is in which of m boxes (m, 4): (n, m)."""
    after, before = places[:, None] >= boxes[:, :2], places[:, None] <= boxes[:, 2:]
    return np.asarray((after & before).all(axis=2))
