"""The world fails: disks fill up, go away and come back, databases are locked, lost or damaged.

In each case the service says so once, loses nothing, and goes on when it can.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon.disturbed import at_the_first_decoding, disturb
from tests.daemon.test_pipeline import Line
from tests.disks import Disk
from tests.helpers import PATIENCE, Place, Service, jpeg, moodsort, sha256
from trainer.bundle import Bundle

QUICK = ("--settle-seconds", "0.1")


@pytest.fixture
def disk(place: Place, tmp_path: Path) -> Iterator[Disk]:
    """Where happy images go."""
    disk = Disk(place.happy, tmp_path / "store")
    yield disk
    disk.throw_away()


def drop(place: Place, *seeds: int) -> Counter[str]:
    """Says what was dropped, as hashes."""
    for seed in seeds:
        (place.inbox / f"{seed}.jpg").write_bytes(jpeg("happy", seed))
    return Counter(sha256(jpeg("happy", seed)) for seed in seeds)


def assert_it_waits_and_goes_on(
    service: Service, dropped: Counter[str], reason: str, repair: Callable[[], object]
) -> None:
    """It has said once why it waits, nothing is lost; repaired, it files all and says so."""
    place = service.place
    service.wait_for(lambda: "cannot go on" in service.said(), "it says that it waits")
    assert place.contents() == dropped
    repair()
    service.wait_drained(dropped.total())
    service.wait_for(lambda: "going on" in service.said(), "it says that it goes on")
    told = [line for line in service.said().splitlines() if "cannot go on" in line]
    assert len(told) == 1
    assert reason in told[0]
    assert service.stop() == 0
    place.assert_promise(dropped)


def test_a_full_destination(place: Place, disk: Disk) -> None:
    with Service(place, *QUICK) as service:
        service.wait_until_ready()
        disk.fill()
        dropped = drop(place, 1, 2, 3)
        assert_it_waits_and_goes_on(service, dropped, "No space left on device", disk.make_room)


def test_a_read_only_destination(place: Place, disk: Disk) -> None:
    with Service(place, *QUICK) as service:
        service.wait_until_ready()
        disk.protect()
        dropped = drop(place, 1, 2, 3)
        assert_it_waits_and_goes_on(service, dropped, "Read-only file system", disk.unprotect)


def test_a_destination_that_is_not_mounted(place: Place, disk: Disk) -> None:
    """The mount point is still there, and empty."""
    with Service(place, *QUICK, "--poll") as service:
        service.wait_until_ready()
        disk.pull_out()
        dropped = drop(place, 1, 2, 3)
        assert_it_waits_and_goes_on(service, dropped, "Its disk is not mounted", disk.plug_in)


@contextlib.contextmanager
def once_it_waits(repair: Callable[[], object]) -> Iterator[list[str]]:
    """Do something about it as soon as the service says that it waits; gives what it says."""
    said: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())
            if "cannot go on" in said[-1]:
                repair()

    log, handler = logging.getLogger("daemon.pipeline"), Handler()
    log.addHandler(handler)
    try:
        yield said
    finally:
        log.removeHandler(handler)


def test_a_disk_that_is_full_when_decisions_are_to_be_recorded(
    place: Place, shipped: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(place.root / "database", tmp_path / "store")
    place.database = disk.at / "moodsort.db"
    try:
        dropped = drop(place, 1, 2, 3)
        disturb(monkeypatch, at_the_first_decoding(disk.fill))
        with once_it_waits(disk.make_room) as said:
            Line(place, shipped).run()
        assert len(said) == 1
        assert "full" in said[0]
        place.assert_promise(dropped)
    finally:
        disk.throw_away()


def test_a_database_that_is_moved_away(place: Place) -> None:
    with Service(place, *QUICK) as service:
        service.wait_until_ready()
        dropped = drop(place, 1)
        service.wait_drained(1)
        away = place.database.rename(place.root / "away")
        dropped += drop(place, 2, 3)
        service.wait_for(lambda: "cannot go on" in service.said(), "it waits")
        assert not place.database.exists()
        repair = functools.partial(away.rename, place.database)
        assert_it_waits_and_goes_on(service, dropped, "Put it back", repair)


def test_a_database_that_is_replaced(place: Place) -> None:
    with Service(place, *QUICK) as service:
        service.wait_until_ready()
        dropped = drop(place, 1)
        service.wait_drained(1)
        copy = place.root / "copy"
        with contextlib.closing(sqlite3.connect(place.database)) as link:
            link.execute("VACUUM INTO ?", [str(copy)])
        copy.rename(place.database)
        dropped += drop(place, 2)
        assert service.process.wait(PATIENCE) == 1
    last = service.said().splitlines()[-1]
    assert last.startswith("Error: Another file has taken the place of the database")
    assert "Traceback" not in service.said()
    with Service(place, *QUICK) as service:
        service.wait_drained(2)
    place.assert_promise(dropped)


def test_a_database_that_is_damaged(place: Place) -> None:
    """It is refused at the start, and nothing is put in its place."""
    with Service(place, *QUICK) as service:
        service.wait_until_ready()
        drop(place, 1)
        service.wait_drained(1)
        assert service.stop() == 0
    pages = place.database.read_bytes()
    place.database.write_bytes(b"\xff" * 4096 + pages[4096:])
    before = place.database.read_bytes()
    refused = moodsort("run", "--inbox", place.inbox, *place.destinations())
    assert refused.returncode == 1
    assert "restore a copy; it is never overwritten" in refused.stderr
    assert "Traceback" not in refused.stderr + refused.stdout
    assert place.database.read_bytes() == before


def test_a_clock_that_was_set_back(place: Place) -> None:
    """All that is recorded then lies in the future, also what was left half done."""
    with Service(place, *QUICK) as service:
        service.wait_until_ready()
        dropped = drop(place, 1, 2)
        service.wait_drained(2)
        assert service.stop() == 0
    filed = place.row("2.jpg")
    Path(filed["destination_path"]).rename(filed["source_path"])
    with contextlib.closing(sqlite3.connect(place.database)) as link, link:
        future = "2199-01-01 00:00:00.000000"
        link.execute("UPDATE images SET claimed_at = ?, decided_at = ?, filed_at = ?", [future] * 3)
        link.execute(
            "UPDATE images SET state = 'decided', filed_at = NULL WHERE id = ?", [filed["id"]]
        )
    with Service(place, *QUICK) as service:
        service.wait_until_ready()
        dropped += drop(place, 3)
        service.wait_drained(3)
        told = moodsort("results", "--json", "--database", place.database).stdout.splitlines()
        assert {json.loads(row)["id"] for row in told} == {row["id"] for row in place.rows()}
        assert service.stop() == 0
    place.assert_promise(dropped)


def test_more_folders_than_can_be_watched(place: Place) -> None:
    """The kernel counts watches for each user namespace: in one of its own there are two."""
    limit = "echo 2 > /proc/sys/user/max_inotify_watches"
    few = ("unshare", "--user", "--map-root-user", "sh", "-c")
    if subprocess.run([*few, limit], capture_output=True, check=False).returncode:
        pytest.skip("the number of watches cannot be limited here")
    folders = [place.inbox / name for name in "abcd"]
    for folder in folders:
        folder.mkdir()
    with Service(place, *QUICK, under=(*few, f'{limit}; exec "$@"', "sh")) as service:
        service.wait_until_ready()
        service.wait_for(lambda: "watches no more folders" in service.said(), "it says so")
        for seed, folder in enumerate(folders):
            (folder / "a.jpg").write_bytes(jpeg("sad", seed))
        service.wait_drained(4)
        assert service.said().count("cannot watch the inbox") == 1
        assert service.stop() == 0
    place.assert_promise(Counter(sha256(jpeg("sad", seed)) for seed in range(4)))


def fill_queue_of_events(place: Place) -> None:
    """Make more events than the kernel keeps for who watches the inbox, of a file to be ignored."""
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    noise = place.inbox / ".noise"
    for _ in range(most // 2 + 1):  # It is made, and it is closed.
        noise.write_bytes(b"")
        noise.unlink()


def test_more_events_than_the_kernel_keeps(place: Place) -> None:
    dropped: Counter[str] = Counter()
    with Service(place, *QUICK) as service:
        service.wait_until_ready()
        for first in (0, 20):
            service.process.send_signal(signal.SIGSTOP)
            os.waitpid(service.process.pid, os.WUNTRACED)  # Until then it takes events.
            fill_queue_of_events(place)
            dropped += drop(place, *range(first, first + 20))
            service.process.send_signal(signal.SIGCONT)
            service.wait_drained(first + 20)
        assert service.said().count("more happens in the inbox than can be watched") == 1
        assert "overflow" not in service.said()
        assert service.stop() == 0
    place.assert_promise(dropped)
