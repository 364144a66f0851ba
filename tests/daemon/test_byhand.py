"""A service that runs, and people who move what it filed."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from daemon.byhand import ByHand
from daemon.doctor import examine
from daemon.pipeline import Folders
from daemon.service import make_folders
from db.engine import open_for_writing
from db.ledger import Ledger
from tests.daemon.filed import filed
from tests.daemon.test_correcting import correct
from tests.helpers import Place, Service, jpeg, wait_until


@pytest.fixture
def home(place: Place) -> Place:
    make_folders(place.settings())
    return place


@contextmanager
def looked_after(place: Place) -> Iterator[None]:
    """Without the rest of the service, which takes seconds to start."""
    ledger = Ledger(open_for_writing(str(place.database)))
    folders = Folders.of(place.settings().folders)
    by_hand = ByHand(folders, str(place.database), ledger, unsure=True)
    by_hand.start()
    try:
        yield
    finally:
        by_hand.stop()
        ledger.close()


def until(place: Place, name: str, what: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    wait_until(lambda: what(place.row(name)), f"the row of {name} tells it", timeout=20)
    return place.row(name)


def watched(place: Place) -> None:
    """Until what happens is told: something that is made for it is noticed."""
    mark = filed(place, "happy", "mark.jpg", b"mark")
    mark.unlink()
    until(place, "mark.jpg", lambda row: row["missing_since"])


def move(source: Path, destination: Path) -> Path:
    destination.parent.mkdir(parents=True, exist_ok=True)
    return source.rename(destination)


def test_a_move_to_the_other_folder_is_a_correction(home: Place) -> None:
    path = filed(home, "happy", "2024/a.jpg")
    with looked_after(home):
        watched(home)
        there = move(path, home.sad / "new" / "2024" / "b.jpg")
        row = until(home, "a.jpg", lambda row: row["corrected_label"])
        assert (row["corrected_label"], row["label"], row["state"]) == ("sad", "happy", "filed")
        assert row["corrected_at"]
        assert row["destination_path"] == str(there)
        assert row["missing_since"] is None
        move(there, path)
        row = until(home, "a.jpg", lambda row: row["destination_path"] == str(path))
        assert row["corrected_label"] == "happy"
    assert list(examine(home.settings(), deep=True)) == []


def test_what_was_moved_while_no_service_ran_is_noticed_at_the_start(home: Place) -> None:
    moved = filed(home, "happy", "moved.jpg")
    filed(home, "sad", "gone.jpg").unlink()
    stays = filed(home, "sad", "stays.jpg")
    filed(home, "happy", "other.jpg")
    move(moved, home.sad / "deep" / "moved.jpg")
    (home.sad / "own.jpg").write_bytes(jpeg("happy", 77))
    with looked_after(home):
        until(home, "moved.jpg", lambda row: row["corrected_label"] == "sad")
        until(home, "gone.jpg", lambda row: row["missing_since"])
    row = home.row("stays.jpg")
    assert (row["destination_path"], row["missing_since"]) == (str(stays), None)
    assert (home.sad / "own.jpg").exists()


def test_a_new_name_is_noted_and_says_nothing(home: Place) -> None:
    path = filed(home, "happy")
    with looked_after(home):
        watched(home)
        there = move(path, home.happy / "holiday" / "b.jpg")
        row = until(home, "a.jpg", lambda row: row["destination_path"] == str(there))
        assert (row["corrected_label"], row["missing_since"]) == (None, None)


def test_what_is_removed_is_noted_and_what_comes_back_too(home: Place) -> None:
    path = filed(home, "happy")
    data = path.read_bytes()
    with looked_after(home):
        watched(home)
        path.unlink()
        until(home, "a.jpg", lambda row: row["missing_since"])
        path.write_bytes(data)
        row = until(home, "a.jpg", lambda row: not row["missing_since"])
        assert (row["state"], row["corrected_label"]) == ("filed", None)


def test_a_folder_is_moved_whole(home: Place) -> None:
    for n in range(30):
        filed(home, "happy", f"trip/day/{n}.jpg", jpeg("happy", n))
    with looked_after(home):
        watched(home)
        move(home.happy / "trip", home.sad / "trip")
        for n in range(30):
            row = until(home, f"{n}.jpg", lambda row: row["corrected_label"] == "sad")
            assert row["destination_path"] == str(home.sad / "trip" / "day" / f"{n}.jpg")
        move(home.sad / "trip" / "day" / "7.jpg", home.happy / "7.jpg")  # It is watched there.
        until(home, "7.jpg", lambda row: row["corrected_label"] == "happy")


def test_copied_to_another_disk_and_removed(two_disks: Place) -> None:
    two_disks.sad = two_disks.root / "sad"  # happy stays on the other disk
    make_folders(two_disks.settings())
    path = filed(two_disks, "happy")
    with looked_after(two_disks):
        watched(two_disks)
        shutil.move(path, two_disks.sad / "a.jpg")
        until(two_disks, "a.jpg", lambda row: row["corrected_label"] == "sad")


def test_images_of_the_same_content_are_told_apart_by_name(home: Place) -> None:
    paths = [filed(home, "happy", name, jpeg()) for name in ("a.jpg", "b.jpg")]
    with looked_after(home):
        watched(home)
        for path in reversed(paths):
            move(path, home.sad / path.name)
        for path in paths:
            row = until(home, path.name, lambda row: row["corrected_label"] == "sad")
            assert row["destination_path"] == str(home.sad / path.name)


def test_a_disk_that_is_not_mounted_is_not_all_removed(home: Place) -> None:
    filed(home, "happy")
    filed(home, "sad", "gone.jpg").unlink()
    filed(home, "sad", "there.jpg")
    away = home.happy.rename(home.root / "away")
    home.happy.mkdir()
    with looked_after(home):
        until(home, "gone.jpg", lambda row: row["missing_since"])
        assert home.row("a.jpg")["missing_since"] is None
        home.happy.rmdir()
        away.rename(home.happy)  # It is mounted, and watched from then on.
        watched(home)
        move(home.happy / "a.jpg", home.sad / "a.jpg")
        until(home, "a.jpg", lambda row: row["corrected_label"] == "sad")


def test_when_news_were_lost_everything_is_looked_at(
    home: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.byhand.MOST_TOUCHED", 2)
    paths = [filed(home, "happy", f"{n}.jpg", jpeg("happy", n)) for n in range(40)]
    with looked_after(home):
        watched(home)
        for path in paths:
            move(path, home.sad / path.name)
        for path in paths:
            until(home, path.name, lambda row: row["corrected_label"] == "sad")


def test_who_corrects_and_who_watches_do_not_mix(home: Place) -> None:
    paths = [filed(home, "happy", f"{n}.jpg", jpeg("happy", n % 4)) for n in range(40)]
    dropped = home.contents()
    with looked_after(home):
        wait_until(lambda: threading.active_count() > 2, "it watches")
        assert correct(home, "sad", *paths).exit_code == 0
        watched(home)
    assert home.rows()[-1]["missing_since"]  # the mark
    rows = home.rows()[:-1]
    assert {row["corrected_label"] for row in rows} == {"sad"}
    assert [row["destination_path"] for row in rows] == [str(home.sad / p.name) for p in paths]
    assert {row["missing_since"] for row in rows} == {None}
    assert home.contents() == dropped


def test_the_service_looks_after_them(home: Place) -> None:
    path = filed(home, "happy", "old.jpg")
    with Service(home) as service:
        service.wait_until_ready()
        (home.inbox / "new.jpg").write_bytes(jpeg("happy", 3))
        service.wait_drained(2)
        new = Path(home.row("new.jpg")["destination_path"])
        other = {home.happy: home.sad, home.sad: home.happy}[new.parent]
        os.rename(new, other / "new.jpg")
        os.rename(path, home.sad / "old.jpg")
        row = until(home, "new.jpg", lambda row: row["corrected_label"])
        assert row["destination_path"] == str(other / "new.jpg")
        until(home, "old.jpg", lambda row: row["corrected_label"] == "sad")
        assert "moved by hand" in service.said()
        assert service.stop() == 0
    assert list(examine(home.settings(), deep=True)) == []
