"""A database by path or URL -> a SQLAlchemy engine with the right settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from db import postgresql, sqlite
from db.errors import LedgerError, LedgerUnavailable, said
from db.schema import NEWEST
from db.text import without_password

KINDS: dict[str, ModuleType] = {"sqlite": sqlite, "postgresql": postgresql}
"""What is particular to each, by the name in a URL."""


def open_for_writing(database: str) -> sa.Engine:
    """The database for the one who keeps the ledger; made and brought up to date where needed.

    `database` is the path of a SQLite file or a SQLAlchemy URL.

    Raises:
        LedgerUnavailable: it is locked or full now.
        LedgerError: it cannot be made or opened, is damaged, or is newer than this program.
    """
    url = _url(database)
    if file := _file(url):
        sqlite.make(file)
    with refusals(database):
        engine = _engine(url, writing=True)
        try:
            with engine.begin() as connection:
                if _version(connection) != NEWEST:
                    _migrate(connection, database)
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
            f"The database {without_password(database)} has schema {version or 'none'}, "
            f"this program needs {NEWEST}. Start the service of the same version once to bring it "
            "up to date."
        )
    return engine


def _url(database: str) -> sa.URL:
    if "://" not in database:
        return sa.URL.create("sqlite", database=str(Path(database).absolute()))
    # What is said of a malformed URL, or of the host that it seems to name, may be of the password.
    try:
        if database.count("@") > 1 and not _is_sqlite(database):
            raise ValueError
        with refusals(database):
            return sa.make_url(database)
    except ValueError:
        raise LedgerError(
            f"{without_password(database)!r} is no database URL like "
            "postgresql+psycopg://user:password@host/name. In a password @ is written as %40, "
            "/ as %2F, : as %3A and % as %25."
        ) from None


def _file(url: sa.URL) -> Path | None:
    """The file of a SQLite database."""
    return sqlite.file_of(url) if url.get_backend_name() == "sqlite" else None


def _engine(url: sa.URL, *, writing: bool) -> sa.Engine:
    kind = KINDS.get(url.get_backend_name())
    if kind is None:
        raise LedgerError(
            f"moodsort keeps its database in SQLite or PostgreSQL, not in {url.get_backend_name()}."
        )
    engine: sa.Engine = kind.engine(url, writing=writing)
    return engine


def _version(connection: sa.Connection) -> str | None:
    """What Alembic noted; to import it for that took a query a quarter longer."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return version


def _migrate(connection: sa.Connection, database: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "db:migrations")
    config.attributes["connection"] = connection
    if connection.dialect.name == "postgresql":
        postgresql.take_turn(connection)
    version = _version(connection)  # Another may just have done it.
    known = {step.revision for step in ScriptDirectory.from_config(config).walk_revisions()}
    if version is not None and version not in known:
        raise LedgerError(
            f"The database {without_password(database)} was made by a newer moodsort "
            f"(schema {version}); install that version."
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
    name = without_password(database)
    try:
        yield
    except (SQLAlchemyError, ImportError) as error:
        if _is_interrupted(error):
            raise KeyboardInterrupt from None
        cause = said(error)
        if isinstance(error, OperationalError) and _passes(database, cause):
            raise LedgerUnavailable(f"The database {name} is not to be had: {cause}") from error
        advice = f" {sqlite.ADVICE}" if _is_sqlite(database) else ""
        raise LedgerError(f"The database {name} cannot be used: {cause}.{advice}") from None


def _is_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C came amid a query: then a driver cannot end its transaction in order."""
    while error and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _passes(database: str, cause: str) -> bool:
    if _is_sqlite(database):
        return bool(sqlite.PASSING.search(cause))
    return not postgresql.REFUSALS.search(cause)


def file_of(database: str) -> Path | None:
    """The file of a SQLite database; None of any other.

    Raises:
        LedgerError: it is no URL of a database.
    """
    return _file(_url(database))


def is_shareable(database: str) -> bool:
    """Whether several services may keep the ledger at a time."""
    return not _is_sqlite(database)


def _is_sqlite(database: str) -> bool:
    return "://" not in database or database.startswith("sqlite")
