"""How far a job is: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from daemon import inbox, task
from daemon.rates import Rates
from daemon.reporting import Tally

LINE_SECONDS = 10.0
"""How often a line is written, and the stretch of time that its rate is about."""


class Lines:
    """For who does not look all the time; keeps the tally."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._rates = Rates()
        self._told_at = time.monotonic()

    def show(self, labels: Sequence[str | None]) -> None:
        """Count a batch, and tell it if nothing was told a moment ago."""
        now = time.monotonic()
        if not self.tally.done:  # From now on: it took some seconds to start.
            self._rates, self._told_at = Rates(), now
        self.tally.add(labels)
        self._rates.note(self.tally.done)
        if now - self._told_at >= LINE_SECONDS:
            self._told_at = now
            rate = self._rates.over(LINE_SECONDS)
            click.echo(f"{self.tally.done} judged, {rate:.1f} images/s: {self.tally}", err=True)


class Bar:
    """How much of all, which is counted meanwhile in a folder, and else not known."""

    def __init__(self, progress: Progress, folder: Path | None, done: int) -> None:
        self.tally = Tally()
        self._progress = progress
        self._done = done
        self._task = progress.add_task("judge", total=None, completed=done, tally="starting Ray")
        self._total: Future[int | None] | None = None
        if folder:
            count = partial(inbox.count_files, folder, recursive=True, most_seconds=math.inf)
            self._total = task.begin(count, "count")

    def show(self, labels: Sequence[str | None]) -> None:
        """Count a batch, and advance."""
        self.tally.add(labels)
        total = self._total.result() if self._total and self._total.done() else None
        completed = self._done + self.tally.done
        self._progress.update(self._task, total=total, completed=completed, tally=str(self.tally))


@contextmanager
def shown(folder: Path | None, done: int) -> Iterator[Bar | Lines]:
    """Something to tell it to; on the standard error, so that what is left has but the result."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield Lines()
        return
    columns = (TextColumn("Judging"), BarColumn(), MofNCompleteColumn())
    more = (TextColumn("{task.fields[tally]}"), TimeRemainingColumn())
    with Progress(*columns, *more, console=Console(stderr=True)) as progress:
        yield Bar(progress, folder, done)
