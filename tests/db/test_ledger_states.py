"""Whatever is done to the ledger in whatever order, it knows what a simple model knows."""

from __future__ import annotations

import functools
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from db.engine import open_for_writing
from db.errors import LedgerUnavailable
from db.ledger import Decision, Ledger, Source
from tests.helpers import Place

NAMES = [b"a.jpg", b"b.jpg", b"c\n.jpg", b"\xff.jpg", b"\xfe.jpg", "é.jpg".encode()]
SOURCES = [Source(Path("/inbox") / os.fsdecode(name), 3, 5) for name in NAMES]
IDS = st.lists(st.integers(1, 12), max_size=4, unique=True)


@dataclass(frozen=True)
class Row:
    """What the model knows of one."""

    source: Source
    state: str = "claimed"
    destination: Path | None = None
    bad: bool = False

    @property
    def is_open(self) -> bool:
        return self.state in ("claimed", "decided")


@functools.cache
def fresh_database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        open_for_writing(f"{folder}/moodsort.db").dispose()
        return (Path(folder) / "moodsort.db").read_bytes()


class Life(RuleBasedStateMachine):
    """The ledger and the model, through the same life."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.place = Place(Path(self.folder.name))
        self.place.database.write_bytes(fresh_database())
        self.ledger = Ledger(open_for_writing(str(self.place.database)))
        self.rows: dict[int, Row] = {}

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
            self.folder.cleanup()

    @rule(sources=st.lists(st.sampled_from(SOURCES), max_size=4))
    def claim(self, sources: list[Source]) -> None:
        ids = self.ledger.claim(sources)
        for id, source in zip(ids, sources, strict=True):
            held = any(row.source == source and row.is_open for row in self.rows.values())
            assert (id is None) == held
            if id is not None:
                assert id not in self.rows
                self.rows[id] = Row(source)

    @rule(ids=IDS, numbers=st.lists(st.integers(1, 9), min_size=4, max_size=4), bad=st.booleans())
    def decide(self, ids: list[int], numbers: list[int], bad: bool) -> None:
        chosen = {
            id: Path(f"/to/{number}")
            for id, number in zip(ids, numbers, strict=False)
            if id in self.rows and self.rows[id].is_open
        }
        code = "empty" if bad else None
        decisions = [Decision(id, to, 3, 5, None, error_code=code) for id, to in chosen.items()]
        if self.refused(chosen, lambda: self.ledger.decide(decisions)):
            return
        for id, to in chosen.items():
            self.rows[id] = replace(self.rows[id], state="decided", destination=to, bad=bad)

    @rule(ids=IDS, number=st.integers(1, 9))
    def redirect(self, ids: list[int], number: int) -> None:
        decided = [id for id in ids if id in self.rows and self.rows[id].state == "decided"]
        chosen = {id: Path(f"/to/{number}") for id in decided[:1]}
        if not self.refused(chosen, lambda: self.ledger.redirect(chosen)):
            for id, to in chosen.items():
                self.rows[id] = replace(self.rows[id], destination=to)

    def refused(self, chosen: dict[int, Path], action) -> bool:
        """Whether a destination would belong to two rows; then nothing may come of the action."""
        others = [row.destination for id, row in self.rows.items() if id not in chosen]
        clash = len(set(chosen.values())) < len(chosen) or set(chosen.values()) & set(others)
        if not clash:
            action()
            return False
        with pytest.raises(LedgerUnavailable):
            action()
        return True

    @rule(ids=IDS)
    def finish(self, ids: list[int]) -> None:
        self.ledger.finish(ids)
        for id in ids:
            row = self.rows.get(id)
            if row and row.state == "decided":
                self.rows[id] = replace(row, state="failed" if row.bad else "filed")

    @rule(ids=IDS)
    def release(self, ids: list[int]) -> None:
        self.ledger.release(ids)
        self.rows = {id: row for id, row in self.rows.items() if id not in ids or not row.is_open}

    @precondition(lambda self: self.rows)
    @rule()
    def start_again(self) -> None:
        self.ledger.close()
        self.ledger = Ledger(open_for_writing(str(self.place.database)))

    @invariant()
    def the_rows_are_those_of_the_model(self) -> None:
        stored = {row["id"]: (row["state"], row["destination_path"]) for row in self.place.rows()}
        assert stored == {
            id: (row.state, str(row.destination) if row.destination else None)
            for id, row in self.rows.items()
        }

    @invariant()
    def what_is_unfinished_is_told_in_order(self) -> None:
        told = [(row.id, row.source, row.destination) for row in self.ledger.unfinished()]
        assert told == [
            (id, row.source, row.destination)
            for id, row in sorted(self.rows.items())
            if row.is_open
        ]

    @invariant()
    def taken_destinations_are_told(self) -> None:
        asked = [Path(f"/to/{number}") for number in range(1, 12)]
        assert self.ledger.taken(asked) == {
            row.destination for row in self.rows.values() if row.destination
        }


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
