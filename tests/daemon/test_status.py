"""moodsort status, of services that are child processes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from daemon import status
from daemon.cli import main
from daemon.rates import Rates
from tests.daemon.manager import held
from tests.helpers import Place, Service, jpeg, moodsort, wait_until


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    place = Place(tmp_path_factory.mktemp("place"))
    with Service(place) as running:
        yield running.wait_until_ready()


def ask(place: Place) -> tuple[int, dict[str, Any]]:
    """The exit code, and what is told."""
    done = CliRunner().invoke(main, ["status", "--json", "--inbox", str(place.inbox)])
    return done.exit_code, json.loads(done.stdout)


def test_nothing_runs(place: Place) -> None:
    assert ask(place) == (
        1,
        {"running": False, "healthy": False, "reasons": ["It does not run."]},
    )


def test_a_service_that_works(place: Place) -> None:
    with Service(place) as service:
        service.wait_until_ready()
        for n in range(3):
            (place.inbox / f"{n}.jpg").write_bytes(jpeg("happy", n))
        (place.inbox / "bad.jpg").write_bytes(b"no image")
        service.wait_drained(4)
        service.wait_for(lambda: ask(place)[1]["images"].get("failed") == 1, "it is told")
        code, told = ask(place)
    assert (code, told["running"], told["healthy"], told["reasons"]) == (0, True, True, [])
    assert (told["state"], told["pid"]) == ("working", service.process.pid)
    assert told["images"] == {"happy": 3, "sad": 0, "failed": 1}
    assert told["per_second"]["1m"] > 0
    assert told["per_second"].keys() == {"1m", "5m", "15m"}
    assert set(told["waiting"].values()) == {0}
    assert told["model_sha256"] == place.rows("models")[0]["sha256"]
    assert told["free_bytes"].keys() == {"inbox", "happy", "sad", "failed", "database"}
    assert all(free > 0 for free in told["free_bytes"].values())
    [error] = told["last_errors"]
    assert error["level"] == "WARNING"
    assert "code=not_an_image" in error["text"]


def test_for_people(service: Service) -> None:
    done = moodsort("status", "--inbox", service.place.inbox)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "healthy   yes"
    assert lines[1].startswith(f"state     working, process {service.process.pid} on ")


def test_a_service_that_waits_for_a_disk_is_not_well(service: Service) -> None:
    place = service.place
    away = place.happy.rename(place.root / "away")
    (place.inbox / "waits.jpg").write_bytes(jpeg())
    service.wait_for(lambda: ask(place)[0] == 1, "it is told")
    told = ask(place)[1]
    assert str(place.happy) in told["reasons"][0]
    assert told["free_bytes"]["happy"] is None
    away.rename(place.happy)
    service.wait_for(lambda: ask(place)[0] == 0, "it is well again")


def test_a_service_that_hangs(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "STALE_SECONDS", 1.5)
    with held([service.process.pid]):
        reasons = wait_until(lambda: ask(service.place)[1]["reasons"], "it is noticed")
    assert " s: it hangs, or the disk of its inbox is full" in reasons[0]


def test_a_service_that_was_killed_or_has_ended(place: Place) -> None:
    with Service(place) as service:
        service.wait_for(lambda: ask(place)[0] == 0, "it is well")
        service.process.kill()
        service.process.wait()
    code, told = ask(place)
    assert (code, told["reasons"], told["running"]) == (1, ["It was killed."], False)
    assert told["state"] == "working"
    with Service(place) as after:
        after.wait_for(lambda: ask(place)[0] == 0, "it is well")
        assert after.stop() == 0
    assert not [name for name in os.listdir(place.inbox) if name.startswith(".moodsort")]


def test_what_somebody_put_there_is_neither_followed_nor_believed(place: Place) -> None:
    precious = place.root / "precious"
    precious.write_text("mine")
    status.draft_of(place.inbox / status.STATUS_FILE).symlink_to(precious)
    os.mkfifo(place.inbox / status.STATUS_FILE)
    assert ask(place)[1]["reasons"] == ["It does not run."]
    with Service(place) as service:
        service.wait_until_ready()
        service.wait_for(lambda: ask(place)[0] == 0, "it is well")
        service.stop()
    assert precious.read_text() == "mine"


def test_rates_are_of_the_last_minutes() -> None:
    now = 0.0
    rates = Rates(lambda: now)
    for second in range(1, 1201):
        now = float(second)
        rates.note(10 * min(second, 1140))
    assert rates.over(60) == pytest.approx(0)
    assert rates.over(300) == pytest.approx(8)
    assert rates.over(900) == pytest.approx(10 * 840 / 900)
