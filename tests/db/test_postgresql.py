"""What is particular to PostgreSQL, with a real server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from click.testing import CliRunner

from daemon.cli import main
from db import queries
from db.engine import open_for_reading, open_for_writing
from db.errors import LedgerError, LedgerUnavailable
from db.ledger import Decision, Ledger, Source
from db.schema import NEWEST, Base
from db.text import without_password
from tests.db.filled import judge
from tests.helpers import Place
from tests.postgres import PASSWORD, Server


@pytest.fixture
def place(postgres_place: Place) -> Place:
    return postgres_place


@pytest.fixture
def url(postgres: Server) -> str:
    """Of a database without tables."""
    return postgres.url(postgres.create())


@pytest.fixture
def ledger(place: Place) -> Iterator[Ledger]:
    ledger = Ledger(open_for_writing(place.database))
    yield ledger
    ledger.close()


def test_the_migrations_make_the_schema_of_the_code(place: Place) -> None:
    engine = open_for_writing(place.database)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Base.metadata) == []
        assert context.get_current_revision() == NEWEST
    engine.dispose()


def test_reading_makes_no_tables(url: str) -> None:
    with pytest.raises(LedgerError, match="has schema none"):
        open_for_reading(url)


def test_reading_cannot_write(place: Place) -> None:
    engine = open_for_reading(place.database)
    with engine.connect() as connection, pytest.raises(Exception, match="read-only"):
        connection.exec_driver_sql("DELETE FROM images")
    engine.dispose()


def test_services_that_start_together_make_the_tables_once(url: str) -> None:
    with ThreadPoolExecutor(3) as pool:
        for engine in pool.map(open_for_writing, [url] * 3):
            engine.dispose()
    open_for_reading(url).dispose()


def test_a_database_of_a_newer_program_is_refused(url: str, postgres: Server) -> None:
    open_for_writing(url).dispose()
    with psycopg.connect(postgres.conninfo(sa.make_url(url).database)) as link:
        link.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(LedgerError, match="made by a newer moodsort"):
        open_for_writing(url)


@pytest.mark.parametrize(
    ("name", "password", "reason"),
    [("none", PASSWORD, "does not exist"), ("postgres", "wrong", "password authentication failed")],
)
def test_who_is_not_let_in_is_told_so_at_once(
    postgres: Server, name: str, password: str, reason: str
) -> None:
    with pytest.raises(LedgerError, match=f"cannot be used: .*{reason}") as refused:
        open_for_writing(postgres.url(name, password))
    assert not isinstance(refused.value, LedgerUnavailable)
    assert "\n" not in str(refused.value)


def test_a_server_that_is_away_is_worth_waiting_for() -> None:
    with pytest.raises(LedgerUnavailable, match="Connection refused"):
        open_for_writing("postgresql://moodsort@127.0.0.1:1/moodsort")


def test_a_driver_that_is_missing_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as if it were not there
    with pytest.raises(LedgerError, match=r"pip install 'moodsort\[postgres\]'"):
        open_for_writing("postgresql+psycopg://h/d")


def test_after_a_restart_of_the_server_the_same_call_works(
    postgres: Server, ledger: Ledger, place: Place
) -> None:
    a, b = (Source(Path(f"/inbox/{name}.jpg"), 1, 1) for name in "ab")
    ledger.claim([a])
    postgres.stop()
    try:
        with pytest.raises(LedgerUnavailable) as refused:
            ledger.claim([b])
        assert "\n" not in str(refused.value)
    finally:
        postgres.start()
    assert ledger.claim([b]) != [None]
    assert len(place.rows()) == 2


def test_a_restart_while_nothing_happens_is_not_noticed(
    postgres: Server, ledger: Ledger, place: Place
) -> None:
    ledger.claim([Source(Path("/inbox/a.jpg"), 1, 1)])
    postgres.stop()
    postgres.start()
    ledger.claim([Source(Path("/inbox/b.jpg"), 1, 1)])
    assert len(place.rows()) == 2


def test_who_holds_a_table_is_waited_for_but_not_for_long(
    ledger: Ledger, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules["db.postgresql"].WRITING, "lock_timeout", "50ms")
    impatient = Ledger(open_for_writing(place.database))
    source = Source(Path("/inbox/a.jpg"), 1, 1)
    with psycopg.connect(place.conninfo) as other:
        other.execute("LOCK TABLE images")
        with pytest.raises(LedgerUnavailable, match="lock timeout"):
            impatient.claim([source])
    assert impatient.claim([source]) != [None]
    impatient.close()


def test_rows_that_appear_after_later_ones_are_followed(ledger: Ledger, place: Place) -> None:
    """As when one service takes its numbers first, and ends its transaction last."""
    engine = open_for_reading(place.database)
    steps = queries.follow(engine, queries.Filter())
    assert next(steps) == []
    with psycopg.connect(place.conninfo) as slow:
        slow.execute(
            "INSERT INTO images (source_path, source_mtime_ns, size_bytes, state, claimed_at)"
            " VALUES ('/inbox/slow.jpg', 1, 1, 'failed', now())"
        )
        fast = judge(place, "fast.jpg", 0.9)
        assert [row["id"] for row in next(steps)] == [fast]
    assert [row["source_path"] for row in next(steps)] == ["/inbox/slow.jpg"]
    assert next(steps) == []
    engine.dispose()


def test_what_a_decoder_says_is_stored_whatever_it_is(ledger: Ledger, place: Place) -> None:
    [id] = ledger.claim([Source(Path("/inbox/a.jpg"), 1, 1)])
    said = "broken at\0\x1b[31m\n"
    ledger.decide([Decision(id or 0, Path("/f/a"), 1, 1, None, error_code="x", error_detail=said)])
    assert place.rows()[0]["error_detail"] == r"broken at\x00\x1b[31m\n"


def test_what_lies_below_a_folder_is_found_by_bytes(place: Place) -> None:
    """In most languages letters of both cases are neighbours, and marks do not count."""
    inside = [judge(place, f"a/{name}", 0.9) for name in ("A.jpg", "b.jpg", "é.jpg", "-.jpg")]
    for name in ("a.jpg", "A/c.jpg", "a-b/c.jpg", "a0"):
        judge(place, name, 0.9)
    engine = open_for_reading(place.database)
    assert {row.id for row in queries.below(engine, Path("/out/a"))} == set(inside)
    engine.dispose()


URLS = [
    "postgresql+psycopg://me:{}@127.0.0.1:1/moodsort",
    "postgresql+psycopg://me@127.0.0.1:1/moodsort?sslmode=disable&password={}",
    "postgresql+nosuch://me:{}@host/moodsort",
    "postgresql://me:{}@host:port/moodsort",
    "mysql://me:{}@host/moodsort",
    "://me:{}@host",
]


@pytest.mark.parametrize("secret", ["Geheim", "Geh/Geheim", "Geh@Geheim", "Geh:Geheim"])
@pytest.mark.parametrize("url", URLS)
def test_no_password_is_ever_shown(url: str, secret: str) -> None:
    full = url.format(secret)
    assert "Geh" not in without_password(full)
    for opening in (open_for_reading, open_for_writing):
        with pytest.raises(LedgerError) as refused:
            opening(full)
        assert "Geheim" not in str(refused.value)
    if secret == "Geheim":
        result = CliRunner().invoke(main, ["results", "--database", full])
        assert result.exit_code == 1
        assert "Geheim" not in result.output


def test_no_password_of_a_configuration_is_shown_as_a_default(tmp_path: Path) -> None:
    config = tmp_path / "moodsort.toml"
    config.write_text('database = "postgresql://me:Geheim@host/moodsort"\n')
    for command in ("results", "stats", "export", "run", "doctor"):
        shown = CliRunner().invoke(main, [command, "--config", str(config), "--help"])
        assert shown.exit_code == 0
        assert "Geheim" not in shown.output


@pytest.mark.parametrize(
    "database", ["/a/b:c@d.db", "postgresql://host/moodsort", "postgresql://me@host:5432/moodsort"]
)
def test_what_has_no_password_is_shown_as_it_is(database: str) -> None:
    assert without_password(database) == database
