"""What the service says while it runs: events, a live line, a progress bar, a summary."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from daemon.deciding import UNSURE
from daemon.inbox import count_files
from daemon.pipeline import Filed
from daemon.rates import Rates

log = logging.getLogger(__name__)

SUMMARY_SECONDS = 10.0
"""How often a busy service says what it did, instead of a line for each image."""

QUIET_SECONDS = 1.0
"""After this long without work it says so at once."""

FEW = 4
"""Batches up to this size are told image by image,"""

MANY = 20
"""but no more than so many good images in SUMMARY_SECONDS."""

RATE_SECONDS = 5.0
"""The stretch of time that the rate on the live line is about."""

COUNT_SECONDS = 0.05
"""How long the live line may count the inbox, at most each `COUNT_EVERY` seconds."""
COUNT_EVERY = 1.0


@dataclass
class Tally:
    """Counts of images since the start; may be read from any thread."""

    happy: int = 0
    sad: int = 0
    failed: int = 0
    unsure: int = 0
    began: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def done(self) -> int:
        """All of them, bad ones too."""
        return self.happy + self.sad + self.failed + self.unsure

    def add(self, labels: Sequence[str | None]) -> None:
        """Count a batch by its labels; None: of a bad image."""
        with self._lock:
            self.happy += labels.count("happy")
            self.sad += labels.count("sad")
            self.failed += labels.count(None)
            self.unsure += labels.count(UNSURE)

    def counts(self) -> dict[str, int]:
        """By where the images went, in the order in which it is told; unsure ones if any."""
        unsure = {UNSURE: self.unsure} if self.unsure else {}
        return {"happy": self.happy, "sad": self.sad, **unsure, "failed": self.failed}

    def __str__(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in self.counts().items())


class Reporter:
    """Keeps the tally and writes log lines; the others draw on top of that."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._told = 0
        self._told_at = self._filed_at = self._singly_since = time.monotonic()
        self._singly = 0

    def display(self) -> AbstractContextManager[object]:
        """What to show while the service runs."""
        return nullcontext()

    def ready(self) -> None:
        """Called when the service begins to take images."""
        self._told_at = time.monotonic()
        log.info("ready")

    def filed(self, filed: Sequence[Filed]) -> None:
        """Called by the pipeline after each batch."""
        self.tally.add([one.decision.label for one in filed])
        self._filed_at = time.monotonic()
        singly = self._may_tell_singly(len(filed))
        for one in filed:
            if one.decision.error_code or singly:
                _tell(one)
                self._told += 1

    def tick(self) -> None:
        """Called a few times a second by the service."""
        now = time.monotonic()
        new = self.tally.done - self._told
        is_quiet = now - self._filed_at >= QUIET_SECONDS
        if new and (is_quiet or now - self._told_at >= SUMMARY_SECONDS):
            self._tell_many(new)
        elif not new:
            self._told_at = now

    def close(self) -> None:
        """Say what is not yet said."""
        if new := self.tally.done - self._told:
            self._tell_many(new)

    def _may_tell_singly(self, count: int) -> bool:
        if self._filed_at - self._singly_since >= SUMMARY_SECONDS:
            self._singly_since, self._singly = self._filed_at, 0
        self._singly += count
        return count <= FEW and self._singly <= MANY

    def _tell_many(self, new: int) -> None:
        log.info("filed", extra={"images": new, **self._rate(new), **self.tally.counts()})
        self._told += new
        self._told_at = time.monotonic()

    def _rate(self, new: int) -> dict[str, object]:
        """Nothing for a batch on its own: how long it took before it was filed is not known."""
        seconds = self._filed_at - self._told_at
        return {"per_second": f"{new / seconds:.1f}"} if seconds >= QUIET_SECONDS else {}


def _tell(one: Filed) -> None:
    decision = one.decision
    names = {"file": one.source, "destination": decision.destination}
    if decision.error_code:
        log.warning(
            "failed", extra=names | {"code": decision.error_code, "reason": decision.error_detail}
        )
    else:
        log.info(
            "filed",
            extra=names | {"label": decision.label, "probability": f"{decision.probability:.3f}"},
        )


class LiveReporter(Reporter):
    """One line on a terminal, always up to date."""

    def __init__(self, inbox: Path, *, recursive: bool) -> None:
        super().__init__()
        self._inbox = inbox
        self._recursive = recursive
        self._ready = False
        self._counted: int | None = 0
        self._counted_at = 0.0
        self._done_then = 0
        self._rates = Rates()

    def display(self) -> AbstractContextManager[object]:
        """The live line."""
        return Live(get_renderable=self._line, console=Console(), refresh_per_second=4)

    def ready(self) -> None:
        """From now on there is something to tell."""
        super().ready()
        self._ready = True
        self._rates = Rates(done=self.tally.done)

    def _line(self) -> Text:
        now = time.monotonic()
        waiting = self._waiting(now)
        if not self._ready:
            return Text(f"waiting {waiting} | loading the model")
        self._rates.note(self.tally.done)
        counts = " | ".join(f"{name} {count:,}" for name, count in self.tally.counts().items())
        return Text(
            f"waiting {waiting} | done {self.tally.done:,} | "
            f"{self._rates.over(RATE_SECONDS):.1f} images/s | {counts}"
        )

    def _waiting(self, now: float) -> str:
        """What was counted a moment ago, less what was done since."""
        if now - self._counted_at >= COUNT_EVERY:
            self._done_then = self.tally.done
            self._counted = count_files(
                self._inbox, recursive=self._recursive, most_seconds=COUNT_SECONDS
            )
            self._counted_at = now
        if self._counted is None:
            return "many"
        return f"{max(0, self._counted + self._done_then - self.tally.done):,}"


class ProgressReporter(Reporter):
    """A progress bar on a terminal, for a folder that is sorted once."""

    def __init__(self, total: int | None) -> None:
        super().__init__()
        self._progress = Progress(
            TextColumn("Sorting"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[tally]}"),
            TimeRemainingColumn(),
        )
        self._task = self._progress.add_task("sort", total=total, tally="")

    def display(self) -> AbstractContextManager[object]:
        """The bar."""
        return self._progress

    def filed(self, filed: Sequence[Filed]) -> None:
        """Count and advance."""
        super().filed(filed)
        self._progress.update(self._task, completed=self.tally.done, tally=str(self.tally))
