"""What the service measures of its work; where nobody wants to know, it is forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from time import perf_counter


class Measure(StrEnum):
    """What is measured, in seconds, but for BATCH: images."""

    SETTLING = "settling"
    DECODING = "decoding"
    BATCH = "batch"
    JUDGING = "judging"
    COMMIT = "commit"
    FILING = "filing"
    WHOLE = "whole"


Observe = Callable[[Measure, float], None]


def forget(what: Measure, value: float) -> None:
    """Nobody wants to know."""


@contextmanager
def timed(observe: Observe, what: Measure) -> Iterator[None]:
    """Observe how long it takes, unless it fails."""
    begin = perf_counter()
    yield
    observe(what, perf_counter() - begin)
