"""The proof in an emulated machine itself takes too long for a test; see `make machine`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.machine.__main__ import followed
from tests.machine.guest import Told


def test_it_says_in_a_sentence_what_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.machine", "--folder", tmp_path / "new"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 77, done.stderr
    [sentence] = done.stdout.splitlines()
    assert "debootstrap" in sentence
    assert "qemu-system-x86_64" in sentence
    assert list(tmp_path.iterdir()) == []


def test_a_step_of_which_nothing_is_told_has_failed() -> None:
    told = [Told("start", shown=True, said="", seconds=1.0)]
    ended = list(followed(told, ["start", "stop"]))
    assert [(one.step, one.shown) for one in ended] == [("start", True), ("stop", False)]
