from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.logs import JsonFormatter, KeyValueFormatter, goes_to_journal
from tests.helpers import MOODSORT, Place, json_lines


def record(**about: object) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": "filed", "levelname": "INFO"} | about)


def failure() -> logging.LogRecord:
    try:
        raise ValueError("of a kind")
    except ValueError:
        return record(exc_info=sys.exc_info())


def test_a_line_is_what_the_pattern_says_and_pairs() -> None:
    line = KeyValueFormatter("%(asctime)s %(levelname)s %(message)s").format(
        record(file=Path("/in/a b\n.jpg"), label="sad")
    )
    assert line.endswith(' INFO filed file="/in/a b\\n.jpg" label=sad')


def test_json_is_an_object_with_numbers_as_they_are() -> None:
    event = json.loads(JsonFormatter().format(record(images=3, file=Path("/in/a\n"))))
    assert event.pop("time")
    assert event == {"level": "INFO", "message": "filed", "images": 3, "file": "/in/a\n"}


@pytest.mark.parametrize("formatter", [KeyValueFormatter("%(message)s"), JsonFormatter()])
def test_a_traceback_is_no_further_line(formatter: logging.Formatter) -> None:
    text = formatter.format(failure())
    assert "\n" not in text
    assert "ValueError: of a kind" in text


def test_lines_for_the_journal_begin_with_a_priority(place: Place) -> None:
    (place.inbox / "bad.jpg").write_bytes(b"no image")
    said = place.root / "said"
    with said.open("wb") as out:
        found = os.fstat(out.fileno())
        for happy in (place.happy, place.inbox):
            subprocess.run(
                [MOODSORT, "sort", place.inbox, *place.destinations(), "--happy", happy],
                stdout=out,
                stderr=out,
                env=os.environ
                | {
                    "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}",
                    "MOODSORT_LOG_FORMAT": "json",
                },
                timeout=60,
                check=False,
            )
    *lines, refusal = said.read_text().splitlines()
    assert [line[:4] for line in lines] == ["<6>{", "<4>{", "<6>{"]
    ready, failed, summary = json_lines("\n".join(line[3:] for line in lines))
    assert ready["message"] == "ready"
    assert (failed["level"], failed["code"]) == ("WARNING", "not_an_image")
    assert (summary["message"], summary["failed"]) == ("done", 1)
    assert refusal.startswith("<3>Error: inbox and happy are the same folder")


def test_lines_elsewhere_have_none(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        assert not goes_to_journal(log, {})
        assert not goes_to_journal(log, {"JOURNAL_STREAM": "1:1"})
    assert not goes_to_journal(None, {"JOURNAL_STREAM": "1:1"})
    assert not goes_to_journal(io.StringIO(), {"JOURNAL_STREAM": "1:1"})
