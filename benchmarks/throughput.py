"""The service on photos, against the naive loop, and against decoding and judging alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.figures import TRIALS, Figure
from benchmarks.models import untrained
from benchmarks.service import place, service
from benchmarks.usage import cpu_seconds
from daemon.pipeline import AT_ONCE
from trainer import bundle
from trainer.image import DecodedImage, decode

CORES = os.cpu_count() or 1
NAIVE_PHOTOS, SERVICE_PHOTOS, ALONE_PHOTOS = 40, 400, 120
NAME = "throughput"

Run = dict[str, float]
"""What one trial gave, by name."""


def measure(photos: Sequence[Path], folder: Path) -> list[Figure]:
    """Of the network of the original system, and of the shipped model with its faces."""
    seed = untrained("seed", folder / "seed")
    return _of("seed", str(seed), seed, photos, 12) + _of("shipped", "default", seed, photos, 8)


def _of(name: str, model: str, seed: Path, photos: Sequence[Path], at_least: float) -> list[Figure]:
    runs = [_trial(model, seed, photos) for _ in range(TRIALS)]

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


def _trial(model: str, seed: Path, photos: Sequence[Path]) -> Run:
    run: Run = {"naive": _naive(seed, photos)}
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
    return run | _alone(model, photos)


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


def _alone(model: str, photos: Sequence[Path]) -> Run:
    """Images/s of decoding and of judging on all cores, and core-milliseconds of each."""
    loaded = bundle.load(model)
    loaded.warm()
    data = [photos[i % len(photos)].read_bytes() for i in range(ALONE_PHOTOS)]
    images = [decode(one, loaded.info.view) for one in data]
    size = ALONE_PHOTOS if loaded.in_batches else AT_ONCE
    parts = [images[i : i + size] for i in range(0, len(images), size)]

    def judge(part: list[DecodedImage]) -> None:
        loaded.classify(part)

    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(judge, parts))  # so that every thread is warm
        decoding = _timed(lambda: list(pool.map(lambda d: decode(d, loaded.info.view), data)))
        judging = _timed(lambda: list(pool.map(judge, parts)))
    return {
        "decode": ALONE_PHOTOS / decoding[0],
        "judge": ALONE_PHOTOS / judging[0],
        "decode ms": decoding[1] / ALONE_PHOTOS * 1000,
        "judge ms": judging[1] / ALONE_PHOTOS * 1000,
    }


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds that passed, and of processor time."""
    begin, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begin, time.process_time() - cpu
