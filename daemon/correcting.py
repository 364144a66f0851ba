"""A person says what an image is: its row and its file follow, as `daemon.refiling` tells."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from daemon import naming, refiling
from daemon.filing import Outcome
from daemon.identity import content_hash, identity
from daemon.naming import Wanted
from daemon.pipeline import Folders, carry_out, persist
from daemon.refiling import BUSY, CHANGED
from daemon.settings import Settings
from daemon.settling import regular
from db import queries
from db.engine import open_for_writing, reading
from db.ledger import Correction, Ledger
from db.queries import Record
from db.schema import State

if TYPE_CHECKING:
    import sqlalchemy as sa

AT_ONCE = 100
"""Images that are corrected in one turn."""


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
            with refiling.turn(ledger, folders) as over:
                answers = _correct(engine, ledger, folders, some, label, over)
            yield from answers


@dataclass(frozen=True)
class _Fit:
    """A row that can be corrected, and its file as it is now."""

    id: int
    root: Path
    path: Path
    mtime_ns: int


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
    moves = [move for move in refiling.begun(ledger, folders, over) if move.id in begun]
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
        return CHANGED
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
