"""Photos -> the spots in them where faces may be that are too small to be found, at little cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.logits import probability
from trainer.looking import Looker
from trainer.views import Letterboxed, alike

STRIDE = 8
"""Pixels of a view between two places of which the network says something."""

FACES = (5.0, 28.0)
"""Pixels of the sides of the faces in a view that the network has learnt to see."""


@dataclass(frozen=True)
class Spots:
    """n places of a photo, the likeliest first.

    `places`: x and y in pixels of the photo, float32 (n, 2). `logits`: of a face, float32 (n,).
    """

    places: NDArray[np.float32]
    logits: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.logits)

    def __getitem__(self, rows: Any) -> Spots:
        """Some of them, chosen as NumPy does."""
        return Spots(self.places[rows], self.logits[rows])

    def scaled(self, factor: float) -> Spots:
        """The same in a photo that is larger by this factor."""
        return Spots(self.places * np.float32(factor), self.logits)


class Spotter(Looker):
    """A network that gives the logit of a small face at each place of a view."""

    def count(self, views: Sequence[Letterboxed]) -> list[float]:
        """About how many small faces there are in each, if many: the sum of the probabilities."""
        return [float(probability(logits).sum()) for logits in self._logits(views)]

    def find(self, views: Sequence[Letterboxed], logit: float) -> list[Spots]:
        """The spots of the photo in each view with at least this `logit`.

        Of neighbours the likeliest counts.
        """
        of_views = zip(self._logits(views), views, strict=True)
        return [_peaks(logits, logit, view) for logits, view in of_views]

    def _logits(self, views: Sequence[Letterboxed]) -> list[NDArray[np.float32]]:
        """Of the places of each view, float32 (rows, columns)."""
        logits: dict[int, NDArray[np.float32]] = {}
        for rows, pixels in alike(views):
            [of_rows] = self._runner(pixels)
            logits |= zip(rows, of_rows[..., 0], strict=True)
        return [logits[i] for i in range(len(views))]


def _peaks(logits: NDArray[np.float32], least: float, view: Letterboxed) -> Spots:
    """What is as likely as all around it, and as `least`."""
    rows, columns = logits.shape
    padded = np.pad(logits, 1, constant_values=-np.inf)
    around = np.stack([padded[i : i + rows, j : j + columns] for i, j in np.ndindex(3, 3)])
    y, x = np.nonzero((logits >= least) & (logits >= around.max(axis=0)))
    order = np.argsort(-logits[y, x], kind="stable")
    y, x = y[order], x[order]
    # A face between two places makes both likely: its middle is the mean, weighted by the odds.
    odds = np.exp(around[:, y, x] - logits[y, x])
    aside = np.array(list(np.ndindex(3, 3)))[:, ::-1].T - 1
    middles = np.stack([x, y], axis=1) + 0.5 + (aside @ odds / odds.sum(axis=0)).T
    places = (middles * STRIDE - view.corner) / view.scale
    return Spots(places.astype(np.float32), logits[y, x])
