"""SIGHUP: other settings and another model for a service that works."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.daemon.manager import Manager
from tests.helpers import Place, Service, jpeg, sha256

SHIPPED = Path(__file__).parent.parent.parent / "trainer" / "pretrained"


class Reloading:
    """A service with a file of settings, which may be changed."""

    def __init__(self, root: Path, manager: Manager) -> None:
        self.place = Place(root / "place")
        self.config = root / "moodsort.toml"
        self.config.write_text('model = "default"\n')
        self.manager = manager
        self.service = Service(
            self.place, "--config", str(self.config), "--batch-size", "8", **manager.environ(60)
        )

    def ask(self, text: str) -> None:
        """Reload with other settings, and wait until that has come to an end."""
        began = time.monotonic()
        self.config.write_text(text)
        self.service.process.send_signal(signal.SIGHUP)
        self.manager.wait_for("READY=1", began)
        [told] = self.manager.told("RELOADING=1", began)
        assert began * 1e6 <= int(told.removeprefix("RELOADING=1\nMONOTONIC_USEC="))

    def model_of(self, name: str) -> str:
        names = {row["id"]: row["name"] for row in self.place.rows("models")}
        return str(names[self.place.row(name)["model_id"]])


@contextmanager
def reloading_service(root: Path) -> Iterator[Reloading]:
    with Manager() as manager:
        one = Reloading(root, manager)
        with one.service:
            manager.wait_until_ready(one.service)
            yield one
            assert one.service.stop() == 0, one.service.said()


@pytest.fixture(scope="module")
def reloading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reloading]:
    """For tests that only add to what is there."""
    with reloading_service(tmp_path_factory.mktemp("reload")) as one:
        yield one


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Reloading]:
    with reloading_service(tmp_path) as one:
        yield one


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the same networks that goes by another name."""
    folder = tmp_path_factory.mktemp("bundle") / "other"
    shutil.copytree(SHIPPED, folder)
    info = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(info | {"name": "other"}))
    return folder


def test_while_files_pour_in_none_is_missed_or_decided_twice(fresh: Reloading, other: Path) -> None:
    place, count = fresh.place, 240
    dropped: Counter[str] = Counter()
    enough = threading.Event()

    def pour() -> None:
        for n in range(count):
            data = jpeg("sad" if n % 2 else "happy", n % 60)
            dropped[sha256(data)] += 1
            (place.inbox / f"{n}.jpg").write_bytes(data)
            enough.wait(0.02)

    pouring = threading.Thread(target=pour)
    pouring.start()
    try:
        for model in (other, "default", other):
            fresh.ask(f'model = "{model}"\nunsure_below = 0.2\n')
            assert place.unsure.is_dir()
    finally:
        enough.set()
        pouring.join()
    assert fresh.service.said().count("INFO reloaded model=") == 3
    (place.inbox / "last.jpg").write_bytes(jpeg("happy", 1))
    dropped[sha256(jpeg("happy", 1))] += 1
    fresh.service.wait_drained(count + 1)
    place.assert_promise(dropped)
    assert fresh.model_of("0.jpg") != "other"
    assert fresh.model_of("last.jpg") == "other"
    ids = [row["id"] for row in place.rows()]
    assert len(ids) == len(set(ids)) == count + 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("bach_size = 8", "unknown key 'bach_size'"),
        ('model = "none"', "There is no model bundle"),
        ('happy = "happy"\nrecursive = false\npoll = true', "change recursive, poll, restart the"),
    ],
)
def test_what_is_no_good_is_refused_once_and_the_old_goes_on(
    reloading: Reloading, text: str, reason: str
) -> None:
    before = reloading.service.said()
    reloading.ask(text)
    said = reloading.service.said().removeprefix(before)
    assert said.count("ERROR not reloaded, going on as before: ") == 1
    assert reason in said
    assert said.count("\n") == 1
    name = f"after-{len(text)}.jpg"
    (reloading.place.inbox / name).write_bytes(jpeg("happy", 3))
    reloading.service.wait_for(lambda: _is_filed(reloading.place, name), "it goes on")


def test_a_full_disk_delays_a_reload_and_nothing_is_lost(reloading: Reloading) -> None:
    place = reloading.place
    away = place.happy.rename(place.root / "away")
    (place.inbox / "waits.jpg").write_bytes(jpeg("happy", 4))
    reloading.service.wait_for(
        lambda: reloading.service.said().count("cannot go on") == 1, "it says that it waits"
    )
    began = time.monotonic()
    reloading.config.write_text("batch_size = 4")
    reloading.service.process.send_signal(signal.SIGHUP)
    reloading.manager.wait_for("RELOADING=1", began)
    threading.Event().wait(1)  # It takes half a second to load the model.
    assert not reloading.manager.told("READY=1", began)
    away.rename(place.happy)
    reloading.manager.wait_for("READY=1", began)
    (place.inbox / "next.jpg").write_bytes(jpeg("happy", 5))
    reloading.service.wait_for(lambda: _is_filed(place, "next.jpg"), "it goes on")
    assert _is_filed(place, "waits.jpg")


def _is_filed(place: Place, name: str) -> bool:
    return any(
        row["state"] == "filed" and Path(row["source_path"]).name == name for row in place.rows()
    )


def test_a_stop_amid_a_reload(place: Place) -> None:
    with Manager() as manager, Service(place, **manager.environ(60)) as service:
        manager.wait_until_ready(service)
        (place.inbox / "a.jpg").write_bytes(jpeg())
        service.process.send_signal(signal.SIGHUP)
        manager.wait_for("RELOADING=1")
        assert service.stop() == 0
        assert "Stopped: " in service.said()
    assert not (place.inbox / ".moodsort.lock").exists()
