from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from db.engine import open_for_reading, open_for_writing
from db.errors import LedgerError, LedgerUnavailable
from db.ledger import Ledger
from db.queries import Filter, find
from db.schema import NEWEST, Base


def test_the_migrations_make_the_schema_of_the_code(tmp_path: Path) -> None:
    engine = open_for_writing(str(tmp_path / "a.db"))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Base.metadata) == []
        assert context.get_current_revision() == NEWEST
    engine.dispose()


@pytest.fixture
def made_by_0001(tmp_path: Path) -> Path:
    """A database of the first version: an image filed, one failed and one claimed."""
    path = tmp_path / "old.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", "db:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.exec_driver_sql(
            "INSERT INTO models VALUES (1, 'm', 'a', '[]', 48, 48, 1, '{}', '2026-01-01 00:00:00')"
        )
        for values in (
            "1, 'filed', '/in/1', '/happy/1', 'happy', 0.9, 0.1, 1, NULL",
            "2, 'failed', '/in/2', '/failed/2', NULL, NULL, NULL, NULL, 'empty'",
            "3, 'claimed', '/in/3', NULL, NULL, NULL, NULL, NULL, NULL",
        ):
            connection.exec_driver_sql(
                "INSERT INTO images (id, state, source_path, destination_path, label, probability,"
                " p_sad, model_id, error_code, source_mtime_ns, size_bytes, claimed_at)"
                f" VALUES ({values}, 1, 1, '2026-01-01 00:00:00')"
            )
    engine.dispose()
    return path


def test_a_database_of_the_first_version_is_brought_up_to_date(made_by_0001: Path) -> None:
    with pytest.raises(LedgerError, match=f"has schema 0001, this program needs {NEWEST}"):
        open_for_reading(str(made_by_0001))
    ledger = Ledger(open_for_writing(str(made_by_0001)))
    ledger.release([3])
    ledger.close()
    engine = open_for_reading(str(made_by_0001))
    failed, filed = find(engine, Filter())
    engine.dispose()
    assert (filed["id"], filed["label"], filed["model"]) == (1, "happy", "m")
    assert (filed["decided_by"], failed["decided_by"]) == ("whole_image", None)
    assert tuple(filed)[-2:] == ("corrected_at", "missing_since")


def test_a_writer_is_durable_and_lets_others_read(tmp_path: Path) -> None:
    engine = open_for_writing(str(tmp_path / "a.db"))
    with engine.connect() as connection:
        pragma = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragma == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    engine.dispose()


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "odd name?#%20.db"
    open_for_writing(str(path)).dispose()
    open_for_writing(str(path)).dispose()
    open_for_reading(str(path)).dispose()
    assert path.is_file()


def test_reading_makes_no_database(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="There is no database"):
        open_for_reading(str(tmp_path / "none.db"))
    assert not list(tmp_path.iterdir())


def test_reading_cannot_write(tmp_path: Path) -> None:
    open_for_writing(str(tmp_path / "a.db")).dispose()
    engine = open_for_reading(str(tmp_path / "a.db"))
    with engine.connect() as connection, pytest.raises(Exception, match="readonly"):
        connection.exec_driver_sql("DELETE FROM images")
    engine.dispose()


@pytest.mark.parametrize("opening", [open_for_reading, open_for_writing])
def test_a_damaged_database_is_refused_and_left_as_it_is(tmp_path: Path, opening) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"this is no database, but somebody may still want it" * 100)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="cannot be used"):
        opening(str(path))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("opening", "sentence"),
    [(open_for_reading, "has schema 9999"), (open_for_writing, "made by a newer moodsort")],
)
def test_a_newer_database_is_refused(tmp_path: Path, opening, sentence: str) -> None:
    path = tmp_path / "a.db"
    open_for_writing(str(path)).dispose()
    with sqlite3.connect(path) as link:
        link.execute("UPDATE alembic_version SET version_num = '9999'")
    link.close()
    with pytest.raises(LedgerError, match=sentence):
        opening(str(path))


def test_a_place_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match="cannot be made"):
        open_for_writing(str(tmp_path / "file" / "a.db"))


@pytest.mark.parametrize("url", ["://nonsense", "nosuch://x", "http://[", "postgresql+nosuch://x"])
def test_a_url_that_cannot_be_used_is_a_sentence(url: str) -> None:
    for opening in (open_for_reading, open_for_writing):
        with pytest.raises(LedgerError, match=r"cannot be used|no database URL|not in \w+"):
            opening(url)


def test_a_url_of_sqlite_is_the_same_as_its_path(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.db"
    open_for_writing(f"sqlite:///{path}").dispose()
    assert path.is_file()
    open_for_reading(str(path)).dispose()
    open_for_reading(f"sqlite:///{path}").dispose()
    with pytest.raises(LedgerError, match="There is no database"):
        open_for_reading(f"sqlite:///{tmp_path}/none.db")


def test_a_locked_database_is_worth_waiting_for(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    open_for_writing(str(path)).dispose()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailable, match="locked"):
        open_for_writing(str(path))
    other.close()
    open_for_writing(str(path)).dispose()
