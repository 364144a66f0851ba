"""The words of questions, for the command line and for the queries."""

from __future__ import annotations

import enum


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
