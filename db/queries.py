"""What people ask of the database; the only reader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from db.schema import Image, State, results

COLUMNS = tuple(results.c.keys())
"""The columns of the view `results`, in order."""

FETCHED = 1000
"""Rows that are held at a time."""


@dataclass(frozen=True)
class Filter:
    """Which results are wanted; None means all. `since` is about the time of the claim."""

    label: str | None = None
    state: str | None = None
    since: datetime | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Stats:
    """Counts of images by state, of filed ones by label, of failed ones by error code."""

    images: int
    waiting: int
    filed: int
    failed: int
    labels: dict[str, int]
    errors: dict[str, int]
    share_happy: float | None
    first_claimed_at: datetime | None
    last_filed_at: datetime | None


def find(engine: sa.Engine, wanted: Filter) -> Iterator[sa.RowMapping]:
    """Rows of the view `results`, newest first."""
    query = sa.select(results).order_by(results.c.id.desc()).limit(wanted.limit)
    if wanted.label:
        query = query.where(results.c.label == wanted.label)
    if wanted.state:
        query = query.where(results.c.state == wanted.state)
    if wanted.since:
        query = query.where(results.c.claimed_at >= wanted.since)
    with engine.connect() as connection:
        yield from connection.execution_options(yield_per=FETCHED).execute(query).mappings()


def stats(engine: sa.Engine) -> Stats:
    """The totals, from one moment."""
    with engine.connect() as connection:
        states = _counts(connection, Image.state)
        labels = _counts(connection, Image.label, Image.state == State.FILED)
        errors = _counts(connection, Image.error_code, Image.state == State.FAILED)
        first, last = connection.execute(
            sa.select(sa.func.min(Image.claimed_at), sa.func.max(Image.filed_at))
        ).one()
    filed = states.get(State.FILED, 0)
    failed = states.get(State.FAILED, 0)
    images = sum(states.values())
    return Stats(
        images=images,
        waiting=images - filed - failed,
        filed=filed,
        failed=failed,
        labels=labels,
        errors=errors,
        share_happy=labels.get("happy", 0) / filed if filed else None,
        first_claimed_at=first,
        last_filed_at=last,
    )


def _counts(connection: sa.Connection, column: Any, *where: Any) -> dict[str, int]:
    rows = connection.execute(
        sa.select(column, sa.func.count()).where(*where).group_by(column).order_by(column)
    )
    return {str(value): count for value, count in rows}
