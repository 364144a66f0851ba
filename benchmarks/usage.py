"""What a process and all that it has started use of the machine."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

SAMPLE_SECONDS = 0.5
"""How often memory is looked at, which takes some milliseconds of a core."""


def cpu_seconds(pid: int) -> float:
    """Processor time that the process and its descendants have used, ended ones included."""
    total = 0.0
    for process in _tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            used = process.cpu_times()
            total += used.user + used.system + used.children_user + used.children_system
    return total


@dataclass
class Peak:
    """The most memory that was seen, in bytes."""

    bytes: int = 0


@contextlib.contextmanager
def peak_memory(pid: int) -> Iterator[Peak]:
    """The most that the process and its descendants hold together meanwhile, by samples."""
    peak, ended = Peak(), threading.Event()

    def watch() -> None:
        while True:
            peak.bytes = max(peak.bytes, memory(pid))
            if ended.wait(SAMPLE_SECONDS):
                return

    thread = threading.Thread(target=watch, name="memory")
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def memory(pid: int) -> int:
    """Bytes that the process and its descendants hold together now (Linux).

    A page that several of them share counts once: what is added up is the proportional set size.
    """
    total = 0
    for process in _tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total


def descriptors(pid: int) -> int:
    """How many the process and its descendants have open now."""
    total = 0
    for process in _tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.num_fds()
    return total


def _tree(pid: int) -> list[psutil.Process]:
    """Those that are still there."""
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
