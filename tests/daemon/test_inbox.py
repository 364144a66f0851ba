from __future__ import annotations

import logging
import os
import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon import inbox as inbox_module
from daemon.inbox import Inbox, count_files
from tests.helpers import wait_until


@pytest.fixture(params=["watching", "polling"])
def inbox(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Inbox]:
    monkeypatch.setattr(inbox_module, "POLL_SECONDS", 0.1)
    (tmp_path / "inbox").mkdir()
    box = Inbox(
        tmp_path / "inbox",
        settle_seconds=0.2,
        rescan_seconds=300,
        recursive=True,
        poll=request.param == "polling",
    )
    yield box
    box.stop()
    assert box.failure is None


def take(box: Inbox, count: int) -> list[str]:
    """The next so many settled files, and that there is no further one."""
    names = []
    for _ in range(count):
        file = box.settled.get(timeout=30)
        names.append(str(file.path.relative_to(box.folder)))
        file.path.unlink()
        box.done(file.path)
    with pytest.raises(queue.Empty):
        box.settled.get(timeout=0.5)
    return sorted(names)


def test_files_that_lie_there_and_files_that_come_are_handed_out_once(inbox: Inbox) -> None:
    (inbox.folder / "before").write_bytes(b"1")
    inbox.start()
    (inbox.folder / "after").write_bytes(b"1")
    (inbox.folder.parent / "elsewhere").write_bytes(b"1")
    (inbox.folder.parent / "elsewhere").rename(inbox.folder / "moved")
    assert take(inbox, 3) == ["after", "before", "moved"]


def test_unfinished_names_are_left_alone_until_they_are_renamed(inbox: Inbox) -> None:
    inbox.start()
    for name in (".hidden.jpg", "~lock.jpg", "a.jpg.part", "b.TMP", "c.crdownload", "d.jpg"):
        (inbox.folder / name).write_bytes(b"1")
    assert take(inbox, 1) == ["d.jpg"]
    (inbox.folder / "a.jpg.part").rename(inbox.folder / "a.jpg")
    assert take(inbox, 1) == ["a.jpg"]


def test_folders_are_followed(inbox: Inbox) -> None:
    (inbox.folder / "x" / "y").mkdir(parents=True)
    (inbox.folder / "x" / "y" / "a").write_bytes(b"1")
    inbox.start()
    assert take(inbox, 1) == ["x/y/a"]
    outside = inbox.folder.parent / "album"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "b").write_bytes(b"1")
    (outside / ".trash").mkdir()
    (outside / ".trash" / "c").write_bytes(b"1")
    outside.rename(inbox.folder / "album")
    assert take(inbox, 1) == ["album/deep/b"]
    (inbox.folder / "album" / "late").mkdir()
    (inbox.folder / "album" / "late" / "d").write_bytes(b"1")
    assert take(inbox, 1) == ["album/late/d"]


def test_folders_may_leave_and_the_inbox_goes_on(inbox: Inbox) -> None:
    (inbox.folder / "sub").mkdir()
    inbox.start()
    (inbox.folder / "sub").rename(inbox.folder.parent / "sub")
    (inbox.folder / "a").write_bytes(b"1")
    assert take(inbox, 1) == ["a"]


def test_a_folder_that_is_renamed_is_watched_under_its_new_name(inbox: Inbox) -> None:
    (inbox.folder / "sub" / "below").mkdir(parents=True)
    (inbox.folder / "sub" / "below" / "before").write_bytes(b"1")
    inbox.start()
    assert take(inbox, 1) == ["sub/below/before"]
    (inbox.folder / "sub").rename(inbox.folder / "new")
    (inbox.folder / "new" / "at once").write_bytes(b"1")
    (inbox.folder / "new" / "below" / "at once").write_bytes(b"1")
    assert take(inbox, 2) == ["new/at once", "new/below/at once"]
    (inbox.folder / "new" / "below" / "later").write_bytes(b"1")
    assert take(inbox, 1) == ["new/below/later"]


def test_an_inbox_that_was_missing_is_watched_again(inbox: Inbox) -> None:
    inbox.start()
    away = inbox.folder.parent / "away"
    inbox.folder.rename(away)
    wait_until(lambda: inbox._missing, "the inbox is missed")
    (away / "meanwhile").write_bytes(b"1")
    away.rename(inbox.folder)
    assert take(inbox, 1) == ["meanwhile"]
    (inbox.folder / "after").write_bytes(b"1")
    assert take(inbox, 1) == ["after"]


