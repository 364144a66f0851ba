"""The examples of docs/results.md, run as they stand there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from db.glossary import RESULTS
from db.queries import COLUMNS
from db.questions import QUESTIONS
from tests.db.filled import fail, judge
from tests.helpers import Place, moodsort

PAGE = (Path(__file__).parent.parent / "docs" / "results.md").read_text()


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a database in the place where it lies by default."""
    place = Place(tmp_path / "moodsort-data")
    judge(place, "a.jpg", 0.9)
    judge(place, "b.jpg", 0.6, model="n")
    judge(place, "c.jpg", 0.1)
    fail(place, "d.jpg")
    return tmp_path


def test_all_columns_are_told_in_their_order() -> None:
    table = PAGE.split("## With")[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    told = re.findall(r"`(\w+)`", " ".join(cells))
    assert tuple(told) == COLUMNS == tuple(RESULTS)
    for names, meaning in re.findall(r"^\| (`.*?) \| \w+ \| (.*) \|$", table, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", names):
            assert RESULTS[name] == meaning.replace("`", "")


def test_what_is_asked_is_what_browse_has_ready() -> None:
    ready = {question.sql.strip() for question in QUESTIONS.values()}
    assert {question.strip().rstrip(";") for question in examples("sql")} <= ready


@pytest.mark.skipif(not shutil.which("sqlite3"), reason="the program sqlite3 is not installed")
def test_sql_is_answered(home: Path) -> None:
    questions = examples("sql")
    assert len(questions) == 4
    command = ["sqlite3", "-readonly", "-header", "moodsort-data/moodsort.db"]
    assert " ".join(command) in PAGE
    answers = [
        subprocess.run(
            command, input=question, cwd=home, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for question in questions
    ]
    days, unsure, repeated, agreement = answers
    assert days[0] == "day|label|images|mean"
    assert [line.split("|")[1:] for line in days[1:]] == [
        *(["happy", "1", "0.9"], ["sad", "2", "0.75"])
    ]
    assert [line.split("|")[0] for line in unsure[1:]] == ["/out/b.jpg", "/out/a.jpg", "/out/c.jpg"]
    assert repeated[1:] == [f"{'c' * 64}|4|/out/a.jpg|1"]
    assert agreement == []


def python_example(library: str) -> str:
    pytest.importorskip(library, reason=f"{library} is not installed")
    [example] = [text for text in examples("python") if f"import {library}\n" in text]
    return example


def answer(home: Path, program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_pandas_answers(home: Path) -> None:
    lines = answer(home, python_example("pandas")).splitlines()
    assert lines[0].split() == ["label", "happy", "sad"]
    assert sum(int(line.split()[1]) for line in lines[2:]) == 1
    assert sum(int(line.split()[2]) for line in lines[2:]) == 2


def test_duckdb_answers(home: Path) -> None:
    example = python_example("duckdb")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    assert "`moodsort export results.parquet`" in PAGE
    done = moodsort("export", "results.parquet", cwd=home)
    assert done.stdout == "4 rows in results.parquet\n", done.stderr
    shown = re.sub(r"[^\w.]+", " ", answer(home, example))
    for group in ("m happy 1 0.9", "m sad 1 0.9", "n sad 1 0.6"):
        assert f" {group} " in shown
