"""What a row costs with each kind of database: time, room, and the work of the server."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import psycopg

from benchmarks.databases import DURABLE
from benchmarks.figures import TRIALS, Figure
from benchmarks.usage import cpu_seconds
from daemon import process
from db.engine import open_for_writing
from db.ledger import Decision, FaceRecord, Ledger, Source
from db.services import Services
from tests.postgres import Server, programs

NAME = "rows"
ROWS = 100_000
"""So many are written to see what room they take."""
FEWER = 10_000
"""So many where only the time counts."""
BEFORE = 1_000_000
"""Rows that a large database holds already."""
AT_ONCE = 64
WRITERS = (1, 2, 4)
INBOX, HAPPY = Path("/srv/moodsort/inbox"), Path("/srv/moodsort/happy")
FACE = FaceRecord(110, 80, 260, 260, 0.93, 0.21)

COPY = """
WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < :rows)
INSERT INTO images (sha256, size_bytes, source_mtime_ns, width, height, format, source_path, state,
    label, probability, p_sad, decided_by, destination_path, claimed_at, decided_at, filed_at)
SELECT lower(hex(randomblob(32))), 110000, n, 1200, 800, 'JPEG', '/srv/moodsort/inbox/b' || n,
    'filed', 'happy', 0.5 + abs(random() % 1000000) / 2e6, 0.5, 'faces',
    '/srv/moodsort/happy/b' || n, t, t, t
FROM (SELECT n, strftime('%Y-%m-%d %H:%M:%f', '2026-01-01', n || ' seconds') || '000' AS t
      FROM number)
"""
"""Rows whose hashes and probabilities are as scattered as real ones."""


@dataclass(frozen=True)
class Written:
    """What it took to write rows: files a second, and core-milliseconds a file of who wrote."""

    per_second: float
    core_ms: float


def measure(photos: Sequence[Path], folder: Path) -> list[Figure]:
    """Claimed, decided and finished, 64 at once, each with one face; no file is moved."""
    figures = _of_sqlite(folder)
    if found := programs():
        with closing(Server(found, DURABLE)) as server:
            figures += _of_postgresql(server)
    return figures


def _of_sqlite(folder: Path) -> list[Figure]:
    empty, large = folder / "empty.db", folder / "large.db"
    written = _write(str(empty), "a", ROWS)
    open_for_writing(str(large)).dispose()
    with closing(sqlite3.connect(large)) as link, link:
        link.execute(COPY, {"rows": BEFORE})
    later = [_write(str(large), f"t{n}", FEWER) for n in range(TRIALS)]
    return [
        Figure(NAME, "SQLite, empty before", "files/s", [written.per_second]),
        Figure(NAME, f"SQLite, {BEFORE} rows before", "files/s", [w.per_second for w in later]),
        Figure(NAME, "SQLite, processor", "core-ms a file", [written.core_ms]),
        Figure(NAME, "SQLite, on the disk", "bytes a file", [empty.stat().st_size / ROWS]),
    ]


def _of_postgresql(server: Server) -> list[Figure]:
    name = server.create()
    url = server.url(name)
    open_for_writing(url).dispose()
    with psycopg.connect(server.conninfo(name), autocommit=True) as link:
        begin, cpu = _log_position(link), cpu_seconds(server.process.pid)
        written = _write(url, "a", ROWS)
        log = (_log_position(link) - begin) / ROWS
        core_ms = (cpu_seconds(server.process.pid) - cpu) / ROWS * 1000
        link.execute("VACUUM ANALYZE")
        room = dict(_room(link))
    figures = [
        Figure(NAME, "PostgreSQL, empty before", "files/s", [written.per_second]),
        Figure(NAME, "PostgreSQL, processor of the service", "core-ms a file", [written.core_ms]),
        Figure(NAME, "PostgreSQL, processor of the server", "core-ms a file", [core_ms]),
        Figure(NAME, "PostgreSQL, write-ahead log", "bytes a file", [log]),
        *(Figure(NAME, f"PostgreSQL, {what}", "bytes a file", [b]) for what, b in room.items()),
    ]
    for writers in WRITERS:
        rates = [_together(url, f"w{writers}t{trial}", writers) for trial in range(TRIALS)]
        figures.append(Figure(NAME, f"PostgreSQL, {writers} services", "files/s", rates))
    return figures


def _log_position(link: psycopg.Connection) -> int:
    """Bytes of the write-ahead log so far."""
    row = link.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')").fetchone()
    assert row
    return int(row[0])


def _room(link: psycopg.Connection) -> Iterator[tuple[str, float]]:
    for table in ("images", "faces"):
        row = link.execute(
            "SELECT pg_table_size(%(of)s), pg_indexes_size(%(of)s)", {"of": table}
        ).fetchone()
        assert row
        yield f"table {table}", row[0] / ROWS
        yield f"indexes of {table}", row[1] / ROWS


def _together(url: str, prefix: str, writers: int) -> float:
    """Files a second of several processes that write at the same time."""
    with ProcessPoolExecutor(writers, mp_context=get_context("spawn")) as pool:
        warm = [f"{prefix}-warm{n}-" for n in range(writers)]
        list(pool.map(partial(_write, url, count=AT_ONCE), warm))
        begin = time.perf_counter()
        list(
            pool.map(partial(_write, url, count=FEWER), [f"{prefix}-{n}-" for n in range(writers)])
        )
        return writers * FEWER / (time.perf_counter() - begin)


def _write(database: str, prefix: str, count: int) -> Written:
    engine = open_for_writing(database)
    shared = engine.dialect.name == "postgresql"
    service = Services(engine).enlist(process.current(), INBOX, 30.0) if shared else None
    with closing(Ledger(engine, service)) as ledger:
        begin, cpu = time.perf_counter(), time.process_time()
        for first in range(0, count, AT_ONCE):
            _file(ledger, [f"{prefix}{n}.jpg" for n in range(first, min(count, first + AT_ONCE))])
        seconds = time.perf_counter() - begin
        return Written(count / seconds, (time.process_time() - cpu) / count * 1000)


def _file(ledger: Ledger, names: Sequence[str]) -> None:
    """As the pipeline does it, but for the file."""
    ids = ledger.claim([Source(INBOX / name, 110_000, 1_790_000_000_000_000_000) for name in names])
    destinations = [HAPPY / name for name in names]
    ledger.taken(destinations)
    ledger.decide([_decision(id, path) for id, path in zip(ids, destinations, strict=True) if id])
    ledger.require_claims()
    ledger.finish([id for id in ids if id])


def _decision(id: int, destination: Path) -> Decision:
    digest = hashlib.sha256(os.fsencode(destination))
    share = int.from_bytes(digest.digest()[:4]) / 2**32
    return Decision(
        id,
        destination,
        110_000,
        1_790_000_000_000_000_000,
        digest.hexdigest(),
        width=1200,
        height=800,
        format="JPEG",
        label="happy",
        probability=0.5 + share / 2,
        p_sad=0.5 - share / 2,
        decided_by="faces",
        faces=[FACE],
    )
