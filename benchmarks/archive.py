"""An archive that is judged by `bulk`, against the same images filed by `sort`."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import TRIALS, Figure
from benchmarks.service import MOODSORT, place

NAME = "archive"
FEW, MANY = 500, 3_500
"""The difference is what counts: an archive is so large that the start does not."""


def measure(photos: Sequence[Path], folder: Path) -> list[Figure]:
    """In turn, so that both meet the same machine."""
    sizes = {count: _archive(photos, folder / str(count), count) for count in (FEW, MANY)}
    bulks, sorts, starts = [], [], []
    for _ in range(TRIALS):
        few, many = (_bulk(archive) for archive in sizes.values())
        bulks.append((MANY - FEW) / (many - few))
        starts.append(few - FEW / bulks[-1])
        few, many = (_sort(archive) for archive in sizes.values())
        sorts.append((MANY - FEW) / (many - few))
    ratios = [one / other for one, other in zip(bulks, sorts, strict=True)]
    return [
        Figure(NAME, "bulk", "images/s", bulks),
        Figure(NAME, "sort", "images/s", sorts),
        Figure(NAME, "bulk / sort", "x", ratios, at_least=0.8),
        Figure(NAME, "bulk, start and end", "s", starts),
    ]


def _archive(photos: Sequence[Path], folder: Path, count: int) -> Path:
    folder.mkdir()
    for i in range(count):
        shutil.copyfile(photos[i % len(photos)], folder / f"{i}.jpg")
    return folder


def _bulk(archive: Path) -> float:
    with tempfile.TemporaryDirectory(prefix="moodsort-bench-") as moods:
        return _seconds("bulk", archive, f"--to={moods}", "--model=default")


def _sort(archive: Path) -> float:
    """Of copies: what is sorted is gone."""
    with place() as there:
        for photo in archive.iterdir():
            shutil.copyfile(photo, there.inbox / photo.name)
        folders = [f"--{folder.name}={folder}" for folder in there.destinations]
        return _seconds(
            "sort", there.inbox, *folders, f"--database={there.database}", "--model=default"
        )


def _seconds(*args: str | Path) -> float:
    begin = time.perf_counter()
    subprocess.run([MOODSORT, *args], capture_output=True, check=True)
    return time.perf_counter() - begin
