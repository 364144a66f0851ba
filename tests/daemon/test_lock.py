from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.errors import InboxHeld, ServiceError
from daemon.lock import LOCK_FILE, hold


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
