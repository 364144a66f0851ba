"""Several services on one inbox and one database: real processes, a real server."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from daemon import doctor, process
from daemon.doctor import Finding, repair
from daemon.membership import Membership
from daemon.pipeline import Folders, recover
from daemon.status import examine
from db import postgresql
from db.engine import open_for_writing
from db.errors import ClaimsLost
from db.ledger import Decision, Ledger, Source
from db.schema import Service as ServiceRow
from db.services import Services
from db.terms import Process
from tests.daemon.test_postgresql import QUICK, drop
from tests.helpers import PATIENCE, Place, Service, wait_until
from tests.postgres import PostgresPlace

ELSEWHERE = Process("elsewhere", 1, "another machine 1 1")
LEASE = 0.6


@pytest.fixture
def place(postgres_place: Place) -> Place:
    return postgres_place


@pytest.fixture
def services(place: Place) -> Iterator[Services]:
    engine = open_for_writing(place.database)
    yield Services(engine)
    engine.dispose()


@pytest.fixture
def ledgers(place: Place, services: Services) -> Iterator[list[Ledger]]:
    """Of three services on another machine."""
    ids = [services.enlist(ELSEWHERE, place.inbox, LEASE) for _ in range(3)]
    ledgers = [Ledger(open_for_writing(place.database), id) for id in ids]
    yield ledgers
    for ledger in ledgers:
        ledger.close()


def well(place: Place) -> set[int]:
    """The services of the inbox that are."""
    return {one.report.pid for one in examine(place.inbox) if one.healthy and one.report}


@contextmanager
def member(
    place: Place,
    goes_on: Callable[[], bool] = lambda: True,
    on_loss: Callable[[], None] = lambda: None,
) -> Iterator[Membership]:
    """One that gives signs of life."""
    engine = open_for_writing(place.database)
    one = Membership(engine, place.inbox, lease_seconds=LEASE, goes_on=goes_on, on_loss=on_loss)
    one.start()
    try:
        yield one
    finally:
        one.stop()
        engine.dispose()


def claim(place: Place, ledger: Ledger, name: str = "a.jpg") -> int | None:
    return ledger.claim([Source(place.inbox / name, 1, 1)])[0]


def bury_the_first(place: Place, services: Services) -> None:
    assert services.bury(services.others(None, place.inbox)[0])


def test_claims_of_one_that_is_gone_are_taken_over_by_one_other(
    place: Place, services: Services, ledgers: list[Ledger]
) -> None:
    dead, heir, late = ledgers
    row = claim(place, dead)
    assert claim(place, heir) is None
    assert heir.unfinished() == []
    assert heir.take_over([row]) == set()
    bury_the_first(place, services)
    assert [one.id for one in late.unfinished()] == [row]
    assert heir.take_over([row]) == {row}
    assert late.take_over([row]) == set()
    assert heir.unfinished() == late.unfinished() == []


def test_one_that_was_taken_for_dead_can_write_nothing(
    place: Place, services: Services, ledgers: list[Ledger]
) -> None:
    ledger = ledgers[0]
    row = claim(place, ledger) or 0
    bury_the_first(place, services)
    for step in (
        lambda: ledger.decide([Decision(row, place.happy / "a.jpg", 1, 1, None, label="happy")]),
        lambda: ledger.finish([row]),
        lambda: ledger.release([row]),
        lambda: claim(place, ledger, "b.jpg"),
        ledger.require_claims,
    ):
        with pytest.raises(ClaimsLost, match="took this one for dead"):
            step()
    assert [one["state"] for one in place.rows()] == ["claimed"]


def test_one_that_has_given_a_sign_of_life_since_is_not_buried(
    place: Place, services: Services, ledgers: list[Ledger]
) -> None:
    seen = services.others(None, place.inbox)[0]
    assert services.beat(seen.id)
    assert not services.bury(seen)


def test_a_claim_whose_answer_got_lost_is_found_again(
    place: Place, services: Services, ledgers: list[Ledger]
) -> None:
    id = services.others(None, place.inbox)[0].id
    forgetful = Ledger(open_for_writing(place.database), id)
    row = claim(place, forgetful)
    assert forgetful.unfinished() == []
    forgetful.close()
    assert [one.id for one in ledgers[0].unfinished()] == [row]
    assert ledgers[0].take_over([row]) == {row}
    assert ledgers[0].unfinished() == []


def test_a_recovery_leaves_alone_what_others_work_on(place: Place, ledgers: list[Ledger]) -> None:
    claim(place, ledgers[0])
    folders = Folders(place.inbox, place.happy, place.sad, place.failed, place.unsure)
    assert recover(ledgers[1], folders, threading.Event()).given_back == 0
    assert len(place.rows()) == 1


def test_who_gives_signs_of_life_is_not_buried_and_who_stops_is(place: Place) -> None:
    """Both are this process, which is there: only signs of life tell."""
    hangs, lost = threading.Event(), threading.Event()
    with member(place, lambda: not hangs.is_set()) as one, member(place, on_loss=lost.set):
        first = place.rows("services")[0]["beat_at"]
        wait_until(lambda: place.rows("services")[0]["beat_at"] > first, "it beats")
        assert len(place.rows("services")) == 2
        hangs.set()
        wait_until(lost.is_set, "it is buried")
        assert len(place.rows("services")) == 1
        hangs.clear()
        wait_until(lambda: one.failure, "it notices")
        assert isinstance(one.failure, ClaimsLost)


def test_one_that_is_paused_amid_a_pipeline_is_buried_all_the_same(
    place: PostgresPlace, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the server's own limit does not count."""
    monkeypatch.setattr(postgresql, "PAUSED", "1s")
    dead = services.enlist(ELSEWHERE, place.inbox, LEASE)
    limit = "-c idle_in_transaction_session_timeout=1s"
    with (
        suppress(psycopg.OperationalError),  # Its session was ended.
        psycopg.connect(
            place.conninfo, application_name=postgresql.APPLICATION, options=limit
        ) as paused,
        paused.pipeline(),
    ):
        paused.execute("SELECT FROM services WHERE id = %s FOR UPDATE", [dead]).fetchone()
        with member(place) as one:
            wait_until(lambda: not services.others(one.id, place.inbox), "it is buried")
            assert one.failure is None


