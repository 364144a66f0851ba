from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.errors import InboxHeld, ServiceError
from daemon.lock import LOCK_FILE, hold, is_held


def test_the_second_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    with hold(tmp_path), pytest.raises(InboxHeld, match=f"process {os.getpid()} on .* since 20"):
        hold(tmp_path).__enter__()
    with hold(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_killed_holder_does_not_block(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib, daemon.lock as l\n"
        "with l.hold(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(InboxHeld):
            hold(tmp_path).__enter__()
        holder.kill()
    assert (tmp_path / LOCK_FILE).exists()
    with hold(tmp_path):
        pass


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="Cannot write"):
        hold(tmp_path / "none").__enter__()


def test_a_full_disk_does_not_hinder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("daemon.lock.os.pwrite", refuse)
    with hold(tmp_path):
        assert is_held(tmp_path)


def test_whether_it_is_held_can_be_seen_and_looking_leaves_no_trace(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    assert not list(tmp_path.iterdir())
    os.mkfifo(tmp_path / LOCK_FILE)
    assert not is_held(tmp_path)
    (tmp_path / LOCK_FILE).unlink()
    with hold(tmp_path):
        about = (tmp_path / LOCK_FILE).read_text()
        assert is_held(tmp_path)
        assert (tmp_path / LOCK_FILE).read_text() == about
    (tmp_path / LOCK_FILE).touch()  # as a killed holder leaves it
    assert not is_held(tmp_path)


def test_who_only_looks_is_not_taken_for_a_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / LOCK_FILE).open("w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        monkeypatch.setattr("daemon.lock.time.sleep", lambda _: fcntl.flock(looking, fcntl.LOCK_UN))
        with hold(tmp_path):
            assert is_held(tmp_path)
