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

GLANCE, AFAR, QUARTER = 256, 320, 512
"""Pixels of the longer sides of the views in which spots are looked for: in all photos that may
show a crowd, in those of larger images where some are likely but too few, and in the quarters of
those that seem to show a crowd and have more pixels.

Measured, as what follows, on 276 composed crowds: without the second, 3 of 120 in photos with faces
of 24 to 37 pixels are not taken for crowds, with it all are. With a view of 576 of the whole photo
in place of its quarters 0.011 fewer of the faces in photos are found, for of two side by side that
take 11 pixels of a view each only the likelier is a spot; with quarters of 384 0.006 fewer.
"""

SMALL = 50.0
"""Pixels of a face in the photo of a crowd, beside which its quarters may show some that the whole
does not.

Measured: where the quarters of all crowds are looked at, 0.002 more of the faces in photos are
found, and 0.26 in a photo that are none rather than 0.19.
"""

LARGE, CERTAIN = 0.2, 0.85
"""A face of this side, in that of the photo, the longer, and with this score of the detector is one
beside which others need not be looked for. What has a lower score may be a group of them.

Measured: with a score of 0.8 one photo of 180 is not taken for a crowd.
"""

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

SAMPLE, MOST = 4, 60
"""Spots that get a close look at once, the likeliest first, and those of a photo or of its quarters
that get one at all.
"""

VAIN, VAIN_AT_LAST = 2, 3
"""After how many samples in a row without a face those that are less likely get no look: in a view
of what may be no crowd, and in quarters.

Measured: after one in vain 0.010 fewer of the faces in photos are found, after three as many, and
web photos get a third more looks. After two in quarters 0.001 fewer are found, and in one web photo
8 of 19.
"""

AROUND, CLOSE = 1.75, 64
"""Sides of what is looked at around a spot: in that of the face expected there, and in pixels.

Measured: with 2.0 and 80, 0.003 more are found, and 0.42 in a photo that are none rather than 0.19;
a look takes 1.5 times as long.
"""

AGAIN, AROUND_AGAIN = 2.0, 1.4
"""Least logit of a spot where a look that shows nothing is followed by another, if one of the same
sample shows something, and AROUND in that.

Measured: with it 0.005 more of the faces in photos are found, and 0.19 in a photo that are none
rather than 0.17. With 1.0 another 0.001, and 0.22 are none.
"""

NEAR = 0.75
"""How far from the middle of a face the spot may be that led to it, in sides of the face.

In a small view a spot is that inexact: with 0.5, as for a spot within the face, 2 of 120 photos are
not taken for crowds, and 0.012 fewer of the faces are found; with 1.0 no more, but some that are
none.
"""

SUPPORT = 1.5
"""Most that the logit of a spot adds to that of a face around it: 0.3 may become 0.66.

Measured: with 1.0 0.003 fewer are found, and 0.13 in a photo that are none rather than 0.19.
"""

SMALLER, SEVERAL = 2.0, 3
"""Factor by which faces are smaller than one that may be a group of them, or of which they may be
parts, and how many make a group; so many have to be found where only spots speak for a crowd."""

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

    def _unknown(self, spots: Spots, sight: Sight, before_larger: float = np.inf) -> Spots:
        """Those that are not within a face that is known; what may be a group is none.

        With the logit `before_larger` they count if they are within one that is certain and larger.
        """
        known = self._sure(sight.faces)
        same_size = known.sides < SMALLER * spots.sides[:, None]
        of_it = known.sure(CERTAIN) & (spots.logits < before_larger)[:, None]
        at_face = _inside(spots.places, known.boxes) & (same_size | of_it)
        return spots[~at_face.any(axis=1)]

    def _crowd(self, sight: Sight, image: DecodedImage, possible: Spots) -> Sight | None:
        """With the faces around spots, if the likely ones and those that are known are many."""
        is_crowd = len(self._sure(sight.faces)) >= GROUP
        enough = 1 if is_crowd else CROWD
        unknown = self._unknown(possible, sight)
        if 0 < unknown.count(LIKELY) < enough and sight.scale > 1:
            [possible] = self._spotter.find([letterboxed(sight.photo, AFAR)], POSSIBLE)
            unknown = self._unknown(possible, sight)
        if unknown.count(LIKELY) < enough:
            return None
        large = sight.enlarged(image, LARGER)
        large, shown = self._closely(large, unknown.scaled(sight.scale / large.scale), VAIN)
        if shown and large.side > QUARTER and (shown < SEVERAL or self._has_small(large)):
            nearer = self._spotter.find_in_quarters(large.photo, QUARTER, POSSIBLE)
            unknown = self._unknown(nearer, large, LIKELY)
            large, more = self._closely(large, unknown, VAIN_AT_LAST)
            shown += more
        if not is_crowd and shown < SEVERAL:
            return None
        return replace(large, faces=_without_confusions(self._sure(large.faces)))

    def _has_small(self, sight: Sight) -> bool:
        return bool((self._sure(sight.faces).sides < SMALL).any())

    def _closely(self, sight: Sight, spots: Spots, most_vain: int) -> tuple[Sight, int]:
        """With the faces around spots, as long as some show a sure one; and how many do."""
        known, shown, vain = [sight.faces], 0, 0
        spots = spots[:MOST]
        for start in range(0, len(spots), SAMPLE):
            some = spots[start : start + SAMPLE]
            faces = self._around(sight.photo, some)
            sure = sum(len(self._sure(each)) > 0 for each in faces)
            vain = 0 if sure else vain + 1
            if vain == most_vain:
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
        """What may be faces at each spot, looked for twice at likely ones if others show some."""
        found = self._look(photo, spots, AROUND)
        if not any(map(len, found)):  # as where there is no crowd
            return found
        again = [i for i, faces in enumerate(found) if not len(faces) and spots.logits[i] >= AGAIN]
        for i, faces in zip(again, self._look(photo, spots[again], AROUND_AGAIN), strict=True):
            found[i] = faces
        return found

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


def _without_confusions(faces: Found) -> Found:
    """Without those that may be a group of smaller ones, or a part of a larger one.

    What is certain is neither.
    """
    certain = faces.sure(CERTAIN)
    in_larger = _inside(faces.middles, faces.boxes) & (SMALLER * faces.sides[:, None] < faces.sides)
    group = in_larger.sum(axis=0) >= SEVERAL
    part = in_larger[:, certain].any(axis=1)
    return faces[certain | ~(group | part)]


def _inside(places: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of n places (n, 2) is in which of m boxes (m, 4): (n, m)."""
    after, before = places[:, None] >= boxes[:, :2], places[:, None] <= boxes[:, 2:]
    return np.asarray((after & before).all(axis=2))
