"""The service and who started it: a real socket, a real child process, real signals.

It stands in for systemd, which cannot be started in a test.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.manager import Manager, held, workers
from tests.helpers import Place, Service, jpeg, moodsort, wait_until

WATCHDOG_SECONDS = 1.0


@pytest.fixture(scope="module")
def manager() -> Iterator[Manager]:
    with Manager() as one:
        yield one


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, manager: Manager) -> Iterator[Service]:
    place = Place(tmp_path_factory.mktemp("place"))
    with Service(place, "--decode-workers", "1", **manager.environ(WATCHDOG_SECONDS)) as running:
        manager.wait_until_ready(running)
        yield running
        running.stop()


def drop(place: Place, *names: str) -> None:
    for n, name in enumerate(names):
        (place.inbox / name).write_bytes(jpeg("happy", n))


def workers_when_ready(manager: Manager, service: Service) -> list[int]:
    manager.wait_until_ready(service)
    return workers(service)


def fed_in_time(manager: Manager, seconds: float) -> bool:
    """Whether the watchdog is never missed for so long."""
    end = time.monotonic() + seconds
    wait_until(
        lambda: manager.silence() > WATCHDOG_SECONDS or time.monotonic() > end,
        "it is missed or the time is up",
    )
    return time.monotonic() > end


def test_ready_is_told_when_it_is_and_not_before(manager: Manager, service: Service) -> None:
    assert len(manager.told("READY=1")) == 1
    assert manager.told("STATUS=")[0] == "STATUS=starting"
    assert "ready" in service.said()
    before = len(service.place.filed())
    drop(service.place, "first.jpg")
    service.wait_drained(before + 1)
    wait_until(
        lambda: f"{before + 1} happy, 0 sad, 0 failed; 0." in manager.told("STATUS=")[-1],
        "it is counted",
    )
    assert manager.told("STATUS=")[-1].endswith(" images/s in the last minute")


def test_processes_that_it_starts_tell_nothing(manager: Manager, service: Service) -> None:
    for worker in workers(service):
        environ = Path(f"/proc/{worker}/environ").read_bytes()
        assert manager.address.encode() not in environ


def test_an_idle_service_feeds_the_watchdog(manager: Manager, service: Service) -> None:
    assert fed_in_time(manager, 1.5 * WATCHDOG_SECONDS)


def test_to_wait_for_a_disk_is_no_hang(manager: Manager, service: Service) -> None:
    place = service.place
    before = len(place.filed())
    away = place.happy.rename(place.root / "away")
    drop(place, "waits.jpg")
    service.wait_for(lambda: "cannot go on" in service.said(), "it says that it waits")
    began = time.monotonic()
    assert fed_in_time(manager, 1.5 * WATCHDOG_SECONDS)
    assert str(place.happy) in manager.wait_for("STATUS=waiting: ", began)
    away.rename(place.happy)
    service.wait_drained(before + 1)


def test_a_hung_batch_starves_the_watchdog(manager: Manager, service: Service) -> None:
    before = len(service.place.filed())
    with held(workers(service)):
        drop(service.place, "hangs.jpg")
        wait_until(lambda: manager.silence() > 1.5 * WATCHDOG_SECONDS, "it is missed")
        assert service.process.poll() is None
    service.wait_drained(before + 1)
    wait_until(lambda: manager.silence() < WATCHDOG_SECONDS, "it is fed again")


def test_a_stop_that_takes_long_asks_for_more_time(place: Place) -> None:
    with (
        Manager() as manager,
        Service(place, "--decode-workers", "1", **manager.environ(60)) as service,
        held(workers_when_ready(manager, service)),
    ):
        drop(place, "unread.jpg")
        service.wait_for(lambda: len(place.rows()) == 1, "it is claimed")
        began = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        manager.wait_for("STOPPING=1", began)
        assert manager.wait_for("EXTEND_TIMEOUT_USEC=", began) == "EXTEND_TIMEOUT_USEC=30000000"
        assert service.process.wait(30) == 0
    assert (place.inbox / "unread.jpg").exists()
    assert place.rows() == []


def test_what_may_get_better_has_not_the_exit_code_of_a_bad_configuration(tmp_path: Path) -> None:
    (tmp_path / "moodsort-data").touch()
    assert moodsort("run", cwd=tmp_path).returncode == 1
