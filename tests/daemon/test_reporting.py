from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import pytest

from daemon.pipeline import Filed
from daemon.reporting import LiveReporter, Reporter
from db.ledger import Decision


def filed(label: str | None, count: int = 1) -> list[Filed]:
    about = {"label": label, "probability": 0.9} if label else {"error_code": "empty"}
    decision = Decision(1, Path("/out/a.jpg"), 1, 1, None, **about)
    return [Filed(decision, Path("/in/a b.jpg"))] * count


def test_few_images_are_told_one_by_one_and_many_together(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    reporter = Reporter()
    reporter.filed(filed("happy"))
    assert [r.getMessage() for r in caplog.records] == ["filed"]
    reporter.filed(filed("sad", 30))
    assert len(caplog.records) == 1
    reporter.filed(filed(None))
    assert caplog.records[-1].levelno == logging.WARNING
    reporter.close()
    assert vars(caplog.records[-1])["images"] == 30
    assert (reporter.tally.happy, reporter.tally.sad, reporter.tally.failed) == (1, 30, 1)


def test_many_in_small_batches_are_told_together_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    reporter = Reporter()
    for _ in range(200):
        reporter.filed(filed("happy", 2))
    assert len(caplog.records) == 20
    reporter.close()
    assert vars(caplog.records[-1])["images"] == 380


def test_unsure_images_count_apart_where_there_are_any() -> None:
    reporter = Reporter()
    reporter.filed(filed("happy", 30))
    assert str(reporter.tally) == "30 happy, 0 sad, 0 failed"
    reporter.filed(filed("unsure", 2))
    assert str(reporter.tally) == "30 happy, 0 sad, 2 unsure, 0 failed"
    assert reporter.tally.done == 32


@dataclass
class Clock:
    """What a reporter takes for the time, in seconds."""

    now: float = 1000.0


@pytest.fixture
def clock(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Of a reporter whose events are kept."""
    caplog.set_level(logging.INFO)
    one = Clock()
    monkeypatch.setattr("daemon.reporting.time.monotonic", lambda: one.now)
    return one


def test_a_burst_is_told_when_it_is_over(caplog: pytest.LogCaptureFixture, clock: Clock) -> None:
    reporter = Reporter()
    clock.now += 2.0
    reporter.filed(filed("sad", 30))
    reporter.tick()
    assert caplog.records == []
    clock.now += 1.5
    reporter.tick()
    assert vars(caplog.records[-1])["images"] == 30
    assert vars(caplog.records[-1])["per_second"] == "15.0"
    reporter.close()
    assert len(caplog.records) == 1


def test_a_batch_on_its_own_has_no_rate(caplog: pytest.LogCaptureFixture, clock: Clock) -> None:
    """It may have taken a minute, or no time at all, since nothing was yet filed of it."""
    reporter = Reporter()
    clock.now += 60.0
    reporter.tick()
    clock.now += 0.1
    reporter.filed(filed("sad", 30))
    clock.now += 1.5
    reporter.tick()
    told = vars(caplog.records[-1])
    assert told["images"] == 30
    assert "per_second" not in told


def test_the_live_line_tells_what_waits_and_what_is_done(tmp_path: Path) -> None:
    reporter = LiveReporter(tmp_path, recursive=True)
    for n in range(3):
        (tmp_path / str(n)).touch()
    assert str(reporter._line()) == "waiting 3 | loading the model"
    reporter.ready()
    reporter.filed(filed("happy", 2))
    line = str(reporter._line())
    assert line.startswith("waiting 1 | done 2 | ")
    assert line.endswith("images/s | happy 2 | sad 0 | failed 0")
    reporter.filed(filed("unsure", 1))
    assert str(reporter._line()).endswith(" | happy 2 | sad 0 | unsure 1 | failed 0")
