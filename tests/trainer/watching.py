"""Looks for faces that are watched, and photos of drawn people to look at."""

from __future__ import annotations

from collections.abc import Sequence

from tests.trainer.people import Place
from trainer import bundle
from trainer.detection import Detector, Found
from trainer.faces import FaceLimits
from trainer.finding import FaceFinder
from trainer.image import DecodedImage, InputSpec, View
from trainer.sight import Sight
from trainer.views import Letterboxed

SPEC = InputSpec(48, 48, 1)
VIEW = View(SPEC, FaceFinder.photo_side)


class Watched(Detector):
    """A detector, and the side of each view that was looked at, with the number of photos."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.looks: list[tuple[int, int]] = []

    def look(self, views: Sequence[Letterboxed], score: float) -> list[Found]:
        if views:
            self.looks.append((max(views[0].pixels.shape), len(views)))
        return self._detector.look(views, score)


def find(detector: Detector, *images: DecodedImage, **limits: float) -> list[Sight]:
    finder = FaceFinder(detector, FaceLimits(**limits), bundle.spotter())  # type: ignore[arg-type]
    return finder.find(images)


def in_the_original(sight: Sight) -> Found:
    """The faces in pixels of the whole upright image."""
    return sight.faces.scaled(sight.scale)


def rows_of(count: int, across: int, step: tuple[int, int], side: int) -> list[Place]:
    return [(20 + n % across * step[0], 20 + n // across * step[1], side) for n in range(count)]


PORTRAIT = [(20, 100, 360)]
"""In 400 x 600 pixels."""

FOUR = [(50, 40, 300), (600, 60, 240), (120, 450, 280), (650, 480, 250)]
"""In 1000 x 800 pixels."""

EIGHT = rows_of(8, 4, (190, 250), 60)
"""In 800 x 600 pixels, with heads of 40."""

CROWD = rows_of(24, 6, (260, 290), 120)
"""In 1600 x 1200 pixels."""


TINY = rows_of(30, 6, (195, 170), 48)
"""In 1200 x 900 pixels, with heads of 33."""
