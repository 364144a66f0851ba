"""What it costs to wait for the disk, so that nothing is lost when the power fails."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import sqlalchemy as sa

from benchmarks.figures import TRIALS, Figure
from daemon.filing import Move, place
from daemon.identity import identity
from db.engine import open_for_writing
from db.ledger import Decision, Ledger, Source

NAME = "durability"
FILES = 256
BYTES = 200_000
OTHER_DISK = Path("/dev/shm")


def measure(photos: Sequence[Path], folder: Path) -> list[Figure]:
    """Milliseconds a file, when so many are moved or recorded at once, waiting for the disk or not.

    Copies come from a file system in memory, so that the disk of `folder` alone counts.
    """
    works: dict[str, Callable[..., float]] = {
        "moved": partial(_moved, folder),
        "copied": partial(_moved, OTHER_DISK),
        "recorded": _recorded,
    }
    return [
        Figure(
            NAME,
            f"{what}, {at_once} at once{'' if waiting else ', not waiting'}",
            "ms/file",
            [work(folder, at_once=at_once, waiting=waiting) for _ in range(TRIALS)],
        )
        for what, work in works.items()
        for at_once in (32, 1)
        for waiting in (True, False)
    ]


def _moved(disk: Path, folder: Path, *, at_once: int, waiting: bool) -> float:
    with TemporaryDirectory(dir=disk) as source, TemporaryDirectory(dir=folder) as destination:
        moves = [_move(id, Path(source), Path(destination)) for id in range(FILES)]
        os.sync()
        with nullcontext() if waiting else mock.patch("os.fsync"):
            return _timed(lambda first: place(moves[first : first + at_once]), at_once)


def _move(id: int, source: Path, destination: Path) -> Move:
    path = source / f"{id}.jpg"
    path.write_bytes(os.urandom(BYTES))
    return Move(id, path, destination / path.name, destination, identity(path.stat()), None)


def _recorded(folder: Path, *, at_once: int, waiting: bool) -> float:
    with TemporaryDirectory(dir=folder) as here:
        engine = open_for_writing(str(Path(here) / "moodsort.db"))
        if not waiting:
            sa.event.listen(engine, "connect", _trust_the_system)
            engine.dispose()  # so that it connects anew
        ledger = Ledger(engine)
        milliseconds = _timed(lambda first: _record(ledger, first, at_once), at_once)
        ledger.close()
        return milliseconds


def _record(ledger: Ledger, first: int, at_once: int) -> None:
    names = [f"{n}.jpg" for n in range(first, first + at_once)]
    ids = [id for id in ledger.claim([Source(Path("/in") / n, 1, 1) for n in names]) if id]
    ledger.decide(
        [
            Decision(id, Path("/out") / name, 1, 1, None, label="happy")
            for id, name in zip(ids, names, strict=True)
        ]
    )
    ledger.finish(ids)


def _trust_the_system(connection: Any, record: Any) -> None:
    connection.execute("PRAGMA synchronous=OFF")


def _timed(step: Callable[[int], object], at_once: int) -> float:
    """Milliseconds a file."""
    begin = time.perf_counter()
    for first in range(0, FILES, at_once):
        step(first)
    return (time.perf_counter() - begin) / FILES * 1000
