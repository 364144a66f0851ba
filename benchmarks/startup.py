"""How long commands take to answer, and the service to be ready."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import TRIALS, Figure
from benchmarks.service import MOODSORT, place, service
from db.engine import open_for_writing

NAME = "startup"


def measure(photos: Sequence[Path], folder: Path) -> list[Figure]:
    """In milliseconds."""
    database = folder / "empty.db"
    open_for_writing(str(database)).dispose()
    clicks, helps, queries, starts = [], [], [], []
    for _ in range(TRIALS):
        clicks.append(_milliseconds(sys.executable, "-c", "import click"))
        helps.append(_milliseconds(MOODSORT, "--help"))
        queries.append(_milliseconds(MOODSORT, "results", "--database", database))
        starts.append(_ready_after())
    extra = [h - c for h, c in zip(helps, clicks, strict=True)]
    return [
        Figure(NAME, "import click", "ms", clicks),
        Figure(NAME, "--help", "ms", helps),
        Figure(NAME, "--help beyond import click", "ms", extra, at_most=150),
        Figure(NAME, "results", "ms", queries),
        Figure(NAME, "run, to ready", "ms", starts),
    ]


def _milliseconds(*command: str | Path) -> float:
    begin = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - begin) * 1000


def _ready_after() -> float:
    with place() as there:
        begin = time.perf_counter()
        with service(there):
            return (time.perf_counter() - begin) * 1000
