from __future__ import annotations

import csv
import sqlite3
import sys
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmarks.queries import FILL
from daemon.cli import main
from db.engine import open_for_reading, open_for_writing
from db.exporting import export
from db.queries import COLUMNS, Filter, find
from tests.db.filled import fail, judge
from tests.helpers import Place, json_lines


@pytest.fixture
def some(place: Place) -> Place:
    judge(place, "a.jpg", 0.9)
    judge(place, 'odd ",\n\u00e9.jpg', 0.2)
    fail(place, "c.jpg")
    return place


def ask(place: Place, *args: str | Path) -> Result:
    return CliRunner().invoke(
        main, [str(arg) for arg in args], env={"MOODSORT_DATABASE": str(place.database)}
    )


def told(place: Place) -> list[dict]:
    return json_lines(ask(place, "results", "--json", "--sort", "oldest").stdout)


def exported(place: Place, name: str, *args: str) -> Path:
    file = place.root / name
    result = ask(place, "export", file, *args)
    assert result.exit_code == 0, result.output
    assert sorted(file.parent.glob(".moodsort-*")) == []
    return file


def test_json_lines_are_those_of_results(some: Place) -> None:
    assert json_lines(exported(some, "out.jsonl").read_text()) == told(some)


def test_csv_is_read_back(some: Place) -> None:
    with exported(some, "out.CSV").open(newline="") as file:
        read = list(csv.DictReader(file))
    as_text = [{k: "" if v is None else str(v) for k, v in row.items()} for row in told(some)]
    assert read == as_text


def test_a_database_has_the_same_columns_and_values(some: Place) -> None:
    link = sqlite3.connect(exported(some, "out.sqlite"))
    link.row_factory = sqlite3.Row
    rows = [dict(row) for row in link.execute("SELECT * FROM results ORDER BY id")]
    link.close()
    assert rows == told(some)
    assert tuple(rows[0]) == COLUMNS


def test_parquet_has_types(some: Place) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    rows = parquet.read_table(exported(some, "out.parquet")).to_pylist()
    assert tuple(rows[0]) == COLUMNS
    assert all(isinstance(row["claimed_at"], datetime) for row in rows)
    assert all(row["claimed_at"].utcoffset() == datetime.now(UTC).utcoffset() for row in rows)
    untimed = [name for name in COLUMNS if not name.endswith("_at")]
    assert [[row[name] for name in untimed] for row in rows] == [
        [row[name] for name in untimed] for row in told(some)
    ]


def test_parquet_without_its_library_is_a_sentence(
    some: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as if it were not there
    result = ask(some, "export", some.root / "out.parquet")
    assert result.exit_code == 1
    assert "pip install 'moodsort[parquet]'" in result.stderr
    assert list(some.root.glob("*out*")) == []


def test_only_what_is_asked_for(some: Place) -> None:
    rows = json_lines(exported(some, "out.jsonl", "--label", "sad").read_text())
    assert [Path(row["source_path"]).name for row in rows] == ["a.jpg"]
    assert exported(some, "none.csv", "--label", "unsure").read_text().count("\n") == 1


def test_nothing_is_replaced(some: Place) -> None:
    (some.root / "out.csv").write_text("mine")
    result = ask(some, "export", some.root / "out.csv")
    assert result.exit_code == 1
    assert "exists already, and is not replaced" in result.stderr
    assert (some.root / "out.csv").read_text() == "mine"


def test_what_cannot_be_written_is_a_sentence(some: Place) -> None:
    for file, sentence in (
        ("out.xlsx", "must end in .csv, .jsonl, .parquet, .sqlite"),
        ("none/out.csv", "No such file or directory"),
        ("none/out.sqlite", "cannot be written"),
    ):
        result = ask(some, "export", some.root / file)
        assert result.exit_code == 1
        assert sentence in result.stderr


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.sqlite"])
def test_memory_does_not_grow_with_the_rows(
    place: Place, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.queries.FETCHED", 100)
    open_for_writing(str(place.database)).dispose()
    with sqlite3.connect(place.database) as link:
        link.execute(FILL, {"rows": 10_000})
    link.close()
    engine = open_for_reading(str(place.database))
    # What is loaded at the first time does not count.
    export(find(engine, Filter(error="none")), place.root / f"first-{name}")
    tracemalloc.start()
    try:
        assert export(find(engine, Filter()), place.root / name) == 10_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        engine.dispose()
    written = (place.root / name).stat().st_size
    assert peak < written / 2, f"{peak} bytes for a file of {written}"
