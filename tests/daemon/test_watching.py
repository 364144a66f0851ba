from __future__ import annotations

import os
import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.watching import Change, FolderWatch, Touched

Told = queue.SimpleQueue[Touched | None]


@pytest.fixture
def told() -> Told:
    return queue.SimpleQueue()


@pytest.fixture
def watch(told: Told) -> Iterator[FolderWatch]:
    made = FolderWatch(told.put, removals=True)
    yield made
    made.close()


def next_of(told: Told) -> Touched | None:
    return told.get(timeout=30)


def test_what_happens_to_files_and_folders_is_told(
    watch: FolderWatch, told: Told, tmp_path: Path
) -> None:
    here, away = tmp_path / "here", tmp_path / "away"
    for folder in (here, away):
        folder.mkdir()
    watch.add(here)
    (here / ".hidden").touch()
    (here / "a").touch()
    (here / "a").rename(away / "a")
    (away / "a").rename(here / "b")
    (here / "b").unlink()
    (here / "sub").mkdir()
    assert [next_of(told) for _ in range(6)] == [
        Touched(here / "a", False, Change.MADE),
        Touched(here / "a", False, Change.WRITTEN),
        Touched(here / "a", False, Change.GONE),
        Touched(here / "b", False, Change.CAME),
        Touched(here / "b", False, Change.GONE),
        Touched(here / "sub", True, Change.MADE),
    ]


def test_removals_are_told_only_to_who_asks(told: Told, tmp_path: Path) -> None:
    watch = FolderWatch(told.put)
    try:
        (tmp_path / "a").touch()
        watch.add(tmp_path)
        (tmp_path / "a").unlink()
        (tmp_path / "b").mkdir()
        assert next_of(told) == Touched(tmp_path / "b", True, Change.MADE)
    finally:
        watch.close()


def test_a_folder_is_watched_under_the_name_that_it_was_last_given(
    watch: FolderWatch, told: Told, tmp_path: Path
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    watch.add(tmp_path)
    watch.add(old)
    old.rename(new)
    watch.add(new)  # Before or after the renaming is told.
    assert next_of(told) == Touched(old, True, Change.GONE)
    assert next_of(told) == Touched(new, True, Change.CAME)
    watch.add(new)
    (new / "a").touch()
    assert next_of(told) == Touched(new / "a", False, Change.MADE)


def test_a_folder_that_is_forgotten_or_gone_may_come_again(
    watch: FolderWatch, told: Told, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    for _ in range(2):
        folder.mkdir()
        watch.add(folder)
        watch.forget(tmp_path)
        (folder / "unseen").touch()
        watch.add(folder)
        (folder / "unseen").unlink()
        assert next_of(told) == Touched(folder / "unseen", False, Change.GONE)
        folder.rmdir()


def test_what_cannot_be_watched_is_an_error(watch: FolderWatch, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        watch.add(tmp_path / "missing")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(NotADirectoryError):
            watch.add(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
def test_a_folder_that_may_not_be_read_is_an_error_each_time(
    watch: FolderWatch, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir(0)
        with pytest.raises(PermissionError):
            watch.add(tmp_path / name)
