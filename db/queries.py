"""What people ask of the database; the only reader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from db.schema import Face, Image, State, results
from db.text import original

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
    """Counts of images by state, of filed ones by label, of failed ones by error code.

    `decided_by` counts the filed ones by what decided: `faces` or `whole_image`. `share_happy`
    is that of happy ones among those that are happy or sad; None where there are none.
    """

    images: int
    waiting: int
    filed: int
    failed: int
    labels: dict[str, int]
    decided_by: dict[str, int]
    errors: dict[str, int]
    share_happy: float | None
    first_claimed_at: datetime | None
    last_filed_at: datetime | None


@dataclass(frozen=True)
class Record:
    """What a row says of its file; `destination` is None until it is decided."""

    id: int
    state: State
    source: Path
    destination: Path | None
    size_bytes: int
    sha256: str | None


def find(
    engine: sa.Engine, wanted: Filter, *, with_faces: bool = False
) -> Iterator[dict[str, Any]]:
    """Rows of the view `results`, newest first.

    `with_faces` adds `faces`: of each face x, y, width and height (pixels of the upright image),
    score and p_sad (0 to 1), in the order in which they were recorded.
    """
    query = sa.select(results).order_by(results.c.id.desc()).limit(wanted.limit)
    if wanted.label:
        query = query.where(results.c.label == wanted.label)
    if wanted.state:
        query = query.where(results.c.state == wanted.state)
    if wanted.since:
        query = query.where(results.c.claimed_at >= wanted.since)
    with engine.connect() as connection:
        found = connection.execute(query, execution_options={"yield_per": FETCHED})
        for chunk in found.mappings().partitions():
            rows = [dict(row) for row in chunk]
            if with_faces:
                _add_faces(connection, rows)
            yield from rows


def stats(engine: sa.Engine) -> Stats:
    """The totals, from one moment."""
    with engine.connect() as connection:
        states = _counts(connection, Image.state)
        labels = _counts(connection, Image.label, Image.state == State.FILED)
        decided_by = _counts(connection, Image.decided_by, Image.state == State.FILED)
        errors = _counts(connection, Image.error_code, Image.state == State.FAILED)
        first, last = connection.execute(
            sa.select(sa.func.min(Image.claimed_at), sa.func.max(Image.filed_at))
        ).one()
    happy, sad = labels.get("happy", 0), labels.get("sad", 0)
    filed = states.get(State.FILED, 0)
    failed = states.get(State.FAILED, 0)
    images = sum(states.values())
    return Stats(
        images=images,
        waiting=images - filed - failed,
        filed=filed,
        failed=failed,
        labels=labels,
        decided_by=decided_by,
        errors=errors,
        share_happy=happy / (happy + sad) if happy + sad else None,
        first_claimed_at=first,
        last_filed_at=last,
    )


def records(engine: sa.Engine, *states: State) -> Iterator[Record]:
    """The rows in these states, of each the oldest first.

    Each page is a transaction of its own: a long one would let the log of a SQLite database grow.
    """
    for state in states:
        last = -1
        while page := _page(engine, state, last):
            yield from page
            last = page[-1].id


def states(engine: sa.Engine, ids: Sequence[int]) -> dict[int, State]:
    """The present states of rows by id; those without a row are left out."""
    with engine.connect() as connection:
        found = connection.execute(sa.select(Image.id, Image.state).where(Image.id.in_(ids)))
        return {row.id: row.state for row in found}


def named(engine: sa.Engine, destinations: Sequence[str]) -> set[str]:
    """Those of the destinations that rows name."""
    query = sa.select(Image.destination_path).where(Image.destination_path.in_(destinations))
    with engine.connect() as connection:
        return {name for name in connection.scalars(query) if name is not None}


def _page(engine: sa.Engine, state: State, last: int) -> list[Record]:
    query = (
        sa.select(
            *(Image.id, Image.state, Image.source_path, Image.source_path_raw),
            *(Image.destination_path, Image.size_bytes, Image.sha256),
        )
        .where(Image.state == state, Image.id > last)
        .order_by(Image.id)
        .limit(FETCHED)
    )
    with engine.connect() as connection:
        return [
            Record(
                id=row.id,
                state=row.state,
                source=original(row.source_path, row.source_path_raw),
                destination=Path(row.destination_path) if row.destination_path else None,
                size_bytes=row.size_bytes,
                sha256=row.sha256,
            )
            for row in connection.execute(query)
        ]


def _add_faces(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
    faces: dict[int, list[dict[str, Any]]] = {row["id"]: [] for row in rows}
    about = (Face.x, Face.y, Face.width, Face.height, Face.score, Face.p_sad)
    query = sa.select(Face.image_id, *about).where(Face.image_id.in_(faces)).order_by(Face.id)
    for row in connection.execute(query).mappings():
        face = dict(row)
        faces[face.pop("image_id")].append(face)
    for one in rows:
        one["faces"] = faces[one["id"]]


def _counts(connection: sa.Connection, column: Any, *where: Any) -> dict[str, int]:
    rows = connection.execute(
        sa.select(column, sa.func.count()).where(*where).group_by(column).order_by(column)
    )
    return {str(value): count for value, count in rows}
