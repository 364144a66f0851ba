"""Does the database say what lies on the disk?

Everything is looked at in pages, so that memory does not grow with the number of rows and files;
and so that it is right while a service works, what seems wrong is looked at once more.
"""

from __future__ import annotations

import enum
import functools
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from daemon import descent, lock, process, refiling
from daemon.errors import ServiceError
from daemon.filing import LEFTOVER
from daemon.identity import content_hash
from daemon.settings import Settings
from daemon.settling import regular
from daemon.walking import walk
from db import queries
from db.chunks import chunks
from db.engine import open_for_writing, reading
from db.queries import Record
from db.schema import MOVING, OPEN, UNFINISHED, State
from db.services import Enlisted, Services, enlisted
from db.text import is_text

if TYPE_CHECKING:
    import sqlalchemy as sa

    from db.ledger import Unfinished

T = TypeVar("T")

AT_ONCE = 500
"""Rows or files that are asked for with one query."""


class Problem(enum.StrEnum):
    """What can be wrong; `about` is for people, with what they can do."""

    MISSING = "missing"
    CHANGED = "changed"
    UNREADABLE = "unreadable"
    STALE_CLAIM = "stale_claim"
    UNFINISHED = "unfinished"
    ORPHAN = "orphan"
    LEFTOVER = "leftover"

    @property
    def about(self) -> str:
        """A sentence or two."""
        return ABOUT[self]


