from __future__ import annotations

import csv
import io
import json
import sqlite3
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from daemon.cli import main
from db.engine import open_for_reading, open_for_writing
from db.ledger import Decision, FaceRecord, Ledger, ModelRecord, Source
from db.queries import COLUMNS, Filter, find
from tests.helpers import Place, json_lines

FACES = [FaceRecord(-4, 8, 60, 70, 0.9, 0.8), FaceRecord(90, 8, 30, 30, 0.7, 0.2)]


@pytest.fixture
def filled(place: Place) -> Place:
    """Ten happy, five sad, two failed images and one that is only claimed, in this order.

    Of the sad ones two faces decided.
    """
    ledger = Ledger(open_for_writing(str(place.database)))
    model = ledger.register(ModelRecord("m", "a" * 64, ("happy", "sad"), 48, 48, 1, {}))
    ids = ledger.claim([Source(Path(f"/inbox/{i}.jpg"), 10, 0) for i in range(18)])
    for i, id in enumerate(ids[:-1]):
        assert id is not None
        if i < 15:
            label = "happy" if i < 10 else "sad"
            p = 0.2 if i < 10 else 0.7
            about = {"label": label, "probability": max(p, 1 - p), "p_sad": p, "model_id": model}
            about |= {"decided_by": "faces" if i >= 10 else "whole_image"}
            about |= {"faces": FACES if i >= 10 else []}
        else:
            about = {"error_code": "empty", "error_detail": "The file is empty."}
        ledger.decide([Decision(id, Path(f"/out/{i}.jpg"), 10, 0, "c" * 64, **about)])
        ledger.finish([id])
    ledger.close()
    return place


def ask(place: Place, *args: str, environ: dict[str, str] | None = None) -> Result:
    if environ is None:
        environ = {"MOODSORT_DATABASE": str(place.database)}
    return CliRunner().invoke(main, args, env=environ)


def rows(place: Place, *args: str) -> list[dict]:
    result = ask(place, "results", "--json", *args)
    assert result.exit_code == 0, result.output
    return json_lines(result.stdout)


def test_rows_have_the_agreed_columns_newest_first(filled: Place) -> None:
    got = rows(filled)
    assert [row["id"] for row in got] == list(range(18, 0, -1))
    assert (
        tuple(got[0])
        == COLUMNS
        == (
            *("id", "source_path", "destination_path", "state", "label", "probability", "p_sad"),
            *("model", "width", "height", "format", "size_bytes", "sha256"),
            *("claimed_at", "decided_at", "filed_at"),
            *("error_code", "error_detail", "corrected_label", "decided_by"),
        )
    )
    assert got[-1]["model"] == "m"
    assert datetime.fromisoformat(got[-1]["filed_at"]).tzinfo == UTC


def test_filters(filled: Place) -> None:
    assert len(rows(filled, "--label", "sad")) == 5
    assert {row["error_code"] for row in rows(filled, "--state", "failed")} == {"empty"}
    assert len(rows(filled, "--limit", "3")) == 3
    assert rows(filled, "--limit", "0") == []
    assert len(rows(filled, "--since", "1h", "--label", "happy")) == 10
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert rows(filled, "--since", tomorrow) == []


@pytest.mark.parametrize("time", ["yesterday-ish", "999999w", "0001-01-01T00:00+23:59"])
def test_a_bad_time_is_a_sentence(filled: Place, time: str) -> None:
    result = ask(filled, "results", "--since", time)
    assert result.exit_code == 2
    assert f"'{time}' is no time like" in result.stderr


def test_a_damaged_page_is_a_sentence(filled: Place) -> None:
    with sqlite3.connect(filled.database) as link:
        link.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    link.close()
    with filled.database.open("r+b") as file:
        file.seek(4096 * 2)
        file.write(b"\xff" * 4096 * 20)
    result = ask(filled, "results", "--json")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: The database {filled.database} cannot be used: ")


def test_csv_has_a_header_and_all_rows(filled: Place) -> None:
    table = list(csv.DictReader(io.StringIO(ask(filled, "results", "--csv").stdout)))
    assert len(table) == 18
    assert tuple(table[0]) == COLUMNS
    assert table[-1]["label"] == "happy"


