"""Many files that wait when the service starts."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.figures import TRIALS, Figure
from benchmarks.photos import crop
from benchmarks.service import LOOK_SECONDS, Place, place, service
from benchmarks.usage import peak_memory

FEW, MORE, MANY = 1_000, 10_000, 100_000
AROUND = (FEW, MORE) * (TRIALS // 2 + 1)
ROUNDS = (*AROUND, MANY, *AROUND)
"""The most take a minute and more, and are measured once, amid the others."""
NAME = "backlog"

TIMED = (0.2, 0.5, 0.8)
"""Shares of the files between which they are timed: stages fill up before, and run empty after."""


@dataclass(frozen=True)
class Run:
    """When how many files were filed, in seconds, at each of TIMED; and peak memory in bytes."""

    reached: Sequence[tuple[float, int]]
    peak: int

    def rate(self, begin: int, end: int) -> float:
        """Images/s between two of TIMED, by their places in it."""
        (then, before), (now, files) = self.reached[begin], self.reached[end]
        return (files - before) / (now - then)


def measure(photos: Sequence[Path], folder: Path) -> list[Figure]:
    """Of small face crops, since a hundred thousand photos would take too long."""
    crops = [crop(folder / f"{seed}.jpg", seed) for seed in range(20)]
    runs: dict[int, list[Run]] = {size: [] for size in (FEW, MORE, MANY)}
    for size in ROUNDS:
        runs[size].append(_drain(crops, size))
    rates = {size: [run.rate(0, 2) for run in some] for size, some in runs.items()}
    peaks = {size: [run.peak / 1e6 for run in some] for size, some in runs.items()}
    figures = [
        figure
        for size in runs
        for figure in (
            Figure(NAME, f"{size} files", "images/s", rates[size]),
            Figure(NAME, f"{size} files, peak memory", "MB", peaks[size], at_most=1200),
        )
    ]
    speed, memory = (median(of[MANY]) / median(of[FEW]) for of in (rates, peaks))
    halves = [run.rate(1, 2) / run.rate(0, 1) for run in runs[MANY]]
    return [
        *figures,
        Figure(NAME, "images/s, most against fewest", "x", [speed], at_least=0.95),
        Figure(NAME, f"images/s, second half of {MANY} against first", "x", halves),
        Figure(NAME, "memory, most against fewest", "x", [memory], at_most=1.1),
    ]


def _drain(crops: Sequence[Path], count: int) -> Run:
    with place() as there:
        for i in range(count):
            shutil.copyfile(crops[i % len(crops)], there.inbox / f"{i}.jpg")
        with service(there) as pid, peak_memory(pid) as peak:
            reached = [_reached(there, share * count) for share in TIMED]
            _reached(there, count)
            return Run(reached, peak.bytes)


def _reached(there: Place, count: float) -> tuple[float, int]:
    """The time when so many or more are filed, in seconds, and how many then are."""
    while True:
        now = time.perf_counter()
        if (filed := there.filed()) >= count:
            return now, filed
        # Counting a hundred thousand files takes time of its own.
        time.sleep(max(LOOK_SECONDS, 20 * (time.perf_counter() - now)))
