"""What people ask of the database; the only reader."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from db.schema import UNFINISHED, Image, Model, State, faces_of, names_held, results
from db.terms import Order
from db.text import original

COLUMNS = tuple(results.c.keys())
"""The columns of the view `results`, in order."""

FETCHED = 1000
"""Rows that are held at a time."""

FALLING = (Order.NEWEST, Order.MOST_CERTAIN)
"""The orders in which what is largest comes first."""

LOOKS_FOR_LEFT_OUT = 30
MOST_LEFT_OUT = 10_000
"""How often numbers of rows that were left out are looked at again, and how many at once."""

ESCAPE = "!"
"""What takes its meaning from a special character of a pattern; a backslash has one of its own."""


RECORD = sa.select(
    *(Image.id, Image.state, Image.source_path, Image.source_path_raw, Image.source_mtime_ns),
    *(Image.destination_path, Image.size_bytes, Image.sha256, Image.missing_since, Image.label),
    Image.claimed_by,
)
"""What a `Record` is made of."""


@dataclass(frozen=True)
class Filter:
    """Which results are wanted, and in which order; None means all.

    `since` and `until` (not included) are about the time of the claim. `path` is matched with the
    source and the destination: `*` stands for any characters, `?` for one; one that begins with
    neither `/` nor `*` may lie in any folder. Upper and lower case are the same. `corrected`: only
    those that a person has judged, or with False only the others.
    """

    label: str | None = None
    state: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_probability: float | None = None
    max_probability: float | None = None
    model: str | None = None
    path: str | None = None
    error: str | None = None
    corrected: bool | None = None
    order: Order = Order.NEWEST
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True)
class Record:
    """What a row says of its file; `destination` is None until it is decided.

    The time is the modification time of the file when it was filed, in nanoseconds. `is_missing`:
    a service has noticed that it is not there any more. `claimed_by`: see `db.services`.
    """

    id: int
    state: State
    source: Path
    destination: Path | None
    size_bytes: int
    mtime_ns: int
    sha256: str | None
    is_missing: bool
    label: str | None
    claimed_by: int | None


def find(
    engine: sa.Engine, wanted: Filter, *, with_faces: bool = False
) -> Iterator[dict[str, Any]]:
    """Rows of the view `results` that are wanted, in the order that is wanted.

    `with_faces` adds `faces`: of each face x, y, width and height (pixels of the upright image),
    score and p_sad (0 to 1), in the order in which they were recorded.
    """
    query = sa.select(results).where(*conditions(wanted)).order_by(*ordering(wanted.order))
    query = query.limit(wanted.limit).offset(wanted.offset or None)
    with engine.connect() as connection:
        yield from fetch(connection, query, with_faces=with_faces)


def one(engine: sa.Engine, id: int) -> dict[str, Any] | None:
    """The row of the view `results` with that id, with its faces as in `find`."""
    query = sa.select(results).where(results.c.id == id)
    with engine.connect() as connection:
        return next(fetch(connection, query, with_faces=True), None)


def follow(
    engine: sa.Engine, wanted: Filter, *, with_faces: bool = False
) -> Iterator[list[dict[str, Any]]]:
    """What of the wanted is filed or failed from now on: each step looks once, for all that is new.

    The order and the limits of `wanted` do not count. Rows do not end in the order in which they
    began; those that have begun and not ended are looked at again. Nor, where several services
    write, do they appear in the order of their numbers: those left out are looked at for a while.
    """
    left_out: deque[set[int]] = deque(maxlen=LOOKS_FOR_LEFT_OUT)
    with engine.connect() as connection:
        newest = _newest(connection)
        begun = set(connection.scalars(sa.select(Image.id).where(Image.state.in_(UNFINISHED))))
    while True:
        about = sa.select(Image.id, Image.state).order_by(Image.id)
        with engine.connect() as connection:
            top = _newest(connection)  # Asked first: what appears meanwhile is newer.
            new = connection.execute(about.where(Image.id > newest).limit(FETCHED)).all()
            asked = begun.union(*left_out)
            seen = [*connection.execute(about.where(Image.id.in_(asked))), *new]
            if new:
                first = max(newest, new[-1].id - MOST_LEFT_OUT) + 1
                left_out.append(set(range(first, new[-1].id)))
            for numbers in left_out:
                numbers.difference_update(row.id for row in seen)
            begun = {row.id for row in seen if row.state in UNFINISHED}
            # Where the newest rows were given back, their numbers come again.
            newest = new[-1].id if new else top
            ended = [row.id for row in seen if row.id not in begun]
            query = sa.select(results).where(results.c.id.in_(ended), *conditions(wanted))
            rows = list(fetch(connection, query.order_by(results.c.id), with_faces=with_faces))
        yield rows


def _newest(connection: sa.Connection) -> int:
    return connection.scalar(sa.select(sa.func.max(Image.id))) or 0


def fetch(
    connection: sa.Connection, query: sa.Select[Any], *, with_faces: bool = False
) -> Iterator[dict[str, Any]]:
    """The rows of a query of the view `results`; `with_faces` as in `find`."""
    found = connection.execute(query, execution_options={"yield_per": FETCHED})
    for chunk in found.mappings().partitions():
        rows = [dict(row) for row in chunk]
        if with_faces:
            _add_faces(connection, rows)
        yield from rows


def conditions(wanted: Filter) -> Iterator[sa.ColumnElement[bool]]:
    """Those of a query for the wanted: one for each thing that is asked for."""
    asked: tuple[tuple[Any, Callable[[Any], sa.ColumnElement[bool]]], ...] = (
        (wanted.label, results.c.label.__eq__),
        (wanted.state, results.c.state.__eq__),
        (wanted.since, results.c.claimed_at.__ge__),
        (wanted.until, results.c.claimed_at.__lt__),
        (wanted.min_probability, results.c.probability.__ge__),
        (wanted.max_probability, results.c.probability.__le__),
        (wanted.model, results.c.model.__eq__),
        (wanted.error, results.c.error_code.__eq__),
        (wanted.path, _lies_at),
    )
    yield from (condition(value) for value, condition in asked if value is not None)
    if wanted.corrected is not None:
        said = results.c.corrected_label
        yield said.is_not(None) if wanted.corrected else said.is_(None)
    if wanted.order in (Order.LEAST_CERTAIN, Order.MOST_CERTAIN):
        yield results.c.probability.is_not(None)


def _lies_at(pattern: str) -> sa.ColumnElement[bool]:
    anywhere = pattern if pattern.startswith(("/", "*")) else f"*/{pattern}"
    for special in ESCAPE, "%", "_":
        anywhere = anywhere.replace(special, ESCAPE + special)
    like = anywhere.replace("*", "%").replace("?", "_")
    paths = (results.c.source_path, results.c.destination_path)
    return sa.or_(*(path.ilike(like, escape=ESCAPE) for path in paths))


def key(order: Order) -> tuple[sa.ColumnElement[Any], sa.ColumnElement[Any]]:
    """The columns that results are in order by; no two rows have the same in them."""
    is_by_certainty = order in (Order.LEAST_CERTAIN, Order.MOST_CERTAIN)
    return results.c.probability if is_by_certainty else results.c.claimed_at, results.c.id


def ordering(order: Order) -> tuple[sa.ColumnElement[Any], ...]:
    """The order for a query."""
    return tuple(column.desc() for column in key(order)) if order in FALLING else key(order)


def records(engine: sa.Engine, *states: State) -> Iterator[Record]:
    """The rows in these states, of each the oldest first.

    Each page is a transaction of its own: a long one would let the log of a SQLite database grow.
    """
    for state in states:
        last = -1
        while page := _page(engine, state, last):
            yield from page
            last = page[-1].id


def undisputed(
    engine: sa.Engine, wanted: Filter, *, except_by: str | None = None
) -> Iterator[Record]:
    """The filed images that are wanted, are there, and were judged by no person, the oldest first.

    Without those that the model bundle with the hash `except_by` has decided. Pages as `records`;
    the order of `wanted` does not count.
    """
    query = (
        RECORD.join(results, results.c.id == Image.id)
        .outerjoin(Model, Model.id == Image.model_id)
        .where(*conditions(wanted), Image.state == State.FILED, Image.label.is_not(None))
        .where(Image.corrected_label.is_(None), Image.missing_since.is_(None))
        .order_by(Image.id)
    )
    if except_by:
        query = query.where(Model.sha256.is_distinct_from(except_by))
    last, left = -1, wanted.limit
    while left is None or left > 0:
        with engine.connect() as connection:
            some = FETCHED if left is None else min(left, FETCHED)
            page = _records(connection, query.where(Image.id > last).limit(some))
        if not page:
            return
        yield from page
        last = page[-1].id
        left = None if left is None else left - len(page)


def states(engine: sa.Engine, ids: Sequence[int]) -> dict[int, State]:
    """The present states of rows by id; those without a row are left out."""
    with engine.connect() as connection:
        found = connection.execute(sa.select(Image.id, Image.state).where(Image.id.in_(ids)))
        return {row.id: row.state for row in found}


def named(engine: sa.Engine, destinations: Sequence[str]) -> set[str]:
    """Those of the destinations that rows name, or did before a move that goes on."""
    with engine.connect() as connection:
        return set(connection.scalars(names_held(destinations)))


def at(engine: sa.Engine, destinations: Sequence[str]) -> dict[str, Record]:
    """The rows that name these destinations, by them."""
    with engine.connect() as connection:
        rows = _records(connection, RECORD.where(Image.destination_path.in_(destinations)))
    return {str(row.destination): row for row in rows}


def below(engine: sa.Engine, folder: Path) -> Iterator[Record]:
    """The rows that name a destination below the folder, in pages."""
    last, end = f"{folder}/", f"{folder}0"  # 0 is the character after the slash.
    name = Image.destination_path
    while True:
        query = RECORD.where(name > last, name < end).order_by(name).limit(FETCHED)
        with engine.connect() as connection:
            page = _records(connection, query)
        if not page:
            return
        yield from page
        last = str(page[-1].destination)


def missing(engine: sa.Engine, sizes: Collection[int]) -> list[Record]:
    """Rows of files of these sizes, in bytes, that are not where they were filed."""
    query = RECORD.where(Image.missing_since.is_not(None), Image.size_bytes.in_(sizes))
    with engine.connect() as connection:
        return _records(connection, query.order_by(Image.id))


def is_any_missing(engine: sa.Engine) -> bool:
    """Whether any file is not where it was filed."""
    with engine.connect() as connection:
        query = sa.select(sa.exists().where(Image.missing_since.is_not(None)))
        return bool(connection.scalar(query))


def destinations(engine: sa.Engine, ids: Sequence[int]) -> dict[int, Path]:
    """Where the files of rows lie, by id; those without a row or a place are left out."""
    query = sa.select(Image.id, Image.destination_path).where(Image.id.in_(ids))
    with engine.connect() as connection:
        found = connection.execute(query)
        return {row.id: Path(row.destination_path) for row in found if row.destination_path}


def _page(engine: sa.Engine, state: State, last: int) -> list[Record]:
    of_state = RECORD.where(Image.state == state, Image.id > last)
    with engine.connect() as connection:
        return _records(connection, of_state.order_by(Image.id).limit(FETCHED))


def _records(connection: sa.Connection, query: sa.Select[*tuple[Any, ...]]) -> list[Record]:
    return [
        Record(
            id=row.id,
            state=row.state,
            source=original(row.source_path, row.source_path_raw),
            destination=Path(row.destination_path) if row.destination_path else None,
            size_bytes=row.size_bytes,
            mtime_ns=row.source_mtime_ns,
            sha256=row.sha256,
            is_missing=row.missing_since is not None,
            label=row.label,
            claimed_by=row.claimed_by,
        )
        for row in connection.execute(query)
    ]


def _add_faces(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
    faces: dict[int, list[dict[str, Any]]] = {row["id"]: [] for row in rows}
    for row in connection.execute(faces_of(list(faces))).mappings():
        face = dict(row)
        faces[face.pop("image_id")].append(face)
    for one in rows:
        one["faces"] = faces[one["id"]]
