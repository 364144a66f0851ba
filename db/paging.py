"""Results page by page: any page of a million rows costs as little as the first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from db.queries import FALLING, Filter, conditions, fetch, key, ordering
from db.schema import UNFINISHED, results
from db.terms import Order

REVERSED = {
    Order.NEWEST: Order.OLDEST,
    Order.OLDEST: Order.NEWEST,
    Order.LEAST_CERTAIN: Order.MOST_CERTAIN,
    Order.MOST_CERTAIN: Order.LEAST_CERTAIN,
}


@dataclass(frozen=True)
class Page:
    """Some rows of the view `results`, and whether there are others on either side of them."""

    rows: list[dict[str, Any]]
    has_before: bool
    has_after: bool


def page(
    engine: sa.Engine,
    wanted: Filter,
    size: int,
    *,
    after: int | None = None,
    before: int | None = None,
) -> Page:
    """At most `size` of the wanted images that are decided, in the order that is wanted.

    The first ones, or those that come next `after` the row with that id, or those that lead up to
    the one `before` which they stand. The limits of `wanted` do not count. Nothing comes before or
    after a row that is not there.
    """
    if before is not None:
        backwards = replace(wanted, order=REVERSED[wanted.order])
        found = _beyond(engine, backwards, size + 1, before)
        return Page(found[:size][::-1], has_before=len(found) > size, has_after=True)
    found = _beyond(engine, wanted, size + 1, after)
    return Page(found[:size], has_before=after is not None, has_after=len(found) > size)


def _beyond(engine: sa.Engine, wanted: Filter, most: int, mark: int | None) -> list[dict[str, Any]]:
    """At most so many that follow the row `mark`."""
    columns = key(wanted.order)
    query = sa.select(results).where(*conditions(wanted), results.c.state.not_in(UNFINISHED))
    with engine.connect() as connection:
        if mark is not None:
            there = connection.execute(
                sa.select(*columns).where(results.c.id == mark)
            ).one_or_none()
            if there is None or there[0] is None:
                return []
            row, marked = sa.tuple_(*columns), tuple(there)
            query = query.where(row < marked if wanted.order in FALLING else row > marked)
        return list(fetch(connection, query.order_by(*ordering(wanted.order)).limit(most)))
