"""Many files that wait when the service starts."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.figures import TRIALS, Figure
from benchmarks.photos import crop
from benchmarks.service import LOOK_SECONDS, Place, place, service
from benchmarks.usage import peak_memory

FEW, MORE, MANY = 1_000, 10_000, 100_000
AROUND = (FEW,) * (TRIALS // 2 + 1)
ROUNDS = (*AROUND, MORE, MANY, *AROUND)
"""The many take minutes, and are measured once, amid the few."""
NAME = "backlog"

EDGE = 0.2
"""Share of the files, first and last, that is not timed: the stages fill up and run empty."""


def measure(photos: Sequence[Path], folder: Path) -> list[Figure]:
    """Of small face crops, since a hundred thousand photos would take too long."""
    crops = [crop(folder / f"{seed}.jpg", seed) for seed in range(20)]
    rates: dict[int, list[float]] = {size: [] for size in (FEW, MORE, MANY)}
    peaks: dict[int, list[float]] = {size: [] for size in rates}
    for size in ROUNDS:
        rate, peak = _drain(crops, size)
        rates[size].append(rate)
        peaks[size].append(peak / 1e6)
    figures = [
        figure
        for size in rates
        for figure in (
            Figure(NAME, f"{size} files", "images/s", rates[size]),
            Figure(NAME, f"{size} files, peak memory", "MB", peaks[size], at_most=1200),
        )
    ]
    speed, memory = (median(of[MANY]) / median(of[FEW]) for of in (rates, peaks))
    return [
        *figures,
        Figure(NAME, "images/s, most against fewest", "x", [speed], at_least=0.95),
        Figure(NAME, "memory, most against fewest", "x", [memory], at_most=1.1),
    ]


def _drain(crops: Sequence[Path], count: int) -> tuple[float, int]:
    """Images/s between the edges, and peak memory in bytes."""
    with place() as there:
        for i in range(count):
            shutil.copyfile(crops[i % len(crops)], there.inbox / f"{i}.jpg")
        with service(there) as pid, peak_memory(pid) as peak:
            begin, first = _reached(there, EDGE * count)
            end, last = _reached(there, (1 - EDGE) * count)
            _reached(there, count)
            return (last - first) / (end - begin), peak.bytes


def _reached(there: Place, count: float) -> tuple[float, int]:
    """The time when so many or more are filed, in seconds, and how many then are."""
    while True:
        now = time.perf_counter()
        if (filed := there.filed()) >= count:
            return now, filed
        # Counting a hundred thousand files takes time of its own.
        time.sleep(max(LOOK_SECONDS, 20 * (time.perf_counter() - now)))
