"""Photos -> the spots in them where faces may be that are too small to be found, at little cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainer.looking import Looker
from trainer.views import QUARTERS, Letterboxed, alike, quarters

STRIDE = 8
"""Pixels of a view between two places of which the network says something."""

NEIGHBOURS = np.array(list(np.ndindex(3, 3))) - 1
"""How far, down and across, those of a place are, itself among them: (9, 2)."""


@dataclass(frozen=True)
class Spots:
    """n places of a photo, the likeliest first.

    `places`: x and y in pixels of the photo, float32 (n, 2). `sides`: of the face that there may
    be, in the same, float32 (n,). `logits`: whether there is one, float32 (n,).
    """

    places: NDArray[np.float32]
    sides: NDArray[np.float32]
    logits: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.logits)

    def __getitem__(self, rows: Any) -> Spots:
        """Some of them, chosen as NumPy does."""
        return Spots(self.places[rows], self.sides[rows], self.logits[rows])

    def count(self, logit: float) -> int:
        """How many of them have at least this `logit`."""
        return int((self.logits >= logit).sum())

    def scaled(self, factor: float) -> Spots:
        """The same in a photo that is larger by this factor."""
        to = np.float32(factor)
        return Spots(self.places * to, self.sides * to, self.logits)


class Spotter(Looker):
    """A network that says at each place of a view whether a small face is there, and its side.

    That is float32 (n, rows, columns, 2): the logit, and how often the side is twice a STRIDE.
    """

    def find(self, views: Sequence[Letterboxed], logit: float) -> list[Spots]:
        """The spots of the photo in each view with at least this `logit`.

        Of neighbours the likeliest counts.
        """
        spots: dict[int, Spots] = {}
        for rows, pixels in alike(views):
            [told] = self._runner(pixels)
            spots |= {i: _peaks(told[n], logit, views[i]) for n, i in enumerate(rows)}
        return [spots[i] for i in range(len(views))]

    def find_in_quarters(self, photo: Image.Image, side: int, logit: float) -> Spots:
        """The spots of a photo in colour, whose quarters are looked at in views of a `side`."""
        views = quarters(photo, side)
        middle = np.array(photo.size, np.float32) / 2
        own = []
        for spots, view, quarter in zip(self.find(views, logit), views, QUARTERS, strict=True):
            inwards = (spots.places - middle) * (2 * quarter - 1)
            # A place is not known better than that: what lies between quarters is seen in each.
            own.append(spots[(inwards > -STRIDE / view.scale).all(axis=1)])
        return _distinct(_joined(own))


def _joined(some: Sequence[Spots]) -> Spots:
    """All of them, the likeliest first."""
    spots = Spots(
        np.concatenate([each.places for each in some]),
        np.concatenate([each.sides for each in some]),
        np.concatenate([each.logits for each in some]),
    )
    return spots[_likeliest_first(spots.logits)]


def _distinct(spots: Spots) -> Spots:
    """Without those in which a likelier one lies."""
    x, y = (np.abs(np.subtract.outer(at, at)) for at in spots.places.T)
    inside = np.maximum(x, y) < spots.sides[:, None] / 2
    return spots[~np.tril(inside, -1).any(axis=1)]


def _likeliest_first(logits: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.argsort(-logits, kind="stable")


def _peaks(told: NDArray[np.float32], least: float, view: Letterboxed) -> Spots:
    """What is as likely as all around it, and as `least`."""
    padded = np.pad(told[..., 0], 1, constant_values=-np.inf)
    y, x = np.nonzero(told[..., 0] >= least)
    logits = told[y, x, 0]
    around = padded[y + 1 + NEIGHBOURS[:, :1], x + 1 + NEIGHBOURS[:, 1:]]
    # A face between two places makes both likely: its middle is the mean, weighted by the odds.
    odds = np.exp(around - logits)
    middles = np.stack([x, y], axis=1) + 0.5 + (NEIGHBOURS.T[::-1] @ odds / odds.sum(axis=0)).T
    places = (middles * STRIDE - view.corner) / view.scale
    sides = STRIDE * 2 ** told[y, x, 1] / view.scale
    spots = Spots(places.astype(np.float32), sides.astype(np.float32), logits)
    peaks = np.flatnonzero(logits >= around.max(axis=0))
    return spots[peaks[_likeliest_first(logits[peaks])]]
