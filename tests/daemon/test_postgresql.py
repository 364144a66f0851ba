"""The service with PostgreSQL in place of a file."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from daemon.status import examine
from tests.helpers import Place, Service, jpeg, json_lines, moodsort, sha256
from tests.postgres import PASSWORD, Server

QUICK = ("--settle-seconds", "0.1")


@pytest.fixture
def place(postgres_place: Place) -> Place:
    return postgres_place


def drop(place: Place, *seeds: int) -> Counter[str]:
    """Says what was dropped, as hashes."""
    for seed in seeds:
        (place.inbox / f"{seed}.jpg").write_bytes(jpeg("happy", seed))
    return Counter(sha256(jpeg("happy", seed)) for seed in seeds)


def test_all_that_works_with_sqlite_works(place: Place) -> None:
    dropped = drop(place, *range(4))
    with Service(place, *QUICK) as service:
        service.wait_drained(4)
        filed = Path(place.row("0.jpg")["destination_path"])
        other = "sad" if filed.parent == place.happy else "happy"
        corrected = moodsort(
            "correct", filed, "--label", other, "--inbox", place.inbox, *place.destinations()
        )
        assert corrected.returncode == 0, corrected.stderr
        by_hand = Path(place.row("1.jpg")["destination_path"])
        renamed = by_hand.rename(by_hand.with_name("renamed.jpg"))
        service.wait_for(
            lambda: place.row("1.jpg")["destination_path"] == str(renamed), "it is followed"
        )
        assert service.stop() == 0
    assert place.row("0.jpg")["corrected_label"] == other
    place.assert_promise(dropped)
    environ = {"MOODSORT_DATABASE": place.database}
    assert len(json_lines(ask("results", "--json", **environ))) == 4
    assert ask("stats", **environ).startswith("images  4\n")
    assert PASSWORD not in service.said()


def ask(*args: str, **environ: str) -> str:
    done = moodsort(*args, env=os.environ | environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_server_that_goes_away_amid_the_work(place: Place, postgres: Server) -> None:
    with Service(place, *QUICK) as service:
        dropped = drop(place, 1)
        service.wait_drained(1)
        postgres.stop(signal.SIGQUIT)
        try:
            dropped += drop(place, 2, 3)
            service.wait_for(lambda: "cannot go on" in service.said(), "it says that it waits")
            assert place.contents() == dropped
        finally:
            postgres.start()
        service.wait_drained(3)
        service.wait_for(lambda: "going on" in service.said(), "it says that it goes on")
        assert service.said().count("cannot go on") == 1
        assert service.stop() == 0
    place.assert_promise(dropped)


def test_a_server_that_is_not_there_yet_is_waited_for(place: Place, postgres: Server) -> None:
    dropped = drop(place, 1)
    postgres.stop()
    with Service(place, *QUICK) as service:
        try:
            reason = "It waits: The database postgresql+psycopg://moodsort:***@/"
            service.wait_for(lambda: reason in str(examine(place.inbox)[0].reasons), "it says so")
        finally:
            postgres.start()
        service.wait_drained(1)
        assert PASSWORD not in service.said()
        assert service.stop() == 0
    place.assert_promise(dropped)


def test_who_is_not_let_in_ends_at_once(place: Place, postgres: Server) -> None:
    place.database = postgres.url("none", "wrong word")
    refused = moodsort("run", "--inbox", place.inbox, *place.destinations())
    assert refused.returncode == 1
    last = refused.stderr.splitlines()[-1]
    assert last.startswith("Error: The database postgresql+psycopg://moodsort:***@/none")
    assert "password authentication failed" in last
    assert "wrong word" not in refused.stderr + refused.stdout
