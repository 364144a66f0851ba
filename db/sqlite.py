"""What is particular to SQLite: a file, its locks, and what they say."""

from __future__ import annotations

import errno
import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from db.errors import LedgerError, LedgerUnavailable

READER_PATIENCE_MS = 10_000
WRITER_PATIENCE_MS = 1_000
"""How long SQLite waits for a lock that another process holds.

A writer is told soon, so that the service can say what it waits for, and can be stopped.
"""

NO_ROOM = {errno.ENOSPC, errno.EDQUOT}

PASSING = re.compile("locked|full")
"""In what SQLite says of troubles that pass."""

ADVICE = "If it is damaged, move it aside and restore a copy; it is never overwritten."


def file_of(url: sa.URL) -> Path | None:
    """The file of the database; None of a database in memory."""
    return Path(url.database) if url.database else None


def make(file: Path) -> None:
    """An empty file is a SQLite database without tables.

    Raises:
        LedgerUnavailable: there is no room now.
        LedgerError: it cannot be made.
    """
    try:
        file.parent.mkdir(mode=0o775, parents=True, exist_ok=True)
        if not file.exists():
            file.touch(mode=0o644)
    except OSError as error:
        kind = LedgerUnavailable if error.errno in NO_ROOM else LedgerError
        raise kind(f"The database {file} cannot be made: {error.strerror}.") from None


def engine(url: sa.URL, *, writing: bool) -> sa.Engine:
    """An engine on a file that is there; it never makes one."""
    file = file_of(url)
    if file:
        query = {"mode": "rw", "uri": "true"}  # It is made but once, never while it is missing.
        url = url.set(database=file.absolute().as_uri(), query=query)
    made = sa.create_engine(url)
    sa.event.listen(made, "connect", _prepare_writer if writing else _prepare_reader)
    if writing and file:
        sa.event.listen(made, "begin", partial(_require_same, file, file.stat()))
    sa.event.listen(made, "begin", _begin_immediate if writing else _begin)
    return made


def _prepare_writer(connection: Any, record: Any) -> None:
    _pragmas(
        connection, WRITER_PATIENCE_MS, "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"
    )


def _prepare_reader(connection: Any, record: Any) -> None:
    _pragmas(connection, READER_PATIENCE_MS, "query_only=ON")


def _pragmas(connection: Any, patience_ms: int, *pragmas: str) -> None:
    # The driver must not begin transactions by itself: it does so too late for a lock to hold.
    connection.isolation_level = None
    for pragma in (f"busy_timeout={patience_ms}", *pragmas):
        connection.execute(f"PRAGMA {pragma}")


def _require_same(file: Path, opened: os.stat_result, connection: sa.Connection) -> None:
    """SQLite itself would go on writing to a file that was deleted."""
    try:
        now = file.stat()
    except OSError as error:
        raise LedgerUnavailable(
            f"The database {file} is gone ({error.strerror}). Put it back; or stop moodsort, "
            "restore a copy, and start it again"
        ) from None
    if not os.path.samestat(opened, now):
        raise LedgerError(
            f"Another file has taken the place of the database {file}. Start moodsort again, "
            "and it works with that one."
        )


def _begin_immediate(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN")
