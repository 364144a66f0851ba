"""Many files that wait when the service starts."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.photos import crop
from benchmarks.service import place, service
from benchmarks.usage import peak_memory

SIZES = (1_000, 10_000, 100_000)
NAME = "backlog"


def measure(photos: Sequence[Path], folder: Path) -> list[Figure]:
    """Of small face crops, since a hundred thousand photos would take too long."""
    crops = [crop(folder / f"{seed}.jpg", seed) for seed in range(20)]
    rates, peaks = zip(*(_drain(crops, size) for size in SIZES), strict=True)
    figures = [
        figure
        for size, rate, peak in zip(SIZES, rates, peaks, strict=True)
        for figure in (
            Figure(NAME, f"{size} files", "images/s", [rate]),
            Figure(NAME, f"{size} files, peak memory", "MB", [peak / 1e6]),
        )
    ]
    return [
        *figures,
        Figure(NAME, "images/s, most against fewest", "x", [rates[-1] / rates[0]], at_least=0.95),
        Figure(NAME, "memory, most against fewest", "x", [peaks[-1] / peaks[0]], at_most=1.1),
        Figure(NAME, "peak memory", "MB", [max(peaks) / 1e6], at_most=1200),
    ]


def _drain(crops: Sequence[Path], count: int) -> tuple[float, int]:
    """Images/s from the first that is filed to the last, and peak memory."""
    with place() as there:
        for i in range(count):
            shutil.copyfile(crops[i % len(crops)], there.inbox / f"{i}.jpg")
        with service(there) as pid, peak_memory(pid) as peak:
            there.wait_for(1)
            begin, already = time.perf_counter(), there.filed()
            while (done := there.filed()) < count:
                time.sleep(0.2)  # Counting a hundred thousand files takes time of its own.
            return (done - already) / (time.perf_counter() - begin), peak.bytes
