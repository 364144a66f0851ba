"""A database by path or URL -> a SQLAlchemy engine with the right settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from db.errors import LedgerError
from db.schema import NEWEST

BUSY_TIMEOUT_MS = 10_000
"""How long SQLite waits for a lock that another process holds."""


def open_for_writing(database: str) -> sa.Engine:
    """The database for the one who keeps the ledger; made and brought up to date where needed.

    `database` is the path of a SQLite file or a SQLAlchemy URL.

    Raises:
        LedgerError: it cannot be made or opened, is damaged, or is newer than this program.
    """
    url = _url(database, "rwc")
    if url.drivername == "sqlite":
        _make_parent(database)
    engine = _engine(url, writing=True)
    try:
        with engine.begin() as connection:
            version = _version(connection)
            if version != NEWEST:
                _migrate(connection, version, database)
    except SQLAlchemyError as error:
        engine.dispose()
        raise _unusable(database, error) from None
    except LedgerError:
        engine.dispose()
        raise
    return engine


def open_for_reading(database: str) -> sa.Engine:
    """The database for queries; never made, never changed.

    Raises:
        LedgerError: it is absent, damaged, or of another version than this program.
    """
    url = _url(database, "rw")
    if url.drivername == "sqlite" and not Path(database).is_file():
        raise LedgerError(
            f"There is no database {database}. `moodsort run` makes it; "
            "name another with --database or MOODSORT_DATABASE."
        )
    engine = _engine(url, writing=False)
    try:
        with engine.connect() as connection:
            version = _version(connection)
    except SQLAlchemyError as error:
        engine.dispose()
        raise _unusable(database, error) from None
    if version != NEWEST:
        engine.dispose()
        raise LedgerError(
            f"The database {database} has schema {version or 'none'}, this program needs {NEWEST}. "
            "Start the service of the same version once to bring it up to date."
        )
    return engine


def _url(database: str, sqlite_mode: str) -> sa.URL:
    try:
        if "://" in database:
            return sa.make_url(database)
    except SQLAlchemyError as error:
        raise LedgerError(f"{database!r} is no database URL: {error}") from None
    path = Path(database).absolute().as_uri()
    return sa.URL.create("sqlite", database=path, query={"mode": sqlite_mode, "uri": "true"})


def _make_parent(database: str) -> None:
    try:
        Path(database).absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(
            f"The folder of the database {database} cannot be made: {error.strerror}."
        ) from None


def _engine(url: sa.URL, *, writing: bool) -> sa.Engine:
    engine = sa.create_engine(url)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare_writer if writing else _prepare_reader)
        sa.event.listen(engine, "begin", _begin_immediate if writing else _begin)
    return engine


def _prepare_writer(connection: Any, record: Any) -> None:
    _pragmas(connection, "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")


def _prepare_reader(connection: Any, record: Any) -> None:
    _pragmas(connection, "query_only=ON")


def _pragmas(connection: Any, *pragmas: str) -> None:
    # The driver must not begin transactions by itself: it does so too late for a lock to hold.
    connection.isolation_level = None
    for pragma in (f"busy_timeout={BUSY_TIMEOUT_MS}", *pragmas):
        connection.execute(f"PRAGMA {pragma}")


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


def _unusable(database: str, error: SQLAlchemyError) -> LedgerError:
    cause = getattr(error, "orig", None) or error
    return LedgerError(
        f"The database {database} cannot be used: {cause}. "
        "If it is damaged, move it aside and restore a copy; moodsort does not start over on it."
    )
