"""How services do: written by each every second into its inbox, and read together with its lock.

A file rather than a socket: it can be read when the service hangs, and after it was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from daemon import lock
from daemon.filing import OWN_PREFIX
from db.terms import Process
from db.text import local, utc

STATUS_FILE = f"{OWN_PREFIX}status.json"
"""Of a service that has its inbox for itself."""

STATUS_FILES = f"{OWN_PREFIX}status*.json"

STALE_SECONDS = 10.0
"""From this age on a report says that the service hangs, or that the disk of its inbox is full."""

LARGEST = 1 << 20
"""Bytes of a report that are read: anybody may have put a file there."""

STARTING, WORKING, RELOADING, STOPPING = "starting", "working", "reloading", "stopping"


@dataclass(frozen=True)
class Trouble:
    """A warning or an error that was logged, when it was (UTC, ISO 8601)."""

    at: str
    level: str
    text: str


@dataclass(frozen=True)
class Report:
    """What a service says of itself; times are UTC, ISO 8601.

    `images` are those filed since the start, by label. `per_second`: over the last minutes, by how
    many. `waiting`: files and batches in each queue. `trouble` is what it waits for now, such as a
    full disk. `reloads`: it heeds SIGHUP. `silent_seconds`: how long a thread that should work has
    given no sign of life; if that is too long, it `hangs`. `free_bytes` of each folder's disk, None
    where it is missing.
    """

    state: str
    host: str
    pid: int
    reloads: bool
    started_at: str
    written_at: str
    model: str | None
    model_sha256: str | None
    images: Mapping[str, int]
    per_second: Mapping[str, float]
    waiting: Mapping[str, int]
    trouble: str | None
    silent_seconds: float
    hangs: bool
    last_errors: Sequence[Trouble]
    free_bytes: Mapping[str, int | None]


@dataclass(frozen=True)
class Health:
    """Whether a service runs and is well, why not, and its last report, if there is one."""

    running: bool
    reasons: Sequence[str]
    report: Report | None

    @property
    def healthy(self) -> bool:
        """Nothing is wrong."""
        return not self.reasons

    def flat(self) -> dict[str, Any]:
        """For JSON."""
        about = {"running": self.running, "healthy": self.healthy, "reasons": list(self.reasons)}
        return about | (asdict(self.report) if self.report else {})


def now() -> str:
    """The time as reports have it."""
    return utc(datetime.now(UTC))


def file_of(who: Process) -> str:
    """The name of the report of a service that shares its inbox."""
    return f"{OWN_PREFIX}status-{re.sub(r'[^A-Za-z0-9.-]', '_', who.host)}-{who.pid}.json"


def draft_of(file: Path) -> Path:
    """What a report is written to first."""
    return file.with_name(f"{file.name}.part")


def write(file: Path, report: Report) -> None:
    """Replace a report as a whole; that there is no room must not end a service."""
    draft = draft_of(file)
    with contextlib.suppress(OSError):
        draft.unlink(missing_ok=True)
        # Made anew, so that nothing is written through a link that somebody has put there.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(draft, flags, 0o644), "w") as out:
            json.dump(asdict(report), out)
        draft.replace(file)


def remove(file: Path) -> None:
    """What a service that ends has to say is in its log."""
    for path in (draft_of(file), file):
        with contextlib.suppress(OSError):
            path.unlink()


def examine(inbox: Path) -> list[Health]:
    """How each service of an inbox does, or did when it was killed; one at least."""
    running = lock.is_held(inbox)
    told = (_read(path) for path in sorted(inbox.glob(STATUS_FILES)))
    reports: list[Report | None] = [report for report in told if report]
    return [
        Health(running, list(_reasons(running, report)), report) for report in reports or [None]
    ]


def lines(health: Health) -> Iterator[tuple[str, str]]:
    """The same for people: what it is about, and the text."""
    yield "healthy", "yes" if health.healthy else f"no: {' '.join(health.reasons)}"
    if (report := health.report) is None:
        return
    since = _local(report.started_at)
    yield "state", f"{report.state}, process {report.pid} on {report.host}, since {since}"
    if not health.running or _age(report) >= STALE_SECONDS:
        yield "as of", _local(report.written_at)
    yield "model", report.model or "not loaded yet"
    yield "images", ", ".join(f"{count} {label}" for label, count in report.images.items())
    rates = (f"{rate:g} in {over}" for over, rate in report.per_second.items())
    yield "images/s", ", ".join(rates)
    queues = (f"{n} {name.replace('_', ' ')}" for name, n in report.waiting.items())
    yield "waiting", ", ".join(queues)
    for name, free in report.free_bytes.items():
        yield name, "missing" if free is None else f"{free / 1e9:.1f} GB free"
    for trouble in report.last_errors:
        yield trouble.level.lower(), f"{_local(trouble.at)} {trouble.text}"


def _local(moment: str) -> str:
    return local(datetime.fromisoformat(moment))


def _reasons(running: bool, report: Report | None) -> list[str]:
    if not running:
        return ["It was killed." if report else "It does not run."]
    if report is None:
        return ["It is just starting, or cannot write to its inbox."]
    reasons = []
    if (age := _age(report)) >= STALE_SECONDS:
        reasons.append(
            f"It has said nothing for {age:.0f} s: it hangs, or the disk of its inbox is full; "
            "where several share an inbox, it may also have been killed."
        )
    if report.state in (STARTING, STOPPING):
        reasons.append(f"It is {report.state}.")
    if report.trouble:
        reasons.append(f"It waits: {report.trouble}")
    if report.hangs:
        reasons.append(f"It has not gone on for {report.silent_seconds:.0f} s.")
    return reasons


def _age(report: Report) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(report.written_at)).total_seconds()


def _read(path: Path) -> Report | None:
    """None where there is none, or something else has its name."""
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(path, flags), "rb") as file:
            raw = json.loads(file.read(LARGEST))
        report = Report(**{field.name: raw[field.name] for field in fields(Report)})
        _age(report)
        return Report(**vars(report) | {"last_errors": [Trouble(**e) for e in raw["last_errors"]]})
    except (OSError, ValueError, KeyError, TypeError):
        return None
