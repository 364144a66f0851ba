"""Find faces in photos, in batches, with BlazeFace.

Source: Bazarevsky et al. 2019, "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs",
and MediaPipe, whose short-range weights `detector.keras` holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainer.logits import logit, probability
from trainer.looking import Looker
from trainer.views import Letterboxed, alike, letterboxed

STRIDES = ((8, 2), (16, 6))
"""Pixels between the anchors of a grid, and how many there are at each place."""

POINTS = 8
"""What is said of each anchor: the middle of the box, its size, and six points of a face."""
EYES = slice(0, 2)
"""Which of the six are the eyes: first the one that is left in the picture."""

SAME_FACE = 0.3
"""Boxes that overlap by more than this share of what both cover are one face (MediaPipe)."""


@dataclass(frozen=True)
class Found:
    """The n faces of a photo, the surest first; coordinates in pixels of the photo.

    `boxes`: float32 (n, 4), left, top, right, bottom. `eyes`: float32 (n, 2, 2), x and y of the
    one that is left in the picture and of the other. `scores`: float32 (n,) in [0, 1].
    """

    boxes: NDArray[np.float32]
    eyes: NDArray[np.float32]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, rows: Any) -> Found:
        """Some of them, chosen as NumPy does."""
        return Found(self.boxes[rows], self.eyes[rows], self.scores[rows])

    def scaled(self, factor: float) -> Found:
        """The same in a photo that is larger by this factor."""
        to = np.float32(factor)
        return Found(self.boxes * to, self.eyes * to, self.scores)

    @property
    def middles(self) -> NDArray[np.float32]:
        """The middle of each box, x and y, float32 (n, 2)."""
        return np.asarray((self.boxes[:, :2] + self.boxes[:, 2:]) / 2, np.float32)

    @property
    def sides(self) -> NDArray[np.float32]:
        """The longer side of each box in pixels, float32 (n,)."""
        return longer_sides(self.boxes)

    def sure(self, score: float) -> NDArray[np.bool_]:
        """Which of them have at least this score, (n,)."""
        return np.asarray(self.scores >= score)


def longer_sides(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of boxes (n, 4), the longer side of each, float32 (n,)."""
    longer: NDArray[np.float32] = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0.0)
    return longer


NONE = Found(np.empty((0, 4), np.float32), np.empty((0, 2, 2), np.float32), np.empty(0, np.float32))


class Detector(Looker):
    """A BlazeFace model, ready to find faces."""

    def find(self, photos: Sequence[Image.Image], side: int, score: float) -> list[Found]:
        """The faces of each photo, in colour, with at least this `score`.

        `side`: the longer one of the views that they are fitted into, a multiple of 16 pixels.
        """
        return self.look([letterboxed(photo, side) for photo in photos], score)

    def look(self, views: Sequence[Letterboxed], score: float) -> list[Found]:
        """The faces of the photo in each view with at least this `score`."""
        found: list[Found] = [NONE] * len(views)
        for rows, pixels in alike(views):
            points, logits = joined_grids(self._runner(pixels))
            # A logit is compared rather than a score: that saves the sigmoid of what is no face.
            sure = logits >= logit(np.array(score))
            anchors = _anchors(*pixels.shape[1:3])
            for n in np.flatnonzero(sure.any(axis=1)):
                i, those = rows[n], sure[n]
                faces = _decode(points[n, those], logits[n, those], anchors[those], views[i])
                found[i] = merge([faces])
        return found


def joined_grids(
    grids: Sequence[NDArray[np.float32]],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of all anchors in the order of `_anchors`: the points (n, m, 8, 2) and the logits (n, m)."""
    by_values = {grid.shape[-1]: grid for grid in grids}
    count = len(grids[0])
    points = [by_values[2 * POINTS * at].reshape(count, -1, POINTS, 2) for _, at in STRIDES]
    logits = [by_values[at].reshape(count, -1) for _, at in STRIDES]
    return np.concatenate(points, axis=1), np.concatenate(logits, axis=1)


@cache
def _anchors(height: int, width: int) -> NDArray[np.float32]:
    """The middles of the anchors, float32 (n, 2), x and y in pixels of the view."""
    grids = []
    for stride, repeats in STRIDES:
        across, down = (
            (np.arange(side // stride, dtype=np.float32) + 0.5) * stride for side in (width, height)
        )
        x, y = np.meshgrid(across, down)
        grids.append(np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2), repeats, axis=0))
    return np.concatenate(grids)


def _decode(
    points: NDArray[np.float32],
    logits: NDArray[np.float32],
    anchors: NDArray[np.float32],
    view: Letterboxed,
) -> Found:
    """What the network says of m anchors (m, 2): middle, size and keypoints (m, 8, 2) in a view."""
    middles = points[:, 0] + anchors
    halves = points[:, 1] / 2
    boxes = np.stack([middles - halves, middles + halves], axis=1)
    eyes = points[:, 2:][:, EYES] + anchors[:, None]
    return Found(
        boxes=np.asarray((boxes - view.corner) / view.scale, np.float32).reshape(-1, 4),
        eyes=(eyes - view.corner) / view.scale,
        scores=probability(logits),
    )


def merge(views: Sequence[Found]) -> Found:
    """Each face of a photo once, as the mean of what was found of it, weighted by the scores."""
    found = Found(
        np.concatenate([some.boxes for some in views]),
        np.concatenate([some.eyes for some in views]),
        np.concatenate([some.scores for some in views]),
    )
    if len(found) < 2:  # as in most views
        return found
    found = found[np.argsort(-found.scores, kind="stable")]
    surest, weights = _faces(found)
    boxes, eyes = weights @ found.boxes, weights @ found.eyes.reshape(-1, 4)
    return Found(boxes, eyes.reshape(-1, 2, 2), found.scores[surest])


def _faces(found: Found) -> tuple[list[int], NDArray[np.float32]]:
    """Which of n boxes is the surest of each of m faces, and their weights in it, float32 (m, n).

    The boxes come with the surest first.
    """
    same = (overlaps(found.boxes, found.boxes) > SAME_FACE) | np.eye(len(found), dtype=bool)
    left = np.ones(len(found), bool)
    surest, members = [], []
    for row in range(len(found)):
        if left[row]:
            surest.append(row)
            members.append(same[row] & left)
            left &= ~same[row]
    weights = np.where(members, found.scores, np.float32(0))
    return surest, weights / weights.sum(axis=1, keepdims=True)


def overlaps(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of each of n boxes (n, 4) with each of m others (m, 4): (n, m)."""
    corners = np.maximum(boxes[:, None, :2], others[None, :, :2])
    opposite = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(opposite - corners, 0, None).prod(axis=2)
    areas, of_others = ((some[:, 2:] - some[:, :2]).prod(axis=1) for some in (boxes, others))
    both: NDArray[np.float32] = shared / (areas[:, None] + of_others[None] - shared + 1e-9)
    return both
