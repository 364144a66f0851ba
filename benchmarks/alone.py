"""Decoding and judging each by itself: what the service could do if nothing else took time."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from daemon.reading import AT_ONCE
from daemon.worker import Worker
from trainer import bundle
from trainer.bundle import Bundle
from trainer.image import View, decode

CORES = os.cpu_count() or 1

DECODE, JUDGE = "decode", "judge"


@dataclass(frozen=True)
class Alone:
    """What all cores make of one stage: images/s, and core-milliseconds an image."""

    per_second: float
    core_ms: float


@dataclass(frozen=True)
class _Round:
    """What one process took for its images: seconds that passed, and of processor time."""

    images: int
    seconds: float
    cpu_seconds: float


def alone(model: str, photos: Sequence[Path]) -> tuple[Alone, Alone]:
    """Decoding photos that lie in memory, and judging decoded ones.

    As in the service: in a process for each core, but on a GPU all are judged here, at once.
    """
    loaded = bundle.load(model)
    judging = None if loaded.in_batches else loaded
    begin = partial(_work, loaded.info.view, judging, photos, AT_ONCE)
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(contextlib.closing(Worker[str, _Round](begin)))
            for _ in range(CORES)
        ]
        asks = [worker.ask for worker in workers]
        here = [] if judging else [_work(loaded.info.view, loaded, photos, len(photos))]
        return _measured(asks, DECODE), _measured(here or asks, JUDGE)


def _measured(asks: Sequence[Callable[[str], _Round]], stage: str) -> Alone:
    """All work at the same time; the first round makes them warm."""
    with ThreadPoolExecutor(len(asks)) as pool:
        for _ in range(2):
            rounds = list(pool.map(lambda ask: ask(stage), asks))
    return Alone(
        per_second=sum(one.images / one.seconds for one in rounds),
        core_ms=sum(one.cpu_seconds for one in rounds) / sum(one.images for one in rounds) * 1000,
    )


def _work(
    view: View, loaded: Bundle | None, photos: Sequence[Path], at_once: int
) -> Callable[[str], _Round]:
    """Goes once through the photos, for one of the stages."""
    data = [photo.read_bytes() for photo in photos]
    images = [decode(one, view) for one in data]

    def work(stage: str) -> _Round:
        begin, cpu = time.perf_counter(), time.process_time()
        if stage == DECODE:
            for one in data:
                decode(one, view)
        else:
            assert loaded
            for i in range(0, len(images), at_once):
                loaded.classify(images[i : i + at_once])
        return _Round(len(photos), time.perf_counter() - begin, time.process_time() - cpu)

    return work
