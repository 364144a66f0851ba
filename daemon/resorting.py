"""Filed images are decided again by the model of now, and follow as `daemon.refiling` tells.

What a person has said is never touched, and what was decided before is kept.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from daemon import naming, reading, refiling
from daemon.classifier import Photo
from daemon.deciding import decision_of, label_of
from daemon.filing import Outcome
from daemon.judging import judged
from daemon.loading import load_model, make_folders, record_of
from daemon.naming import Wanted
from daemon.pipeline import Folders, carry_out, persist
from daemon.reading import Read, Readers
from daemon.refiling import BUSY, CHANGED
from daemon.settings import Settings
from db import engine as databases
from db import queries
from db.chunks import chunks
from db.engine import open_for_writing
from db.ledger import Ledger, Redecision
from db.queries import Filter, Record
from trainer.bundle import Bundle, Verdict

if TYPE_CHECKING:
    import sqlalchemy as sa

AT_ONCE = 128
"""Images that are judged, and then moved in one turn."""


@dataclass(frozen=True)
class Resorted:
    """What an image was taken for, and what it is taken for now with `probability`, 0 to 1.

    `destination`: where its file lies then.
    """

    id: int
    image: Path
    before: str
    label: str
    probability: float
    destination: Path

    @property
    def is_changed(self) -> bool:
        """Whether the label is another one now."""
        return self.label != self.before


@dataclass(frozen=True)
class Left:
    """An image that stays as it is, and why."""

    id: int
    image: Path
    reason: str


def resort(
    settings: Settings, wanted: Filter, *, again: bool, apply: bool
) -> Iterator[Resorted | Left]:
    """Decide the filed images that are wanted anew: an answer for each, in the order of the rows.

    Those that the model of the settings has decided are left out, unless `again`. Without `apply`
    nothing is recorded nor moved, and the answers tell what would be.

    Raises:
        ServiceError, LedgerError: it cannot go on; what was begun is ended by the next who moves
            filed images, or the next start of the service.
    """
    reading.prepare()
    folders = make_folders(settings) if apply else Folders.of(settings.folders)
    with databases.reading(settings.database) as engine, _judge(settings, folders) as judge:
        rows = queries.undisputed(engine, wanted, except_by=None if again else judge.model.sha256)
        judged = (judge.judged(some) for some in chunks(rows, AT_ONCE))
        if not apply:
            for some in judged:
                yield from (one if isinstance(one, Left) else one.told for one in some)
            return
        with closing(Ledger(open_for_writing(settings.database))) as ledger:
            with refiling.turn(ledger, folders) as over:  # Which ends what a killed one has begun.
                model_id = persist(partial(ledger.register, record_of(judge.model)), over)
            for some in judged:
                with refiling.turn(ledger, folders) as over:
                    answers = _refile(engine, ledger, folders, model_id, some, over)
                yield from answers


@dataclass(frozen=True)
class _Judged:
    """A filed image, what is said of it, and where it is to go without regard to other files."""

    row: Record
    photo: Photo
    verdict: Verdict
    told: Resorted
    root: Path


@dataclass(frozen=True)
class _Judge:
    """What decides."""

    model: Bundle
    readers: Readers
    folders: Folders
    unsure_below: float

    def judged(self, rows: Sequence[Record]) -> list[_Judged | Left]:
        """What is said of the images of rows, or why nothing is."""
        paths = [row.destination for row in rows if row.destination]
        read = judged(self.model, self.readers, paths)
        return [self._judged(*one) for one in zip(rows, paths, read, strict=True)]

    def _judged(self, row: Record, path: Path, read: Read | None) -> _Judged | Left:
        root = self.folders.root_above(path)
        if root is None:
            return Left(row.id, path, "It lies in none of the folders that the settings name.")
        if read is None:
            return Left(row.id, path, "The file is not there, or is being written to.")
        if read.photo.sha256 != row.sha256:
            return Left(row.id, path, CHANGED)
        if not isinstance(read.verdict, Verdict):
            return Left(row.id, path, str(read.verdict))
        label = label_of(read.verdict, self.unsure_below)
        assert label  # It is no bad image,
        assert row.label  # and was none.
        moves = label != row.label
        home = self.folders.root_of(label) if moves else root
        told = Resorted(
            id=row.id,
            image=path,
            before=row.label,
            label=label,
            probability=read.verdict.probability,
            destination=home / path.relative_to(root),
        )
        return _Judged(row, read.photo.without_pixels(), read.verdict, told, home)


@contextmanager
def _judge(settings: Settings, folders: Folders) -> Iterator[_Judge]:
    model, readers = load_model(settings)
    with closing(readers):
        yield _Judge(model, readers, folders, settings.unsure_below)


NOT_MOVED = {
    Outcome.GONE: "The file vanished, or is being written to.",
    Outcome.STUCK: "The file may not be moved away. Change its permissions or those of its folder, "
    "and try again.",
}


def _refile(
    engine: sa.Engine,
    ledger: Ledger,
    folders: Folders,
    model_id: int,
    judged: Sequence[_Judged | Left],
    over: threading.Event,
) -> list[Resorted | Left]:
    """An answer for each."""
    fit = [one for one in judged if isinstance(one, _Judged)]
    begun = persist(partial(_begin, ledger, model_id, fit), over)
    moves = [move for move in refiling.begun(ledger, folders, over) if move.id in begun]
    outcomes = carry_out(ledger, moves, over)
    now = queries.destinations(engine, list(begun))
    answers: list[Resorted | Left] = []
    for one in judged:
        if isinstance(one, Left):
            answers.append(one)
        elif one.row.id not in begun:
            answers.append(Left(one.row.id, one.told.image, BUSY))
        elif reason := NOT_MOVED.get(outcomes.get(one.row.id, Outcome.DONE)):
            answers.append(Left(one.row.id, one.told.image, reason))
        else:
            answers.append(replace(one.told, destination=now[one.row.id]))
    return answers


def _begin(ledger: Ledger, model_id: int, fit: Sequence[_Judged]) -> set[int]:
    elsewhere = [
        Wanted(one.row.id, one.root, one.told.destination)
        for one in fit
        if one.told.destination != one.told.image
    ]
    chosen = naming.choose_destinations(elsewhere, ledger.taken)
    return ledger.redecide(
        [
            Redecision(
                one.told.image,
                decision_of(
                    one.row.id,
                    one.photo,
                    one.verdict,
                    chosen.get(one.row.id, one.told.image),
                    one.told.label,
                    model_id,
                ),
            )
            for one in fit
        ]
    )