ABOUT = {
    Problem.MISSING: "The file of the row is not there. Was it moved or deleted by hand, or is "
    "its disk not mounted?",
    Problem.CHANGED: "The file is not the one that was filed: its size or its content differs.",
    Problem.UNREADABLE: "It cannot be read, and so not be checked.",
    Problem.STALE_CLAIM: "A service that is gone had claimed the file. Its next start, or "
    "--repair, gives it back.",
    Problem.UNFINISHED: "A service that is gone was about to move the file. Its next start, or "
    "--repair, finishes that.",
    Problem.ORPHAN: "No row names the file. To have it judged, move it into the inbox.",
    Problem.LEFTOVER: "The rest of an interrupted move of a file. --repair removes it.",
}


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a file, or with the row of that id."""

    problem: Problem
    path: Path
    id: int | None = None


@dataclass(frozen=True)
class Repair:
    """Something that was done, in words, to a file, or to the row of that id."""

    done: str
    path: Path
    id: int | None = None


def examine(settings: Settings, *, deep: bool) -> Iterator[Finding]:
    """Compare the rows with the files; `deep`: also their content.

    Raises:
        LedgerError: the database cannot be read.
    """
    with reading(settings.database) as engine:
        yield from _interrupted(engine)
        yield from _half_refiled(engine, settings.folders["happy"])
        yield from _badly_filed(engine, deep=deep)
        for root in _roots(settings):
            yield from _unknown(engine, root, settings.database)


def repair(settings: Settings) -> Iterator[Repair]:
    """What loses nothing: end interrupted moves as the service does, remove rests of copies.

    Raises:
        InboxHeld: a service is at work, and would do it itself.
        ServiceError, LedgerError: it cannot be done; the text says why.
    """
    with reading(settings.database) as engine, lock.hold(settings.inbox.resolve()):
        yield from _recover(engine, settings)
        for root in _roots(settings):
            for finding in _unknown(engine, root, settings.database):
                if finding.problem is Problem.LEFTOVER:
                    descent.unlink(finding.path)
                    yield Repair("removed", finding.path, finding.id)


def _roots(settings: Settings) -> list[Path]:
    """Where filed files lie, none inside another; `unsure`, if it is not used, may be anywhere."""
    inbox, *roots = settings.folders.values()
    return [
        root
        for root in sorted(set(roots))
        if not inbox.is_relative_to(root)
        and not any(other in root.parents for other in (inbox, *roots))
    ]


def _interrupted(engine: sa.Engine) -> Iterator[Finding]:
    """Rows between states on which no service works."""
    for rows in chunks(queries.records(engine, *UNFINISHED), AT_ONCE):
        at_work = {one.id for one in enlisted(engine) if not _is_dead(one)}
        is_held = functools.cache(lock.is_held)
        idle = [
            row
            for row in rows
            if row.claimed_by not in at_work and not any(map(is_held, row.source.parents))
        ]
        # A service that ended since the rows were read has closed them, or left them for good.
        now = queries.states(engine, [row.id for row in idle])
        for row in idle:
            if now.get(row.id) is State.CLAIMED:
                yield Finding(Problem.STALE_CLAIM, row.source, row.id)
            elif now.get(row.id) is State.DECIDED:
                yield Finding(Problem.UNFINISHED, row.source, row.id)


def _half_refiled(engine: sa.Engine, happy: Path) -> Iterator[Finding]:
    """Rows of filed images that nobody goes on to move."""
    for rows in chunks(queries.records(engine, *MOVING), AT_ONCE):
        if refiling.is_at_work(happy):
            return
        now = queries.states(engine, [row.id for row in rows])
        for row in rows:
            if row.destination and now.get(row.id) in MOVING:
                yield Finding(Problem.UNFINISHED, row.destination, row.id)


def _is_dead(service: Enlisted) -> bool:
    return process.is_gone(service.who) or service.age > service.lease_seconds


def _badly_filed(engine: sa.Engine, *, deep: bool) -> Iterator[Finding]:
    for row in queries.records(engine, State.FILED, State.FAILED):
        if row.destination and (problem := _problem_of(row, row.destination, deep=deep)):
            yield Finding(problem, row.destination, row.id)


def _problem_of(row: Record, path: Path, *, deep: bool) -> Problem | None:
    found = regular(path)
    if found is None:
        return None if row.is_missing else Problem.MISSING
    if found.st_size != row.size_bytes:
        return Problem.CHANGED
    if not deep or row.sha256 is None:
        return None
    try:
        return None if content_hash(path) == row.sha256 else Problem.CHANGED
    except FileNotFoundError:
        return Problem.MISSING
    except OSError:
        return Problem.UNREADABLE


def _unknown(engine: sa.Engine, root: Path, database: str) -> Iterator[Finding]:
    """What lies below a folder and belongs to no row: no hidden file, nor the database itself."""
    kept = None if "://" in database else str(Path(database).resolve())
    unlistable: list[Path] = []

    def note(folder: Path, error: OSError) -> None:
        # One that is not there was never made, or is gone: the rows tell whether files are missed.
        if not isinstance(error, FileNotFoundError):
            unlistable.append(folder)

    for chunk in chunks(walk(root, on_error=note), AT_ONCE):
        paths = [found.path for found in chunk]
        yield from _orphans(engine, [path for path in paths if not _is_apart(path, kept)])
        yield from _leftovers(engine, paths)
    for folder in unlistable:
        yield Finding(Problem.UNREADABLE, folder)


def _is_apart(path: Path, database: str | None) -> bool:
    # SQLite keeps files beside it whose names begin with its own.
    return path.name.startswith(".") or (database is not None and str(path).startswith(database))


def _orphans(engine: sa.Engine, paths: Sequence[Path]) -> Iterator[Finding]:
    known = queries.named(engine, [str(path) for path in paths if is_text(path)])
    for path in paths:
        # A service may have taken back, since it was listed, what was changed under its hands.
        if str(path) not in known and os.path.lexists(path):
            yield Finding(Problem.ORPHAN, path)


def _leftovers(engine: sa.Engine, paths: Sequence[Path]) -> Iterator[Finding]:
    rests = {path: int(name[1]) for path in paths if (name := LEFTOVER.fullmatch(path.name))}
    states = queries.states(engine, list(rests.values()))
    for path, id in rests.items():
        if states.get(id) not in OPEN and os.path.lexists(path):
            yield Finding(Problem.LEFTOVER, path, id)


def _recover(engine: sa.Engine, settings: Settings) -> Iterator[Repair]:
    """What the service does when it starts, but nothing is waited for."""
    from daemon import pipeline
    from db.ledger import Ledger

    folders = pipeline.Folders.of(settings.folders)
    at_once = threading.Event()
    at_once.set()
    failure = None
    half: list[Unfinished] = []
    writing = open_for_writing(settings.database)
    ledger, services = Ledger(writing), Services(writing)
    try:
        for other in services.others(None, folders.inbox):
            if _is_dead(other):
                services.bury(other)
        rows = [r for r in ledger.unfinished() if pipeline.lies_in(folders.inbox, r.source.path)]
        pipeline.recover(ledger, folders, at_once)
        half = ledger.moving()
        refiling.recover(ledger, folders, at_once)
    except pipeline.Stopped as stopped:
        failure = stopped.__cause__
    finally:
        ledger.close()
    for chunk in chunks([*rows, *half], AT_ONCE):
        yield from _recovered(engine, chunk)
    if failure:
        raise ServiceError(f"Not everything could be repaired: {failure}.")


def _recovered(engine: sa.Engine, rows: Sequence[Unfinished]) -> Iterator[Repair]:
    """What became of rows that were between states."""
    now = queries.states(engine, [row.id for row in rows])
    for row in rows:
        path = row.source.path
        if row.id not in now:
            done = "given back" if os.path.lexists(path) else "forgotten, for it is gone"
            yield Repair(done, path, row.id)
        elif now[row.id] not in OPEN:
            yield Repair("filed", path, row.id)
