"""Filed files go from one destination to another: what corrections and new decisions share.

    filed -> correcting -> filed
    filed -> resorting  -> filed

What is said is written down first, with where the file is to go; then it is moved as all files are.
A service that works meanwhile is kept off by the rows: it takes no name that a row has, and touches
none that is filed or on such a way. Those who move filed files take turns, by a lock on the happy
folder; whoever comes after one that was killed ends its moves first.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from daemon import lock
from daemon.errors import InboxHeld, ServiceError
from daemon.filing import Move, Outcome
from daemon.life import Life
from daemon.pipeline import Folders, Stopped, carry_out, persist, resumed
from db.ledger import Ledger

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 10.0
"""How long another who moves filed files, a locked database or a full disk is waited for."""

TURN_SECONDS = 0.1

BUSY = "It is just being moved. Try again."
CHANGED = "The file was changed since. Move it into the inbox to have it judged anew."


@contextmanager
def turn(ledger: Ledger, folders: Folders) -> Iterator[threading.Event]:
    """A turn in which nobody else moves filed files, and nothing of that is left half done.

    Gives what is set when something was waited for long enough.

    Raises:
        ServiceError: another's turn does not end, or not every file could be moved; what was begun
            is ended by the next turn, or the next start of the service.
    """
    with _patience() as over:
        try:
            with _alone(folders, over):
                _end_moves(ledger, folders, over)
                yield over
        except Stopped as stopped:
            raise ServiceError(
                f"Not every file could be moved: {stopped.__cause__}. What is recorded is "
                "done by the next start of the service, or by the same command."
            ) from None


def begun(
    ledger: Ledger, folders: Folders, stopping: threading.Event, life: Life | None = None
) -> list[Move]:
    """What has been begun to be moved from one of the folders to another."""
    rows = persist(ledger.moving, stopping, life)
    moves = [resumed(row, folders) for row in rows if folders.root_above(row.source.path)]
    return [move for move in moves if move]


def recover(
    ledger: Ledger, folders: Folders, stopping: threading.Event, life: Life | None = None
) -> int:
    """End the moves of one that was killed; gives how many files were moved.

    Raises:
        Stopped: `stopping` was set while a disk or the database did not take it.
    """
    if not begun(ledger, folders, stopping, life):
        return 0  # A destination need not be there, nor be writable, for a service to start.
    try:
        with _alone(folders, stopping):
            return _end_moves(ledger, folders, stopping, life)
    except ServiceError as error:
        log.warning("moves of filed images are left for the next start: %s", error)
        return 0


def is_at_work(happy: Path) -> bool:
    """Whether a process moves filed files now, below that folder and its neighbours."""
    return lock.is_held(happy)


def _end_moves(
    ledger: Ledger, folders: Folders, stopping: threading.Event, life: Life | None = None
) -> int:
    outcomes = carry_out(ledger, begun(ledger, folders, stopping, life), stopping, life)
    return sum(outcome is Outcome.DONE for outcome in outcomes.values())


@contextmanager
def _alone(folders: Folders, stopping: threading.Event) -> Iterator[None]:
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(lock.hold(folders.happy))
                break
            except InboxHeld:
                if stopping.wait(TURN_SECONDS):
                    raise ServiceError(
                        f"Another moodsort moves images below {folders.happy}. Try again."
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
