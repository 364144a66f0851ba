from __future__ import annotations

import os
from pathlib import Path

import pytest

from daemon.settling import SettleTracker, is_being_written


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tracker(clock: Clock) -> SettleTracker:
    return SettleTracker(2.0, clock)


def settled(tracker: SettleTracker) -> list[str]:
    return [file.path.name for file in tracker.settled()]


class TestSettleTracker:
    def test_an_unchanged_file_settles_after_the_time(
        self, tracker: SettleTracker, clock: Clock, tmp_path: Path
    ) -> None:
        (tmp_path / "a").write_bytes(b"1")
        tracker.note(tmp_path / "a")
        clock.now += 1.9
        assert settled(tracker) == []
        clock.now += 0.2
        assert settled(tracker) == ["a"]
        assert len(tracker) == 0

    def test_a_growing_file_is_waited_for_and_never_given_up(
        self, tracker: SettleTracker, clock: Clock, tmp_path: Path
    ) -> None:
        path = tmp_path / "a"
        for length in range(1, 100):
            path.write_bytes(b"x" * length)
            tracker.note(path)
            clock.now += 1.5
            assert settled(tracker) == []
        clock.now += 2.1
        assert settled(tracker) == ["a"]

    def test_a_change_of_time_alone_counts_as_a_change(
        self, tracker: SettleTracker, clock: Clock, tmp_path: Path
    ) -> None:
        (tmp_path / "a").write_bytes(b"1")
        tracker.note(tmp_path / "a")
        clock.now += 1.5
        os.utime(tmp_path / "a", (1, 1))
        clock.now += 1.0
        assert settled(tracker) == []
        clock.now += 2.1
        assert settled(tracker) == ["a"]

    def test_the_end_of_a_writer_settles_at_once(
        self, tracker: SettleTracker, tmp_path: Path
    ) -> None:
        (tmp_path / "a").write_bytes(b"1")
        tracker.note(tmp_path / "a")
        tracker.note(tmp_path / "a", ended=True)
        assert settled(tracker) == ["a"]

    def test_an_empty_file_waits_even_then(
        self, tracker: SettleTracker, clock: Clock, tmp_path: Path
    ) -> None:
        (tmp_path / "a").touch()
        tracker.note(tmp_path / "a", ended=True)
        assert settled(tracker) == []
        clock.now += 2.1
        assert settled(tracker) == ["a"]

    def test_a_file_that_is_open_for_writing_waits_however_long(
        self, tracker: SettleTracker, clock: Clock, tmp_path: Path
    ) -> None:
        with (tmp_path / "a").open("wb") as file:
            file.write(b"the beginning")
            file.flush()
            tracker.note(tmp_path / "a", ended=True)
            for _ in range(5):
                clock.now += 100
                assert settled(tracker) == []
        clock.now += 2.1
        assert settled(tracker) == ["a"]

    def test_what_vanishes_is_forgotten(
        self, tracker: SettleTracker, clock: Clock, tmp_path: Path
    ) -> None:
        (tmp_path / "a").touch()
        tracker.note(tmp_path / "a")
        (tmp_path / "a").unlink()
        clock.now += 2.1
        assert settled(tracker) == []
        assert len(tracker) == 0


def test_an_open_writer_is_seen_and_a_reader_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with path.open("wb"):
        assert is_being_written(path)
    with path.open("rb"):
        assert not is_being_written(path)
    assert not is_being_written(tmp_path / "none")
