"""Words that the command line or the service has in common with the database."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Order(enum.StrEnum):
    """In which order results come; by certainty, only those that have a probability."""

    NEWEST = "newest"
    OLDEST = "oldest"
    LEAST_CERTAIN = "least-certain"
    MOST_CERTAIN = "most-certain"


class By(enum.StrEnum):
    """What groups of images have in common."""

    DAY = "day"
    HOUR = "hour"
    MODEL = "model"
    ERROR = "error"


@dataclass(frozen=True)
class Process:
    """Which process a service is: on a machine of that name, with that number there.

    `process` tells it from all others that have or had the same.
    """

    host: str
    pid: int
    process: str
