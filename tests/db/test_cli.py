from __future__ import annotations

import csv
import io
import json
import os
import queue
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from daemon.cli import main
from db.engine import open_for_reading, open_for_writing
from db.ledger import Decision, Ledger, ModelRecord, Source
from db.queries import COLUMNS, Filter, find, follow
from db.schema import Image
from tests.db.filled import FACES, fail, judge
from tests.helpers import MOODSORT, PATIENCE, Place, json_lines, moodsort

SAID_TO_BE_SAD = sa.update(Image).values(corrected_label="sad")


@pytest.fixture
def place(either_place: Place) -> Place:
    return either_place


@pytest.fixture
def filled(place: Place) -> Place:
    fill(place)
    return place


def fill(place: Place) -> None:
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


def ask(place: Place, *args: str, environ: dict[str, str] | None = None) -> Result:
    if environ is None:
        environ = {"MOODSORT_DATABASE": str(place.database)}
    return CliRunner().invoke(main, args, env=environ)


def rows(place: Place, *args: str) -> list[dict]:
    result = ask(place, "results", "--json", *args)
    assert result.exit_code == 0, result.output
    return json_lines(result.stdout)


def ids(place: Place, *args: str) -> list[int]:
    return [row["id"] for row in rows(place, *args)]


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
            *("corrected_at", "missing_since"),
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


def test_more_filters(filled: Place) -> None:
    filled.change(SAID_TO_BE_SAD.where(Image.id.in_([2, 12])))
    assert ids(filled, "--corrected") == [12, 2]
    assert ids(filled, "--corrected", "--label", "happy") == [2]
    assert ids(filled, "--not-corrected", "--label", "sad") == [15, 14, 13, 11]
    assert ids(filled, "--error", "empty") == [17, 16]
    assert ids(filled, "--error", "truncated") == []
    assert ids(filled, "--min-probability", "0.75") == list(range(10, 0, -1))
    assert ids(filled, "--max-probability", "0.75") == list(range(15, 10, -1))
    assert ids(filled, "--min-probability", "0.75", "--max-probability", "0.75") == []
    assert len(ids(filled, "--model", "m")) == 15
    assert ids(filled, "--model", "M") == []
    assert ids(filled, "--until", "1h") == []


def claimed_one_each(seconds: int) -> list[sa.Update]:
    """As if the images had come so far apart, the one before the first at 2001-09-09 01:46:40."""
    return [claimed_at(id, datetime.fromtimestamp(1e9 + id * seconds, UTC)) for id in range(1, 19)]


def claimed_at(id: int, time: datetime) -> sa.Update:
    return sa.update(Image).where(Image.id == id).values(claimed_at=time)


def test_since_and_until_divide(filled: Place) -> None:
    filled.change(*claimed_one_each(3600))
    assert ids(filled, "--since", "2001-09-09T10:46:40Z") == list(range(18, 8, -1))
    assert ids(filled, "--until", "2001-09-09T10:46:40Z") == list(range(8, 0, -1))
    both = ("--since", "2001-09-09T10:46:40Z", "--until", "2001-09-09T11:46:40Z")
    assert ids(filled, *both) == [9]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("1?.jpg", range(10, 18)),
        ("*1.jpg", [1, 11]),
        ("/out/3.jpg", [3]),
        ("/inbox/3.jpg", [3]),
        ("/elsewhere/*", []),
        ("out/1.JPG", [1]),
        ("out", []),
        ("%", []),
        ("_.jpg", []),
        ("[0-9].jpg", []),
        ("!3.jpg", []),
    ],
)
def test_paths_are_found_by_pattern(filled: Place, pattern: str, found: Sequence[int]) -> None:
    got = [Path(row["source_path"]).name for row in rows(filled, "--path", pattern)]
    assert sorted(got) == sorted(f"{number}.jpg" for number in found)


def test_names_with_special_characters_are_found_by_themselves(place: Place) -> None:
    names = ["50%_off!.jpg", "50xyoff!.jpg", "a\\b.jpg"]
    made = {name: judge(place, name, 0.1) for name in names}
    for name, id in made.items():
        assert ids(place, "--path", name) == [id]


def test_orders_and_pages(place: Place) -> None:
    made = [judge(place, f"{n}.jpg", p) for n, p in enumerate((0.9, 0.45, 0.3, 0.55))]
    bad = fail(place, "bad.jpg")
    one, two, three, four = made
    assert ids(place) == [bad, four, three, two, one]
    assert ids(place, "--sort", "newest") == ids(place)
    assert ids(place, "--sort", "oldest") == [one, two, three, four, bad]
    assert ids(place, "--sort", "least-certain") == [two, four, three, one]
    assert ids(place, "--sort", "most-certain") == [one, three, four, two]
    assert ids(place, "--limit", "2", "--offset", "1") == [four, three]
    assert ids(place, "--sort", "oldest", "--offset", "3") == [four, bad]
    assert ids(place, "--offset", "9") == []


