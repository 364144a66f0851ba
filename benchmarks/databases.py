"""Recording and filing with each kind of database: all that the service does but read and judge."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.figures import TRIALS, Figure
from daemon import naming
from daemon.filing import Move, place
from daemon.identity import identity
from daemon.naming import Wanted
from db.engine import open_for_writing
from db.ledger import Decision, FaceRecord, Ledger, Source
from tests.postgres import Server, programs

NAME = "databases"
FILES = 2048
BYTES = 20_000
DURABLE = ("fsync=on", "shared_buffers=128MB", "listen_addresses=")
"""As a server is set up by default: it waits for the disk, as SQLite does here."""

FACE = FaceRecord(10, 10, 60, 60, 0.9, 0.2)


def measure(photos: Sequence[Path], folder: Path) -> list[Figure]:
    """Files a second, when so many are claimed, decided and moved at once; each has one face."""
    with databases(folder) as urls:
        return [
            Figure(
                NAME,
                f"{kind}, {at_once} at once",
                "files/s",
                [_filed(folder, url(), at_once) for _ in range(TRIALS)],
            )
            for kind, url in urls.items()
            for at_once in (64, 1)
        ]


@contextmanager
def databases(folder: Path) -> Iterator[dict[str, Callable[[], str]]]:
    """What makes a new database of each kind; without PostgreSQL's programs, of SQLite alone."""
    kinds = {"SQLite": lambda: f"{tempfile.mkdtemp(dir=folder)}/moodsort.db"}
    if (found := programs()) is None:
        yield kinds
        return
    with closing(Server(found, DURABLE)) as server:
        yield kinds | {"PostgreSQL": lambda: server.url(server.create())}


def _filed(folder: Path, database: str, at_once: int) -> float:
    with tempfile.TemporaryDirectory(dir=folder) as there:
        inbox, happy = Path(there) / "inbox", Path(there) / "happy"
        for made in (inbox, happy):
            made.mkdir()
        count = FILES if at_once > 1 else FILES // 8
        paths = [inbox / f"{n}.jpg" for n in range(count)]
        for path in paths:
            path.write_bytes(b"1" * BYTES)
        with closing(Ledger(open_for_writing(database))) as ledger:
            begin = time.perf_counter()
            for first in range(0, count, at_once):
                _file(ledger, paths[first : first + at_once], happy)
            return count / (time.perf_counter() - begin)


def _file(ledger: Ledger, paths: Sequence[Path], root: Path) -> None:
    found = {path: identity(path.stat()) for path in paths}
    ids = ledger.claim([Source(path, *seen) for path, seen in found.items()])
    claimed = {id: path for id, path in zip(ids, paths, strict=True) if id is not None}
    wanted = [Wanted(id, root, root / path.name) for id, path in claimed.items()]
    chosen = naming.choose_destinations(wanted, ledger.taken)
    ledger.decide(
        [
            Decision(id, chosen[id], *found[path], "c" * 64, label="happy", faces=[FACE])
            for id, path in claimed.items()
        ]
    )
    place([Move(id, p, chosen[id], root, found[p], None) for id, p in claimed.items()])
    ledger.finish(list(claimed))