def test_faces_are_told_in_every_form(filled: Place) -> None:
    faces = [asdict(face) for face in FACES]
    got = rows(filled, "--faces")
    assert tuple(got[0]) == (*COLUMNS, "faces")
    assert [row["faces"] for row in got] == [[]] * 3 + [faces] * 5 + [[]] * 10
    assert [row["decided_by"] for row in got[2:9]] == [None] + ["faces"] * 5 + ["whole_image"]

    shown = ask(filled, "results", "--faces", "--csv", "--limit", "4").stdout
    table = list(csv.DictReader(io.StringIO(shown)))
    assert tuple(table[0]) == (*COLUMNS, "faces")
    assert [json.loads(row["faces"]) for row in table] == [[], [], [], faces]

    shown = ask(filled, "results", "--faces", "--limit", "9").stdout
    assert shown.splitlines()[0].split()[-3:] == ["prob.", "faces", "file"]
    assert shown.count(" 2 (1 sad) ") == 5
    assert shown.count(" 0 ") == 1


def test_faces_are_fetched_for_many_rows_at_once(
    filled: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.queries.FETCHED", 6)
    engine = open_for_reading(str(filled.database))
    asked: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
    got = list(find(engine, Filter(), with_faces=True))
    engine.dispose()
    assert [len(row["faces"]) for row in got] == [0] * 3 + [2] * 5 + [0] * 10
    assert len([statement for statement in asked if "SELECT" in statement]) == 1 + 18 / 6


def test_a_table_shows_the_last_twenty_at_most(filled: Place) -> None:
    result = ask(filled, "results", "--label", "happy")
    assert result.stdout.count("happy") == 10
    assert "No results" in ask(filled, "results", "--since", "2200-01-01").stdout


def test_a_table_is_safe_to_look_at(place: Place) -> None:
    ledger = Ledger(open_for_writing(str(place.database)))
    ledger.claim([Source(Path("/inbox/\x1b[31mred\u202egpj.jpg"), 1, 1)])
    ledger.close()
    out = ask(place, "results").stdout
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "\\x1b[31mred\\u202egpj.jpg" in out.replace("\n", "").replace(" ", "")


def test_stats(filled: Place) -> None:
    [got] = json_lines(ask(filled, "stats", "--json").stdout)
    assert (got["images"], got["waiting"], got["filed"], got["failed"]) == (18, 1, 15, 2)
    assert got["labels"] == {"happy": 10, "sad": 5}
    assert got["decided_by"] == {"faces": 5, "whole_image": 10}
    assert got["errors"] == {"empty": 2}
    assert got["share_happy"] == pytest.approx(2 / 3)
    shown = ask(filled, "stats").stdout
    assert "66.7% happy" in shown
    assert "  by faces       5\n  by whole image 10\n" in shown


def test_unsure_images_count_apart(filled: Place) -> None:
    ledger = Ledger(open_for_writing(str(filled.database)))
    [id] = ledger.claim([Source(Path("/inbox/unsure.jpg"), 10, 0)])
    assert id is not None
    about = {"label": "unsure", "probability": 0.6, "p_sad": 0.4, "decided_by": "whole_image"}
    ledger.decide([Decision(id, Path("/out/unsure.jpg"), 10, 0, "c" * 64, **about)])
    ledger.finish([id])
    ledger.close()
    [row] = rows(filled, "--label", "unsure")
    assert (row["id"], row["probability"], row["p_sad"]) == (id, 0.6, 0.4)
    [got] = json_lines(ask(filled, "stats", "--json").stdout)
    assert got["labels"] == {"happy": 10, "sad": 5, "unsure": 1}
    assert got["share_happy"] == pytest.approx(2 / 3)
    assert "filed   16 (66.7% happy where sure)" in ask(filled, "stats").stdout


def test_stats_of_nothing(place: Place) -> None:
    open_for_writing(str(place.database)).dispose()
    [got] = json_lines(ask(place, "stats", "--json").stdout)
    assert got["images"] == 0
    assert got["share_happy"] is None


def test_no_database_is_a_sentence_and_makes_none(place: Place) -> None:
    result = ask(place, "results")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: There is no database {place.database}")
    assert not place.database.exists()


def test_the_database_of_the_configuration_is_found(filled: Place) -> None:
    config = filled.root / "moodsort.toml"
    config.write_text('database = "moodsort.db"\n')
    assert ask(filled, "stats", "--config", str(config), environ={}).exit_code == 0
    assert ask(filled, "stats", environ={"MOODSORT_CONFIG": str(config)}).exit_code == 0
    other = ask(filled, "stats", "--config", str(config), "--database", "none.db", environ={})
    assert "There is no database none.db" in other.stderr
