"""A person says what an image is: its row and its file follow.

    filed -> correcting -> filed

What is said is written down first, with where the file is to go; then it is moved as all files are.
A service that works meanwhile is kept off by the rows: it takes no name that a row has, and touches
none that is filed or correcting. Two who correct take turns, by a lock on the happy folder; whoever
comes after one that was killed ends its moves first.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from daemon import lock, naming
from daemon.errors import InboxHeld, ServiceError
from daemon.filing import Move, Outcome
from daemon.identity import content_hash, identity
from daemon.life import Life
from daemon.naming import Wanted
from daemon.pipeline import Folders, Stopped, carry_out, persist, resumed
from daemon.settings import Settings
from daemon.settling import regular
from db import queries
from db.engine import open_for_writing, reading
from db.ledger import Correction, Ledger
from db.queries import Record
from db.schema import State

if TYPE_CHECKING:
    import sqlalchemy as sa

log = logging.getLogger(__name__)

AT_ONCE = 100
"""Images that are corrected in one turn."""

PATIENCE_SECONDS = 10.0
"""How long another who corrects, a locked database or a full disk is waited for."""

TURN_SECONDS = 0.1


@dataclass(frozen=True)
class Corrected:
    """What was said is recorded, and the file lies at `destination`."""

    image: Path
    destination: Path


@dataclass(frozen=True)
class Refused:
    """Nothing was done; or, if it says so, only recorded."""

    image: Path
    reason: str


def correct(
    settings: Settings, images: Iterable[Path], label: str
) -> Iterator[Corrected | Refused]:
    """Record that filed images are `label`, and move each to where such ones lie.

    Raises:
        ServiceError, LedgerError: it cannot go on; what was begun is ended by the next who
            corrects, or the next start of the service.
    """
    folders = Folders.of(settings.folders)
    with (
        reading(settings.database) as engine,
        closing(Ledger(open_for_writing(settings.database))) as ledger,
    ):
        left = iter(images)
        while some := list(islice(left, AT_ONCE)):
            with _patience() as over:
                try:
                    with _turn(folders, over):
                        _end_moves(ledger, folders, over)
                        answers = _correct(engine, ledger, folders, some, label, over)
                except Stopped as stopped:
                    raise ServiceError(
                        f"Not every file could be moved: {stopped.__cause__}. What is recorded is "
                        "done by the next start of the service, or by the same command."
                    ) from None
            yield from answers


def recover(
    ledger: Ledger, folders: Folders, stopping: threading.Event, life: Life | None = None
) -> int:
    """End the moves of one who corrected and was killed; gives how many files were moved.

    Raises:
        Stopped: `stopping` was set while a disk or the database did not take it.
    """
    if not _begun(ledger, folders, stopping, life):
        return 0  # A destination need not be there, nor be writable, for a service to start.
    try:
        with _turn(folders, stopping):
            return _end_moves(ledger, folders, stopping, life)
    except ServiceError as error:
        log.warning("corrections are left for the next start: %s", error)
        return 0


def is_at_work(happy: Path) -> bool:
    """Whether a process corrects now, below that folder and its neighbours."""
    return lock.is_held(happy)


def _begun(
    ledger: Ledger, folders: Folders, stopping: threading.Event, life: Life | None = None
) -> list[Move]:
    """What has been begun to be moved from one of the folders to another."""
    rows = persist(ledger.correcting, stopping, life)
    moves = [resumed(row, folders) for row in rows if folders.root_above(row.source.path)]
    return [move for move in moves if move]


def _end_moves(
    ledger: Ledger, folders: Folders, stopping: threading.Event, life: Life | None = None
) -> int:
    outcomes = carry_out(ledger, _begun(ledger, folders, stopping, life), stopping, life)
    return sum(outcome is Outcome.DONE for outcome in outcomes.values())


@dataclass(frozen=True)
class _Fit:
    """A row that can be corrected, and its file as it is now."""

    id: int
    root: Path
    path: Path
    mtime_ns: int


BUSY = "It is just being moved. Try again."

NOT_MOVED = {
    Outcome.GONE: "What you say is recorded, but the file vanished, or is being written to.",
    Outcome.STUCK: "What you say is recorded, but the file may not be moved away. Change its "
    "permissions or those of its folder, and try again.",
}


def _correct(
    engine: sa.Engine,
    ledger: Ledger,
    folders: Folders,
    images: Sequence[Path],
    label: str,
    over: threading.Event,
) -> list[Corrected | Refused]:
    """An answer for each image."""
    rows = queries.at(engine, [str(_resolved(image)) for image in images])
    fit = {image: _fit(rows.get(str(_resolved(image))), folders) for image in images}
    wanted = [one for one in fit.values() if isinstance(one, _Fit)]
    begun = persist(partial(_begin, ledger, folders, wanted, label), over)
    moves = [move for move in _begun(ledger, folders, over) if move.id in begun]
    outcomes = carry_out(ledger, moves, over)
    now = queries.destinations(engine, list(begun))
    answers: list[Corrected | Refused] = []
    for image, one in fit.items():
        if isinstance(one, str):
            answers.append(Refused(image, one))
        elif one.id not in begun:
            answers.append(Refused(image, BUSY))
        elif reason := NOT_MOVED.get(outcomes.get(one.id, Outcome.DONE)):
            answers.append(Refused(image, reason))
        else:
            answers.append(Corrected(image, now[one.id]))
    return answers


def _fit(row: Record | None, folders: Folders) -> _Fit | str:
    """What is to be corrected, or why it cannot be."""
    root = folders.root_above(row.destination) if row and row.destination else None
    if row is None or row.destination is None or root is None:
        return "No row names it. Only what moodsort filed, where it filed it, can be corrected."
    if row.state is State.FAILED:
        return "It could not be judged, so there is nothing to correct."
    if row.state is not State.FILED:
        return BUSY
    found = regular(row.destination)
    if found is None:
        return "The file is not there."
    if identity(found) != (row.size_bytes, row.mtime_ns) and not _is_same(row, row.destination):
        return "The file was changed since. Move it into the inbox to have it judged anew."
    return _Fit(row.id, root, row.destination, identity(found).mtime_ns)


def _is_same(row: Record, path: Path) -> bool:
    """Whether the content is still the same, if the time of the file is another."""
    try:
        return content_hash(path) == row.sha256
    except OSError:
        return False


def _begin(ledger: Ledger, folders: Folders, wanted: Sequence[_Fit], label: str) -> set[int]:
    home = folders.root_of(label)
    elsewhere = [
        Wanted(one.id, home, home / one.path.relative_to(one.root))
        for one in wanted
        if one.root != home
    ]
    chosen = naming.choose_destinations(elsewhere, ledger.taken)
    return ledger.correct(
        [
            Correction(one.id, label, one.path, chosen.get(one.id, one.path), one.mtime_ns)
            for one in wanted
        ]
    )


def _resolved(image: Path) -> Path:
    """As the row names it: the folder without links, but never through one that is the file."""
    return image.parent.resolve() / image.name


@contextmanager
def _turn(folders: Folders, stopping: threading.Event) -> Iterator[None]:
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(lock.hold(folders.happy))
                break
            except InboxHeld:
                if stopping.wait(TURN_SECONDS):
                    raise ServiceError(
                        f"Another moodsort corrects images below {folders.happy}. Try again."
                    ) from None
        yield


@contextmanager
def _patience() -> Iterator[threading.Event]:
    """What is set when something was waited for long enough."""
    over = threading.Event()
    timer = threading.Timer(PATIENCE_SECONDS, over.set)
    timer.daemon = True
    timer.start()
    try:
        yield over
    finally:
        timer.cancel()