def test_a_table_has_local_times_and_data_has_those_of_utc(filled: Place) -> None:
    filled.change(SAID_TO_BE_SAD.values(decided_at=datetime(2026, 1, 31, 23, 30, tzinfo=UTC)))
    options = ("results", "--limit", "1", "--label", "happy", "--database", filled.database)
    here = {**os.environ, "TZ": "Asia/Kolkata"}
    [header, row] = moodsort(*options, env=here).stdout.splitlines()
    assert header.split() == ["id", "decided", "state", "label", "prob.", "file"]
    assert row.split() == [
        *("10", "2026-02-01", "05:00:00", "filed", "happy", "→", "sad", "0.800", "/out/9.jpg")
    ]
    assert json_lines(moodsort(*options, "--json", env=here).stdout)[0]["decided_at"] == (
        "2026-01-31T23:30:00.000Z"
    )


class Following:
    """`moodsort results --follow` as a child process."""

    def __init__(self, place: Place, *args: str) -> None:
        self.process = subprocess.Popen(
            [MOODSORT, "results", "--follow", *args, "--database", place.database],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.put(line)

    def line(self) -> str:
        return self.lines.get(timeout=PATIENCE)

    def end(self) -> tuple[int, str]:
        """By Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(PATIENCE)
        self._reader.join()
        assert self.process.stdout
        assert self.process.stderr
        with self.process.stdout, self.process.stderr as stderr:
            said = stderr.read()
        return code, said


def test_new_decisions_are_followed(filled: Place) -> None:
    """The first ones mark that it looks; what was there before is not told."""
    following = Following(filled, "--label", "sad", "--csv")
    made = [judge(filled, "mark-0.jpg", 0.9)]
    while following.lines.empty():
        made.append(judge(filled, f"mark-{len(made)}.jpg", 0.9))
        threading.Event().wait(0.2)
    made += [judge(filled, "x.jpg", 0.8)]
    judge(filled, "happy.jpg", 0.1)
    fail(filled, "bad.jpg")
    made += [judge(filled, "y.jpg", 0.7)]
    assert following.line().split(",") == [*COLUMNS[:-1], f"{COLUMNS[-1]}\n"]
    told = [int(following.line().split(",")[0])]
    while told[-1] != made[-1]:
        told.append(int(following.line().split(",")[0]))
    assert told == made[-len(told) :]
    assert following.end() == (0, "")
    assert following.lines.empty()


@pytest.mark.parametrize("after", range(1, 5))
def test_what_ends_amid_a_look_is_told_once(place: Place, after: int) -> None:
    judge(place, "before.jpg", 0.9)
    engine = open_for_reading(str(place.database))
    steps = follow(engine, Filter())
    assert next(steps) == []
    asked = count(1)
    made: list[int] = []

    @sa.event.listens_for(engine, "after_cursor_execute")
    def meanwhile(*_: Any) -> None:
        if next(asked) == after:
            made.append(judge(place, "meanwhile.jpg", 0.9))

    assert [row["id"] for _ in range(3) for row in next(steps)] == made
    assert made
    engine.dispose()


def test_decisions_are_followed_in_whatever_order_they_end(place: Place) -> None:
    ledger = Ledger(open_for_writing(str(place.database)))
    one, two, three = (
        ledger.claim([Source(Path(f"/inbox/{n}.jpg"), 1, 0)])[0] or 0 for n in range(3)
    )
    engine = open_for_reading(str(place.database))
    steps = follow(engine, Filter())

    def end(*ids: int) -> list[int]:
        ledger.decide([Decision(id, Path(f"/out/{id}"), 1, 0, None, label="sad") for id in ids])
        ledger.finish(ids)
        return [row["id"] for row in next(steps)]

    assert next(steps) == []
    assert end(two) == [two]
    assert end(three, one) == [one, three]
    [given_back] = ledger.claim([Source(Path("/inbox/a.jpg"), 1, 0)])
    assert next(steps) == []
    ledger.release([given_back or 0])
    assert next(steps) == []
    [again] = ledger.claim([Source(Path("/inbox/b.jpg"), 1, 0)])
    assert end(again or 0) == [again]  # In SQLite the number comes again.
    assert end() == []
    engine.dispose()
    ledger.close()


def test_what_follows_has_no_order_of_its_own(filled: Place) -> None:
    for option in (("--sort", "oldest"), ("--limit", "1"), ("--offset", "1")):
        result = ask(filled, "results", "--follow", *option)
        assert result.exit_code == 2
        assert "leave out --sort, --limit and --offset" in result.stderr


@pytest.mark.parametrize("time", ["yesterday-ish", "999999w", "0001-01-01T00:00+23:59"])
def test_a_bad_time_is_a_sentence(filled: Place, time: str) -> None:
    result = ask(filled, "results", "--since", time)
    assert result.exit_code == 2
    assert f"'{time}' is no time like" in result.stderr


def test_a_damaged_page_is_a_sentence(sqlite_place: Place) -> None:
    fill(sqlite_place)
    with sqlite3.connect(sqlite_place.database) as link:
        link.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    link.close()
    with sqlite_place.database.open("r+b") as file:
        file.seek(4096 * 2)
        file.write(b"\xff" * 4096 * 20)
    result = ask(sqlite_place, "results", "--json")
    assert result.exit_code == 1
    name = sqlite_place.database
    assert result.stderr.startswith(f"Error: The database {name} cannot be used: ")


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


def test_stats_tell_how_often_people_agree(filled: Place) -> None:
    assert "checked" not in ask(filled, "stats").stdout
    filled.change(SAID_TO_BE_SAD.where(Image.id.in_([9, 10, 11, 12, 13])))
    [got] = json_lines(ask(filled, "stats", "--json").stdout)
    assert (got["corrected"], got["agreeing"], got["agreement"]) == (5, 3, 0.6)
    assert "checked 5 (60.0% were right)" in ask(filled, "stats").stdout


def test_stats_of_a_period_by_day_and_hour(filled: Place) -> None:
    filled.change(*claimed_one_each(900), claimed_at(15, datetime(2001, 9, 10, tzinfo=UTC)))
    [got] = json_lines(ask(filled, "stats", "--json", "--by", "day").stdout)
    counts = [(day["day"], day["images"], day["happy"], day["sad"]) for day in got["by_day"]]
    assert counts == [("2001-09-09", 17, 10, 4), ("2001-09-10", 1, 0, 1)]
    assert [day["share_happy"] for day in got["by_day"]] == [10 / 14, 0]

    since = ("--since", "2001-09-09T02:15:00Z", "--until", "2001-09-09T05:01:40Z")
    [got] = json_lines(ask(filled, "stats", "--json", "--by", "hour", *since).stdout)
    counts = [(hour["hour"][11:], hour["images"], hour["failed"]) for hour in got["by_hour"]]
    assert counts == [("02:00:00Z", 3, 0), ("03:00:00Z", 4, 0), ("04:00:00Z", 4, 0)]
    assert got["images"] == 11

    here = {**os.environ, "TZ": "Asia/Kathmandu", "COLUMNS": "80"}  # 5:45 ahead
    asked = ("stats", "--by", "hour", *since, "--database", filled.database)
    shown = moodsort(*asked, env=here).stdout
    counted = [("08", "4"), ("09", "4"), ("10", "3")]
    lines = [line.split()[:3] for line in shown.splitlines() if line.startswith("2001")]
    assert lines == [["2001-09-09", f"{hour}:00", n] for hour, n in counted]
    assert "█" in shown


def test_stats_by_model_and_error(filled: Place) -> None:
    judge(filled, "other.jpg", 0.9, model="other")
    fail(filled, "cut.jpg", "truncated")
    [got] = json_lines(ask(filled, "stats", "--json", "--by", "model").stdout)
    assert [(group["model"], group["images"]) for group in got["by_model"]] == [
        *(("m", 15), ("other", 1))
    ]
    [got] = json_lines(ask(filled, "stats", "--json", "--by", "error").stdout)
    assert [(group["error"], group["failed"]) for group in got["by_error"]] == [
        *(("empty", 2), ("truncated", 1))
    ]
    nothing = ask(filled, "stats", "--by", "error", "--since", "2200-01-01").stdout
    assert nothing.endswith("Nothing to count by error.\n")


def test_stats_of_nothing(place: Place) -> None:
    open_for_writing(str(place.database)).dispose()
    [got] = json_lines(ask(place, "stats", "--json").stdout)
    assert got["images"] == 0
    assert got["share_happy"] is None


def test_no_database_is_a_sentence_and_makes_none(sqlite_place: Place) -> None:
    result = ask(sqlite_place, "results")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: There is no database {sqlite_place.database}")
    assert not sqlite_place.database.exists()


def test_the_database_of_the_configuration_is_found(filled: Place) -> None:
    config = filled.root / "moodsort.toml"
    database = filled.database if "://" in str(filled.database) else "moodsort.db"
    config.write_text(f'database = "{database}"\n')
    assert ask(filled, "stats", "--config", str(config), environ={}).exit_code == 0
    assert ask(filled, "stats", environ={"MOODSORT_CONFIG": str(config)}).exit_code == 0
    other = ask(filled, "stats", "--config", str(config), "--database", "none.db", environ={})
    assert "There is no database none.db" in other.stderr