def test_who_leaves_in_order_leaves_nothing_behind(place: Place) -> None:
    with member(place), member(place):
        assert len(place.rows("services")) == 2
    assert place.rows("services") == []


def test_a_process_that_has_ended_is_gone_for_certain() -> None:
    me = process.current()
    assert not process.is_gone(me)
    assert process.is_gone(Process(me.host, me.pid, f"{me.process}0"))  # One had its number.
    *machine, _, began = me.process.split()
    nobody = 2**22 + 1  # Higher than any.
    assert process.is_gone(Process(me.host, nobody, f"{' '.join(machine)} {nobody} {began}"))
    assert not process.is_gone(ELSEWHERE)


def test_one_of_this_machine_that_was_killed_is_buried_at_once(
    place: Place, services: Services
) -> None:
    me = process.current()
    with subprocess.Popen(["sleep", "60"]) as other:
        began = Path(f"/proc/{other.pid}/stat").read_text().split()[21]
        name = " ".join([*me.process.split()[:2], str(other.pid), began])
        services.enlist(Process(me.host, other.pid, name), place.inbox, 3600)
        with member(place):
            assert len(place.rows("services")) == 2
        other.kill()
    with member(place) as one:
        assert [row["id"] for row in place.rows("services")] == [one.id]


def test_two_share_the_work_and_one_that_sleeps_leaves_it_to_the_other(place: Place) -> None:
    options = (*QUICK, "--lease-seconds", "2", "--batch-size", "8")
    with Service(place, *options, number=1) as one, Service(place, *options, number=2) as other:
        both = {one.process.pid, other.process.pid}
        wait_until(lambda: well(place) == both, "both are well")
        dropped = drop(place, *range(100))
        one.wait_for(lambda: len(place.filed()) > 20, "they are amid the work")
        one.process.send_signal(signal.SIGSTOP)
        other.wait_drained(100)
        other.wait_for(lambda: "another service is gone" in other.said(), "it is missed")
        assert len(examine(place.inbox)) == 1
        one.process.send_signal(signal.SIGCONT)
        assert one.process.wait(PATIENCE) == 1
        assert "took this one for dead" in one.said().splitlines()[-1]
        assert "left alone" not in other.said() + one.said()
        assert other.stop() == 0
    place.assert_promise(dropped)
    assert [path for path in place.inbox.iterdir() if path.is_file()] == []


def test_the_doctor_leaves_alone_what_others_work_on_and_repairs_what_nobody_does(
    place: Place, services: Services
) -> None:
    for folder in (place.happy, place.sad, place.failed):
        folder.mkdir()
    source = place.inbox / "a.jpg"
    source.write_bytes(b"x")
    id = services.enlist(ELSEWHERE, place.inbox, 3600)
    with closing(Ledger(open_for_writing(place.database), id)) as ledger:
        row = claim(place, ledger)
    assert list(examine_rows(place)) == []
    assert list(repair(place.settings())) == []
    place.change(sa.update(ServiceRow).values(lease_seconds=0))
    assert [(one.problem, one.id) for one in examine_rows(place)] == [("stale_claim", row)]
    assert [(one.done, one.id) for one in repair(place.settings())] == [("given back", row)]
    assert place.rows() == place.rows("services") == []


def examine_rows(place: Place) -> Iterator[Finding]:
    return doctor.examine(place.settings(), deep=False)
