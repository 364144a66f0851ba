"""The service on photos, against the naive loop, and against decoding and judging alone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.alone import alone
from benchmarks.figures import TRIALS, Figure
from benchmarks.models import untrained
from benchmarks.service import place, service
from benchmarks.usage import cpu_seconds
from trainer import bundle

NAIVE_PHOTOS, SERVICE_PHOTOS, ALONE_PHOTOS = 40, 1_000, 128
NAME = "throughput"

Run = dict[str, float]
"""What one trial gave, by name."""


def measure(photos: Sequence[Path], folder: Path) -> list[Figure]:
    """Of the network of the original system, and of the shipped model with its faces."""
    seed = untrained("seed", folder / "seed")
    trials = []
    for _ in range(TRIALS):
        naive = _naive(seed, photos)
        trials.append([_trial(model, photos, naive) for model in (str(seed), bundle.SHIPPED)])
    of_seed, of_shipped = zip(*trials, strict=True)
    return _figures("seed", of_seed, 12) + _figures("shipped", of_shipped, 8)


def _figures(name: str, runs: Sequence[Run], at_least: float) -> list[Figure]:
    def figure(what: str, unit: str, of: Callable[[Run], float], **bar: float) -> Figure:
        return Figure(NAME, f"{name}: {what}", unit, [of(run) for run in runs], **bar)

    return [
        figure("service", "images/s", lambda run: run["service"]),
        figure("naive loop", "images/s", lambda run: run["naive"]),
        figure("service / naive", "x", lambda r: r["service"] / r["naive"], at_least=at_least),
        figure("ceiling", "images/s", _ceiling),
        figure("service / ceiling", "x", lambda r: r["service"] / _ceiling(r), at_least=0.85),
        figure("decoding", "core-ms an image", lambda run: run["decode ms"]),
        figure("judging", "core-ms an image", lambda run: run["judge ms"]),
        figure("all of the service", "core-ms an image", lambda run: run["service ms"]),
    ]


def _ceiling(run: Run) -> float:
    return 1 / (1 / run["decode"] + 1 / run["judge"])


def _trial(model: str, photos: Sequence[Path], naive: float) -> Run:
    run: Run = {"naive": naive}
    with place() as there, service(there, f"--model={model}") as pid:
        first, *rest = there.stock(photos, SERVICE_PHOTOS + 1)
        first.rename(there.inbox / first.name)
        there.wait_for(1)
        begin, cpu = time.perf_counter(), cpu_seconds(pid)
        for path in rest:
            path.rename(there.inbox / path.name)
        there.wait_for(SERVICE_PHOTOS + 1)
        run["service"] = SERVICE_PHOTOS / (time.perf_counter() - begin)
        run["service ms"] = (cpu_seconds(pid) - cpu) / SERVICE_PHOTOS * 1000
    few = [photos[i % len(photos)] for i in range(ALONE_PHOTOS)]
    decoding, judging = alone(model, few)
    return run | {
        "decode": decoding.per_second,
        "judge": judging.per_second,
        "decode ms": decoding.core_ms,
        "judge ms": judging.core_ms,
    }


def _naive(seed: Path, photos: Sequence[Path]) -> float:
    with place() as there:
        files = there.stock(photos, NAIVE_PHOTOS)
        paths = [seed / bundle.MODEL_FILE, there.database, there.destinations[0], *files]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.naive", *paths],
            capture_output=True,
            text=True,
            check=True,
        )
    return float(done.stdout)
