"""When is a file in the inbox finished?"""

from __future__ import annotations

import fcntl
import heapq
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from daemon import descent
from daemon.identity import Identity, identity


@dataclass(frozen=True)
class SettledFile:
    """A regular file in the inbox that nobody writes to any more.

    When it was first seen, and when it was found to be finished: seconds on the tracker's clock.
    """

    path: Path
    identity: Identity
    noticed: float = field(default=0.0, compare=False)
    settled: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class _Observed:
    identity: Identity
    due: float
    noticed: float


class SettleTracker:
    """Finds out when files are finished, by looking at them again.

    A file is settled when it was unchanged for `settle_seconds`, or at once when its writer's end
    was seen; but never while a process has it open for writing, where the system can tell. Empty
    files always wait: many programs make a file first and write to it later.
    """

    def __init__(self, settle_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.settle_seconds = settle_seconds
        self._clock = clock
        self._observed: dict[Path, _Observed] = {}
        self._due: list[tuple[float, Path]] = []

    def __len__(self) -> int:
        return len(self._observed)

    def note(self, path: Path, *, ended: bool = False) -> bool:
        """Observe a file, if it is a regular one; whether it is.

        `ended`: its writer was just seen to close it or move it here.
        """
        found = regular(path)
        if found is None:
            self._observed.pop(path, None)
            return False
        known = self._observed.get(path)
        if ended or known is None or known.identity != identity(found):
            self._observe(path, found, 0.0 if ended and found.st_size else self.settle_seconds)
        return True

    def next_due(self) -> float | None:
        """When, on the tracker's clock, a file is worth another look."""
        return self._due[0][0] if self._due else None

    def settled(self) -> Iterator[SettledFile]:
        """Files that are finished now; each is then no longer observed."""
        while self._due and self._due[0][0] <= self._clock():
            due, path = heapq.heappop(self._due)
            known = self._observed.get(path)
            if known is None or known.due != due:
                continue  # It was noted anew since and has another place in the heap.
            found = regular(path)
            if found is None:
                del self._observed[path]
            elif known.identity != identity(found) or is_being_written(path):
                self._observe(path, found, self.settle_seconds)
            else:
                del self._observed[path]
                yield SettledFile(path, identity(found), known.noticed, self._clock())

    def _observe(self, path: Path, found: os.stat_result, wait: float) -> None:
        now = self._clock()
        due = now + wait
        known = self._observed.get(path)
        noticed = known.noticed if known else now
        self._observed[path] = _Observed(identity(found), due, noticed)
        heapq.heappush(self._due, (due, path))


def regular(path: Path) -> os.stat_result | None:
    """What is known of a regular file; None for anything else, also a link, or behind one."""
    try:
        found = descent.look(path)
    except OSError:
        return None
    return found if found and stat.S_ISREG(found.st_mode) else None


def is_being_written(path: Path) -> bool:
    """Whether a process has the file open for writing; False where the system cannot tell."""
    try:
        descriptor = descent.open_file(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return has_writer(descriptor)
    finally:
        os.close(descriptor)


def has_writer(descriptor: int) -> bool:
    """The same of a file that is open here for reading.

    Linux grants a read lease (fcntl(2), F_SETLEASE) only on a file that nobody has open for
    writing. It is given back at once. The system cannot tell for files of other users, nor on
    most network file systems.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
