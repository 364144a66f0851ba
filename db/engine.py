"""A database by path or URL -> a SQLAlchemy engine with the right settings."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from db.errors import LedgerError, LedgerUnavailable
from db.schema import NEWEST

READER_PATIENCE_MS = 10_000
WRITER_PATIENCE_MS = 1_000
"""How long SQLite waits for a lock that another process holds.

A writer is told soon, so that the service can say what it waits for, and can be stopped.
"""


NO_ROOM = {errno.ENOSPC, errno.EDQUOT}

PASSING = re.compile("locked|full")
"""In what SQLite says of troubles that pass."""


def open_for_writing(database: str) -> sa.Engine:
    """The database for the one who keeps the ledger; made and brought up to date where needed.

    `database` is the path of a SQLite file or a SQLAlchemy URL.

    Raises:
        LedgerUnavailable: it is locked or full now.
        LedgerError: it cannot be made or opened, is damaged, or is newer than this program.
    """
    url = _url(database)
    if file := _file(url):
        _make(file)
    with refusals(database):
        engine = _engine(url, writing=True)
        try:
            with engine.begin() as connection:
                version = _version(connection)
                if version != NEWEST:
                    _migrate(connection, version, database)
        except BaseException:
            engine.dispose()
            raise
    return engine


def open_for_reading(database: str) -> sa.Engine:
    """The database for queries; never made, never changed.

    Raises:
        LedgerError: it is absent, damaged, or of another version than this program.
    """
    url = _url(database)
    file = _file(url)
    if file and not file.is_file():
        raise LedgerError(
            f"There is no database {database}. `moodsort run` makes it; "
            "name another with --database or MOODSORT_DATABASE."
        )
    with refusals(database):
        engine = _engine(url, writing=False)
        try:
            with engine.connect() as connection:
                version = _version(connection)
        except BaseException:
            engine.dispose()
            raise
    if version != NEWEST:
        engine.dispose()
        raise LedgerError(
            f"The database {database} has schema {version or 'none'}, this program needs {NEWEST}. "
            "Start the service of the same version once to bring it up to date."
        )
    return engine


def _url(database: str) -> sa.URL:
    if "://" not in database:
        return sa.URL.create("sqlite", database=str(Path(database).absolute()))
    try:
        with refusals(database):
            return sa.make_url(database)
    except ValueError as error:
        raise LedgerError(f"{database!r} is no database URL: {error}.") from None


def _file(url: sa.URL) -> Path | None:
    """The file of a SQLite database."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def _make(file: Path) -> None:
    """An empty file is a SQLite database without tables."""
    try:
        file.parent.mkdir(mode=0o775, parents=True, exist_ok=True)
        if not file.exists():
            file.touch(mode=0o644)
    except OSError as error:
        kind = LedgerUnavailable if error.errno in NO_ROOM else LedgerError
        raise kind(f"The database {file} cannot be made: {error.strerror}.") from None


def _engine(url: sa.URL, *, writing: bool) -> sa.Engine:
    if file := _file(url):
        query = {"mode": "rw", "uri": "true"}  # It is made but once, never while it is missing.
        url = url.set(database=file.absolute().as_uri(), query=query)
    engine = sa.create_engine(url)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare_writer if writing else _prepare_reader)
        if writing and file:
            sa.event.listen(engine, "begin", partial(_require_same, file, file.stat()))
        sa.event.listen(engine, "begin", _begin_immediate if writing else _begin)
    return engine


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


def _version(connection: sa.Connection) -> str | None:
    from alembic.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_revision()


def _migrate(connection: sa.Connection, version: str | None, database: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "db:migrations")
    config.attributes["connection"] = connection
    known = {step.revision for step in ScriptDirectory.from_config(config).walk_revisions()}
    if version is not None and version not in known:
        raise LedgerError(
            f"The database {database} was made by a newer moodsort (schema {version}); "
            "install that version."
        )
    command.upgrade(config, "head")


@contextmanager
def reading(database: str) -> Iterator[sa.Engine]:
    """Open a database for queries, and close it.

    Raises:
        LedgerError: it is missing, of another version, or cannot be read.
    """
    engine = open_for_reading(database)
    try:
        with refusals(database):
            yield engine
    finally:
        engine.dispose()


@contextmanager
def refusals(database: str) -> Iterator[None]:
    """What SQLAlchemy and the drivers say, as one of this package's errors."""
    try:
        yield
    except (SQLAlchemyError, ImportError) as error:
        cause = getattr(error, "orig", None) or error
        if isinstance(error, OperationalError) and PASSING.search(str(cause)):
            raise LedgerUnavailable(f"The database {database} is not to be had: {cause}") from error
        raise LedgerError(
            f"The database {database} cannot be used: {cause}. "
            "If it is damaged, move it aside and restore a copy; it is never overwritten."
        ) from None
