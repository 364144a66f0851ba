from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from db.engine import open_for_reading, open_for_writing
from db.ledger import Ledger, Source
from db.paging import page
from db.queries import Filter, find
from db.statistics import tally
from db.terms import Order
from tests.db.filled import fail, judge
from tests.helpers import Place

PROBABILITIES = (0.9, 0.45, 0.3, 0.55, 0.55, 0.1, 0.55, 0.7)


@pytest.fixture
def engine(place: Place) -> Iterator[sa.Engine]:
    """Of eight judged, two failed images and one that is only claimed."""
    for n, p_sad in enumerate(PROBABILITIES):
        judge(place, f"{n}.jpg", p_sad)
    fail(place, "bad.jpg")
    fail(place, "worse.jpg", "truncated")
    ledger = Ledger(open_for_writing(str(place.database)))
    ledger.claim([Source(place.inbox / "new.jpg", 1, 0)])
    ledger.close()
    reader = open_for_reading(str(place.database))
    yield reader
    reader.dispose()


def ids(rows: list[dict[str, Any]]) -> list[int]:
    return [row["id"] for row in rows]


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("label", [None, "sad"])
def test_pages_are_the_whole_in_its_order_forwards_and_backwards(
    engine: sa.Engine, order: Order, label: str | None
) -> None:
    wanted = Filter(order=order, label=label)
    whole = ids([row for row in find(engine, wanted) if row["state"] != "claimed"])
    pages = [page(engine, wanted, 3)]
    while pages[-1].has_after:
        pages.append(page(engine, wanted, 3, after=pages[-1].rows[-1]["id"]))
    assert [id for one in pages for id in ids(one.rows)] == whole
    assert [one.has_before for one in pages] == [False] + [True] * (len(pages) - 1)
    back = [pages[-1]]
    while back[-1].has_before:
        back.append(page(engine, wanted, 3, before=back[-1].rows[0]["id"]))
    assert back == pages[::-1]


def test_what_comes_meanwhile_shifts_no_page(place: Place, engine: sa.Engine) -> None:
    first = page(engine, Filter(), 3)
    judge(place, "later.jpg", 0.5)
    assert ids(page(engine, Filter(), 3, after=first.rows[-1]["id"]).rows) == [7, 6, 5]
    new = page(engine, Filter(), 3, before=first.rows[0]["id"])
    assert (ids(new.rows), new.has_before, new.has_after) == ([12], False, True)


def test_beyond_a_row_that_is_not_there_is_nothing(engine: sa.Engine) -> None:
    assert page(engine, Filter(), 3, after=999).rows == []
    assert page(engine, Filter(order=Order.LEAST_CERTAIN), 3, before=9).rows == []


@pytest.mark.parametrize(
    "asked_for",
    [
        *({}, {"label": "sad"}, {"state": "failed"}, {"error": "empty"}),
        *({"corrected": True}, {"corrected": False}),
    ],
    ids=str,
)
def test_no_page_is_sorted_nor_the_table_walked(
    engine: sa.Engine, asked_for: dict[str, Any]
) -> None:
    wanted = Filter(**asked_for)
    asked: list[tuple[str, Any]] = []
    sa.event.listen(
        engine,
        "before_cursor_execute",
        lambda c, cursor, statement, parameters, *rest: asked.append((statement, parameters)),
    )
    failed = wanted.state or wanted.error or wanted.corrected
    for order in (Order.NEWEST, Order.OLDEST) if failed else Order:
        page(engine, replace(wanted, order=order), 3, after=5)
    questions = [one for one in asked if one[0].startswith("SELECT")]
    assert questions
    with engine.connect() as connection:
        for statement, parameters in questions:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            steps = " ".join(step[3] for step in plan)
            assert "USE TEMP B-TREE" not in steps
            assert "SCAN images" not in steps
            assert "SEARCH images USING" in steps


def test_a_tally_counts_what_is_decided(engine: sa.Engine) -> None:
    counts = tally(engine)
    assert counts.labels == {"happy": 3, "sad": 5}
    assert (counts.failed, counts.corrected, counts.decided) == (2, 0, 10)
