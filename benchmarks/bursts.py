"""Files that come all at once, or steadily: how long until each is filed, and what that takes.

The times are those of the rows, so that nothing has to look on. They are what the simulation
(`benchmarks.simulation`) is held against, and the times of the steps are what it is given.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.figures import TRIALS, Figure
from benchmarks.service import Place, place, service
from benchmarks.simulation import burst, poisson
from daemon.classifier import judge, read
from db.engine import open_for_writing
from db.ledger import Decision, Ledger, Source
from trainer import bundle

NAME = "bursts"
ONE = "1 at once"
BURSTS = {ONE: (1, 40), "10 at once": (10, 10), "100 at once": (100, 3), "500 at once": (500, 1)}
"""Files that come at once, and how often."""
FULLEST = list(BURSTS)[-1]
STEADY = {"at 50 %": 0.5, "at 80 %": 0.8}
"""Files that come at random, by the share of the rate that the largest burst is filed with."""
STEADY_FILES = 1500
MANY = 64
ROUNDS = 30


@dataclass(frozen=True)
class Load:
    """What came of some files; latencies and all other times in milliseconds.

    Of an image `decode` and `judge`, of a batch `decide` and `file`; `batch` is the images in one.
    """

    p50: float
    p95: float
    p99: float
    rate: float
    decode: float
    judge: float
    batch: float
    decide: float
    file: float


UNITS = {"rate": "images/s", "batch": "images"}


def measure(photos: Sequence[Path], folder: Path) -> list[Figure]:
    """Percentiles from the drop to the time that the row tells, and the times of the steps."""
    trials = [_trial(photos, seed) for seed in range(TRIALS)]
    figures = [Figure(NAME, "noticing", "ms", [noticing for noticing, _ in trials])]
    for name in (*BURSTS, *STEADY):
        for field in fields(Load):
            runs = [getattr(loads[name], field.name) for _, loads in trials]
            unit = UNITS.get(field.name, "ms")
            figures.append(Figure(NAME, f"{name}: {field.name}", unit, runs))
    for files in (1, MANY):
        for step, runs in _ledger(folder, files).items():
            figures.append(Figure(NAME, f"{step}, {files} files", "ms", runs))
    return [*figures, Figure(NAME, "photo by photo", "ms", _alone(photos))]


def _trial(photos: Sequence[Path], seed: int) -> tuple[float, dict[str, Load]]:
    total = 1 + sum(files * times for files, times in BURSTS.values()) + len(STEADY) * STEADY_FILES
    with place() as there:
        stock = iter(there.stock(photos, total))
        os.sync()
        address = f"127.0.0.1:{_free_port()}"
        with service(there, f"--metrics-listen={address}"):
            run = _Run(there, stock, address)
            run.drop([0.0])
            loads: dict[str, Load] = {}
            noticing = 0.0
            for name, (files, times) in BURSTS.items():
                loads[name] = run.load([burst(files)] * times)
                noticing = noticing or run.noticing()
            for name, share in STEADY.items():
                rate = share * loads[FULLEST].rate
                loads[name] = run.load([poisson(rate, STEADY_FILES, seed)])
            return noticing, loads


class _Run:
    """Drops files into the inbox of a service, and asks what became of them."""

    def __init__(self, there: Place, stock: Iterator[Path], address: str) -> None:
        self._there = there
        self._stock = stock
        self._address = address
        self._dropped: dict[str, float] = {}

    def drop(self, schedule: Sequence[float]) -> list[str]:
        """Drop files at these seconds from now, and wait until they are filed; their names."""
        names = []
        begin = time.time()
        for when in schedule:
            file = next(self._stock)
            if (wait := begin + when - time.time()) > 0:
                time.sleep(wait)
            self._dropped[file.name] = time.time()
            file.rename(self._there.inbox / file.name)
            names.append(file.name)
        self._there.wait_for(len(self._dropped))
        return names

    def load(self, schedules: Sequence[Sequence[float]]) -> Load:
        """Drop files by each of the schedules, one after the other."""
        before = self._sums()
        drops = [self.drop(schedule) for schedule in schedules]
        spent = {name: value - before[name] for name, value in self._sums().items()}
        filed = self._times("filed_at")
        waits = [1000 * (filed[name] - self._dropped[name]) for names in drops for name in names]
        cuts = quantiles(waits, n=100, method="inclusive")
        seconds = [max(filed[n] for n in names) - self._dropped[names[0]] for names in drops]

        def average(step: str) -> float:
            return 1000 * spent[f"{step}_seconds_sum"] / spent[f"{step}_seconds_count"]

        return Load(
            p50=cuts[49],
            p95=cuts[94],
            p99=cuts[98],
            rate=len(waits) / sum(seconds),
            decode=average("decoding"),
            judge=average("judging"),
            batch=spent["batch_images_sum"] / spent["batch_images_count"],
            decide=average("commit"),
            file=average("filing"),
        )

    def noticing(self) -> float:
        """Milliseconds from the drop to the claim of files that came one by one, in the middle."""
        claimed = self._times("claimed_at")
        return 1000 * median(claimed[name] - when for name, when in self._dropped.items())

    def _times(self, column: str) -> dict[str, float]:
        with contextlib.closing(sqlite3.connect(self._there.database)) as link:
            rows = link.execute(f"SELECT source_path, {column} FROM images").fetchall()
        return {Path(path).name: _seconds(when) for path, when in rows}

    def _sums(self) -> Mapping[str, float]:
        """What the service has measured so far."""
        with urllib.request.urlopen(f"http://{self._address}/metrics") as answer:
            families = text_string_to_metric_families(answer.read().decode())
            return {
                sample.name.removeprefix("moodsort_"): sample.value
                for family in families
                for sample in family.samples
                if sample.name.endswith(("_sum", "_count"))
            }


def _seconds(when: str) -> float:
    return datetime.fromisoformat(when).replace(tzinfo=UTC).timestamp()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _ledger(folder: Path, files: int) -> dict[str, list[float]]:
    """Milliseconds of the transactions that the service does not measure, so many files in each."""
    with (
        TemporaryDirectory(dir=folder) as here,
        contextlib.closing(Ledger(open_for_writing(f"{here}/moodsort.db"))) as ledger,
    ):
        rounds = [
            _transactions(ledger, [Path(f"/in/{number}-{n}.jpg") for n in range(files)])
            for number in range(ROUNDS)
        ]
    return {step: [1000 * one[step] for one in rounds] for step in rounds[0]}


def _transactions(ledger: Ledger, paths: Sequence[Path]) -> dict[str, float]:
    """Seconds of each."""
    clock = time.perf_counter
    begin = clock()
    ids = [id for id in ledger.claim([Source(path, 1, 1) for path in paths]) if id]
    claimed = clock()
    ledger.taken(paths)
    looked_up = clock()
    ledger.decide(
        [Decision(i, p, 1, 1, None, label="happy") for i, p in zip(ids, paths, strict=True)]
    )
    decided = clock()
    ledger.finish(ids)
    return {
        "claim": claimed - begin,
        "look up": looked_up - claimed,
        "finish": clock() - decided,
    }


def _alone(photos: Sequence[Path]) -> list[float]:
    """Milliseconds to read, decode and judge each photo, in the middle of some trials."""
    loaded = bundle.load(bundle.SHIPPED)
    loaded.warm()

    def once(path: Path) -> float:
        begin = time.perf_counter()
        judge(loaded, [read(path, loaded.info.view)])
        return 1000 * (time.perf_counter() - begin)

    return [median(once(path) for _ in range(TRIALS)) for path in photos]
