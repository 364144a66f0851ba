"""One file into an idle service."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles

from benchmarks.figures import Figure
from benchmarks.service import Place, place, service

FILES = 200
NAME = "latency"


def measure(photos: Sequence[Path], folder: Path) -> list[Figure]:
    """From the move into the inbox to the file in its place, in milliseconds."""
    with place() as there, service(there):
        files = there.stock(photos, FILES + 1)
        _seconds(there, files[0])
        times = [_seconds(there, file) * 1000 for file in files[1:]]
    cuts = quantiles(times, n=100)
    return [
        Figure(NAME, "p50", "ms", [cuts[49]], at_most=120),
        Figure(NAME, "p95", "ms", [cuts[94]]),
        Figure(NAME, "p99", "ms", [cuts[98]], at_most=300),
    ]


def _seconds(there: Place, file: Path) -> float:
    places = [folder / file.name for folder in there.destinations]
    begin = time.perf_counter()
    file.rename(there.inbox / file.name)
    while not any(path.exists() for path in places):
        time.sleep(0.001)
    return time.perf_counter() - begin
