from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.figures import Figure, write
from benchmarks.photos import SIZE, photos
from benchmarks.usage import cpu_seconds, peak_memory
from tests.helpers import jpeg, wait_until


def test_what_counts_is_the_median_and_the_bar_is_told(tmp_path: Path) -> None:
    figures = [
        Figure("speed", "service", "images/s", [3.0, 1.0, 2.0], at_least=2.5),
        Figure("speed", "wait", "ms", [7.0], at_most=8.0),
        Figure("speed", "memory", "MB", [5.0, 6.0]),
    ]
    page = write(figures, tmp_path, [12.4, 3.0, 96.0])
    assert (tmp_path / "RESULTS.md").read_text() == page
    assert "other programs kept the processor busy to 3 to 96 %" in page
    assert "| speed | service | 2 | 1 | 3 | images/s | >= 2.5: FAILS |" in page
    assert "| speed | wait | 7 |  |  | ms | <= 8: holds |" in page
    rows = json.loads((tmp_path / "results.json").read_text())["figures"]
    assert [row["holds"] for row in rows] == [False, True, None]
    assert [row["value"] for row in rows] == [2.0, 7.0, 5.5]


def test_photos_are_given_or_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.photos.DRAWN", 2)
    given, drawn = tmp_path / "given", tmp_path / "drawn"
    for folder in (given, drawn):
        folder.mkdir()
    (given / "small.jpg").write_bytes(jpeg("happy", 1, (48, 48)))
    (given / "photo.JPG").write_bytes(jpeg("happy", 1, (1200, 900)))
    assert photos(given, drawn) == [given / "photo.JPG"]
    for path in photos(None, drawn):
        with Image.open(path) as image:
            assert image.size == SIZE
        assert 60_000 < path.stat().st_size < 200_000
    assert len(list(drawn.iterdir())) == 2


HELD = 64 * 1024**2

WORKER = f"""
import os, time
held = b"1" * {HELD}
while time.process_time() < 0.5:
    pass
print("worked", flush=True)
os.read(0, 1)
"""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[bytes]]:
    """A process whose child works and holds memory; a byte ends the child, another one both."""
    code = f"""
import os, subprocess, sys
subprocess.run([sys.executable, "-c", {WORKER!r}])
print("over", flush=True)
os.read(0, 1)
"""
    command = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, bufsize=0, stdin=pipe, stdout=pipe) as process:
        yield process


def test_what_children_of_the_service_use_is_counted(parent: subprocess.Popen[bytes]) -> None:
    assert parent.stdin
    assert parent.stdout
    assert parent.stdout.readline() == b"worked\n"
    assert cpu_seconds(parent.pid) > 0.4
    with peak_memory(parent.pid) as peak:
        wait_until(lambda: peak.bytes > HELD, "the memory of the child is seen")
    parent.stdin.write(b".")
    assert parent.stdout.readline() == b"over\n"
    assert cpu_seconds(parent.pid) > 0.4