def test_no_news_is_lost_where_much_comes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "MOST_TRACKED", 2)  # After so much, others get their turn.
    for name in ("inbox", "outside"):
        (tmp_path / name).mkdir()
    files = [tmp_path / "outside" / str(n) for n in range(1_000)]
    for file in files:
        file.write_bytes(b"1")
    box = Inbox(tmp_path / "inbox", settle_seconds=0.1, rescan_seconds=300, recursive=True)
    box.start()
    for file in files:
        file.rename(box.folder / file.name)
    try:
        assert take(box, len(files)) == sorted(file.name for file in files)
    finally:
        box.stop()


def test_a_folder_of_ten_thousand_files_that_is_moved_in_whole(tmp_path: Path) -> None:
    album = tmp_path / "album"
    for folder in (album, tmp_path / "inbox"):
        folder.mkdir()
    for n in range(10_000):
        (album / str(n)).touch()
    box = Inbox(tmp_path / "inbox", settle_seconds=0.1, rescan_seconds=300, recursive=True)
    box.start()
    album.rename(box.folder / "album")
    names = set()
    for _ in range(10_000):
        path = box.settled.get(timeout=30).path
        names.add(path.name)
        path.unlink()
        box.done(path)
    box.stop()
    assert names == {str(n) for n in range(10_000)}
    assert box.failure is None


def test_another_folder_in_place_of_the_inbox_ends_it(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    box = Inbox(tmp_path / "inbox", settle_seconds=0.1, rescan_seconds=300, recursive=True)
    box.start()
    (tmp_path / "inbox").rename(tmp_path / "old")
    (tmp_path / "inbox").mkdir()
    wait_until(lambda: box.failure, "it ends")
    assert "was replaced by another folder" in str(box.failure)
    box.stop()


def test_links_and_special_files_are_refused_and_reported_once(
    inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    secret = inbox.folder.parent / "secret"
    secret.write_bytes(b"1")
    (inbox.folder / "link").symlink_to(secret)
    (inbox.folder / "dangling").symlink_to("nowhere")
    (inbox.folder / "folder-link").symlink_to(inbox.folder.parent)
    os.mkfifo(inbox.folder / "fifo")
    inbox.start()
    (inbox.folder / "good").write_bytes(b"1")
    assert take(inbox, 1) == ["good"]

    def reported() -> list[str]:
        return [r.getMessage() for r in caplog.records if "left alone" in r.getMessage()]

    wait_until(lambda: len(reported()) >= 4, "all four are refused")
    (inbox.folder / "another").write_bytes(b"1")
    assert take(inbox, 1) == ["another"]
    assert len(reported()) == 4
    assert secret.exists()


def test_a_file_that_comes_again_while_its_namesake_is_in_flight(inbox: Inbox) -> None:
    inbox.start()
    path = inbox.folder / "a"
    path.write_bytes(b"1")
    assert inbox.settled.get(timeout=30).path == path
    path.unlink()
    path.write_bytes(b"22")
    wait_until(lambda: inbox._in_flight.get(path), "the second is noticed")
    inbox.done(path)
    assert inbox.settled.get(timeout=30).identity.size_bytes == 2
    inbox.done(path)


def test_more_files_than_are_observed_at_a_time(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "MOST_TRACKED", 10)
    names = [f"{n:03}" for n in range(300)]
    for name in names:
        (inbox.folder / name).write_bytes(b"1")
    inbox.start()
    assert take(inbox, 300) == names


def test_dropped_hints_are_made_up_for_by_a_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "MOST_HINTS", 0)
    (tmp_path / "inbox").mkdir()
    box = Inbox(tmp_path / "inbox", settle_seconds=0.1, rescan_seconds=300, recursive=True)
    box.start()
    try:
        for n in range(5):
            (box.folder / str(n)).write_bytes(b"1")
        assert take(box, 5) == list("01234")
    finally:
        box.stop()


def test_once_ends_when_all_is_done(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    box = Inbox(tmp_path, settle_seconds=0.1, rescan_seconds=300, recursive=True, once=True)
    box.start()
    file = box.settled.get(timeout=30)
    assert not box.drained.is_set()
    file.path.unlink()
    box.done(file.path)
    assert box.drained.wait(30)
    box.stop()


def test_count_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a", "sub/b", ".c", "d.part"):
        (tmp_path / name).touch()
    assert count_files(tmp_path, recursive=True, most_seconds=60) == 2
    assert count_files(tmp_path, recursive=False, most_seconds=60) == 1
