"""The life of one file, in rows; the only writer of the database.

    claim -> decide -> finish        release gives a claim back
            correct -> finish        release puts a file back that was to be moved
            redecide -> finish       the same; what was decided before holds again

Each call is one transaction. Calls from several threads are served one after the other.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from db.errors import ClaimsLost
from db.schema import (
    MOVING,
    UNFINISHED,
    EarlierDecision,
    Face,
    Image,
    Model,
    Service,
    State,
    faces_of,
    names_held,
)
from db.text import one_line, original, printable
from db.transactions import transaction

INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
"""By dialect: for the rest of SQLAlchemy an insert knows no conflicts."""


@dataclass(frozen=True)
class Source:
    """A file in an inbox as it was found; the time is its modification time in nanoseconds."""

    path: Path
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True)
class FaceRecord:
    """A face that counted: its box in pixels of the upright image, which may reach over its edge.

    `score` (how sure the detector is) and `p_sad` are in [0, 1].
    """

    x: int
    y: int
    width: int
    height: int
    score: float
    p_sad: float


@dataclass(frozen=True)
class Decision:
    """What was decided on the claim `id`, and where the file is to go.

    Of a good image `label`, `probability` and `p_sad` (both 0 to 1), `model_id` and `decided_by`
    (`faces` or `whole_image`) are set; of a bad one `error_code` and `error_detail`. `destination`
    is an absolute path of printable text.
    """

    id: int
    destination: Path
    size_bytes: int
    mtime_ns: int
    sha256: str | None
    width: int | None = None
    height: int | None = None
    format: str | None = None
    label: str | None = None
    probability: float | None = None
    p_sad: float | None = None
    model_id: int | None = None
    error_code: str | None = None
    error_detail: str | None = None
    decided_by: str | None = None
    faces: Sequence[FaceRecord] = ()


@dataclass(frozen=True)
class Redecision:
    """What is decided anew on a filed image, whose file lies at `source`.

    Its `decision` says where the file is to go, which is `source` if it may stay.
    """

    source: Path
    decision: Decision


@dataclass(frozen=True)
class Correction:
    """What a person says of the filed image `id`, where its file lies, and where it is to go.

    `mtime_ns` is the modification time of the file now. Both paths are the same if it may stay.
    """

    id: int
    label: str
    source: Path
    destination: Path
    mtime_ns: int


@dataclass(frozen=True)
class Relocation:
    """A person has moved the file of the filed image `id` from `source` to `destination`.

    `label` is what that says of it; None if it says nothing.
    """

    id: int
    source: Path
    destination: Path
    label: str | None


@dataclass(frozen=True)
class Unfinished:
    """A row between its states; `destination` is None until it is decided."""

    id: int
    source: Source
    sha256: str | None
    destination: Path | None


@dataclass(frozen=True)
class ModelRecord:
    """What the ledger keeps of a model bundle; sizes in pixels."""

    name: str
    sha256: str
    classes: Sequence[str]
    input_height: int
    input_width: int
    input_channels: int
    metrics: Mapping[str, Any]


class Ledger:
    """Writes rows through an engine made by `db.engine.open_for_writing`.

    Every method raises LedgerUnavailable where the database does not take the transaction now;
    nothing of it is then recorded, and the call may be repeated. It raises LedgerError where the
    database is damaged, or another file has taken its place; and ClaimsLost where others took the
    service, one of `db.services`, for dead.
    """

    def __init__(self, engine: sa.Engine, service: int | None = None) -> None:
        """`service`: whose claims they are, where several services may share the database."""
        self._engine = engine
        self._service = service
        self._in_hand: set[int] = set()
        self._lock = threading.RLock()

    @property
    def is_shared(self) -> bool:
        """Whether other services may claim files here, too."""
        return self._service is not None

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def register(self, model: ModelRecord) -> int:
        """The id of a model, which gets a row when it is used for the first time."""
        with self._transaction() as session:
            known = session.scalar(sa.select(Model.id).where(Model.sha256 == model.sha256))
            if known is not None:
                return known
            row = Model(
                **asdict(model) | {"classes": list(model.classes), "metrics": dict(model.metrics)},
                first_used_at=_now(),
            )
            session.add(row)
            session.flush()
            return row.id

    def claim(self, sources: Sequence[Source]) -> list[int | None]:
        """One new row a file, in order; None for a file that is claimed already.

        Where services claim the same files at the same time they should do it in the same order.
        """
        if not sources:
            return []
        rows = [self._claimed(source) for source in sources]
        with self._lock:
            with self._transaction() as session:
                ids = self._inserted(session, rows)
            self._in_hand.update(ids.values())
        # A file that is named twice is claimed once.
        return [ids.pop(row["source_path"], None) for row in rows]

    def _claimed(self, source: Source) -> dict[str, Any]:
        path, raw = printable(source.path), os.fsencode(source.path)
        return {
            "source_path": path,
            "source_path_raw": None if raw == path.encode() else raw,
            "source_mtime_ns": source.mtime_ns,
            "size_bytes": source.size_bytes,
            "state": State.CLAIMED,
            "claimed_at": _now(),
            "claimed_by": self._service,
        }

    def _inserted(self, session: Session, rows: Sequence[dict[str, Any]]) -> dict[str, int]:
        """The ids of new rows, by path; of a file that is claimed already there is no new one.

        It is looked first what is claimed: a number is used up also by a row that is not inserted.
        """
        claimed = sa.select(Image.source_path).where(
            Image.source_path.in_([row["source_path"] for row in rows]),
            Image.state.in_(UNFINISHED),
        )
        held = set(session.scalars(claimed))
        new = {row["source_path"]: row for row in rows if row["source_path"] not in held}
        if not new:
            return {}
        insert = INSERTS[self._engine.dialect.name](Image).on_conflict_do_nothing()
        made = session.execute(insert.returning(Image.source_path, Image.id), list(new.values()))
        return {row.source_path: row.id for row in made}

    def taken(self, destinations: Sequence[Path]) -> set[Path]:
        """Those of the destinations that a row names already, or may name again."""
        names = [str(path) for path in destinations]
        if not names:
            return set()
        with self._transaction() as session:
            return {Path(name) for name in session.scalars(names_held(names))}

    def decide(self, decisions: Sequence[Decision]) -> None:
        """Store decisions with their faces, before any file is moved.

        Repeated, it replaces what it stored: the answer to a commit may get lost on its way.
        """
        if not decisions:
            return
        now = _now()
        with self._transaction() as session:
            session.execute(sa.update(Image), [_decided(decision, now) for decision in decisions])
            _replace_faces(session, {one.id: _faces(one) for one in decisions})

    def redecide(self, redecisions: Sequence[Redecision]) -> set[int]:
        """Store decisions in place of earlier ones, which are kept, before any file is moved.

        Gives the ids of which they are true now. Of others the file is elsewhere by now, or a
        person has said what they are. A row whose file may not stay is `resorting` until `finish`.
        What is decided as it was before is not written again.
        """
        if not redecisions:
            return set()
        now = _now()
        with self._transaction() as session:
            rows = _undisputed(session, redecisions)
            fit = [one for one in redecisions if one.decision.id in rows]
            new = [one for one in fit if not _is_the_same(one, rows[one.decision.id])]
            if new:
                faces = _faces_of(session, [one.decision.id for one in new])
                session.execute(
                    sa.insert(EarlierDecision),
                    [_earlier(rows[id], faces[id]) for id in faces],
                )
                session.execute(sa.update(Image), [_redecided(one, now) for one in new])
                _replace_faces(session, {one.decision.id: _faces(one.decision) for one in new})
            return {one.decision.id for one in fit}

    def correct(self, corrections: Sequence[Correction]) -> set[int]:
        """Store what a person says, before any file is moved; gives the ids of which it is true.

        Of others the file is elsewhere by now: somebody else was faster. A row whose file may not
        stay is `correcting` until `finish`.
        """
        if not corrections:
            return set()
        with self._transaction() as session:
            return {one.id for one in corrections if _correct(session, one)}

    def redirect(self, destinations: Mapping[int, Path]) -> None:
        """Change, by id, where decided files are to go."""
        rows = [{"id": id, "destination_path": str(path)} for id, path in destinations.items()]
        if not rows:
            return
        with self._transaction() as session:
            session.execute(sa.update(Image), rows)

    def finish(self, ids: Sequence[int]) -> None:
        """The files lie at their destinations: the rows become filed, or failed for bad ones."""
        if not ids:
            return
        final = sa.case((Image.error_code.is_(None), State.FILED), else_=State.FAILED)
        with self._transaction() as session:
            session.execute(
                sa.update(Image)
                .where(Image.id.in_(ids), Image.state.in_((State.DECIDED, *MOVING)))
                .values(
                    state=sa.type_coerce(final, Image.state.type),
                    filed_at=sa.func.coalesce(Image.filed_at, _now()),
                    moved_from=None,
                    claimed_by=None,
                ),
                execution_options={"synchronize_session": False},
            )
        self._in_hand.difference_update(ids)

    def release(self, ids: Sequence[int]) -> None:
        """Forget unfinished rows, whose files stay where they are or are gone, and their faces.

        Of a correction only the move is forgotten: what a person said stays. Of a new decision on
        a filed image all is: the one before holds again.
        """
        if not ids:
            return
        with self._transaction() as session:
            _restore_decisions(session, ids)
            session.execute(
                sa.update(Image)
                .where(Image.id.in_(ids), Image.state == State.CORRECTING)
                .values(state=State.FILED, destination_path=Image.moved_from, moved_from=sa.null()),
                execution_options={"synchronize_session": False},
            )
            session.execute(
                sa.delete(Image).where(Image.id.in_(ids), Image.state.in_(UNFINISHED)),
                execution_options={"synchronize_session": False},
            )
        self._in_hand.difference_update(ids)

    def unfinished(self) -> list[Unfinished]:
        """The rows between their states that nobody works on, oldest first."""
        with self._transaction() as session:
            rows = session.scalars(sa.select(Image).where(*self._idle()).order_by(Image.id))
            return [_unfinished(row) for row in rows]

    def take_over(self, ids: Sequence[int]) -> set[int]:
        """Those of the idle rows that this service works on from now on, and no other."""
        if not ids:
            return set()
        with self._lock:
            with self._transaction() as session:
                change = sa.update(Image).where(Image.id.in_(ids), *self._idle())
                taken = session.scalars(
                    change.values(claimed_by=self._service).returning(Image.id),
                    execution_options={"synchronize_session": False},
                )
                mine = set(taken)
            self._in_hand.update(mine)
        return mine

    def _idle(self) -> tuple[sa.ColumnElement[bool], ...]:
        """The conditions that nobody works on a row.

        That is so, too, of one of this service's own which it does not know of: the answer to a
        commit got lost on its way.
        """
        by_nobody = ~sa.exists().where(Service.id == Image.claimed_by)
        own = Image.claimed_by == self._service
        lost = own & Image.id.not_in(list(self._in_hand))
        return Image.state.in_(UNFINISHED), by_nobody | lost

    def require_claims(self) -> None:
        """To be asked before files are moved.

        Raises:
            ClaimsLost: others have taken over what this service had claimed.
        """
        if self._service is not None:
            with self._transaction():
                pass

    def miss(self, files: Mapping[int, Path]) -> None:
        """Note, by id, filed files that are not there any more."""
        self._note_missing(files, _now())

    def find(self, files: Mapping[int, Path]) -> None:
        """Note, by id, that files which were missing are there again."""
        self._note_missing(files, None)

    def _note_missing(self, files: Mapping[int, Path], since: datetime | None) -> None:
        if not files:
            return
        with self._transaction() as session:
            for id, path in files.items():
                session.execute(
                    sa.update(Image).where(*_lies_at(id, path)).values(missing_since=since),
                    execution_options={"synchronize_session": False},
                )

    def relocate(self, moved: Relocation) -> bool:
        """Store where a person has moved a file; False if the row is changed or the name taken."""
        name = str(moved.destination)
        place: dict[str, Any] = {"destination_path": name, "missing_since": None}
        said = {"corrected_label": moved.label, "corrected_at": _now()} if moved.label else {}
        with self._transaction() as session:
            if session.scalar(names_held([name])) is not None:
                return False
            changed = session.execute(
                sa.update(Image)
                .where(*_lies_at(moved.id, moved.source))
                .values(place | said)
                .returning(Image.id),
                execution_options={"synchronize_session": False},
            )
            return changed.scalar() is not None

    def moving(self) -> list[Unfinished]:
        """All filed rows whose files move, oldest first; their sources are where those lay."""
        with self._transaction() as session:
            rows = session.scalars(
                sa.select(Image).where(Image.state.in_(MOVING)).order_by(Image.id)
            )
            return [_moving(row) for row in rows]

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        with self._lock, transaction(self._engine) as session:
            if self._service is not None:
                self._hold_claims(session, self._service)
            yield session

    def _hold_claims(self, session: Session, service: int) -> None:
        """Until the end of the transaction nobody can take them over."""
        mine = sa.select(Service.id).where(Service.id == service)
        if session.scalar(mine.with_for_update(read=True, key_share=True)) is None:
            raise ClaimsLost


def _decided(decision: Decision, now: datetime) -> dict[str, Any]:
    row = dict(vars(decision))
    row["destination_path"] = str(row.pop("destination"))
    row["source_mtime_ns"] = row.pop("mtime_ns")
    del row["faces"]  # They have rows of their own.
    if decision.error_detail:  # A decoder says what it likes; PostgreSQL takes no NUL.
        row["error_detail"] = one_line(decision.error_detail)
    return row | {"state": State.DECIDED, "decided_at": now}


def _faces(decision: Decision) -> list[dict[str, Any]]:
    return [asdict(face) for face in decision.faces]


def _replace_faces(session: Session, faces: Mapping[int, Sequence[dict[str, Any]]]) -> None:
    """Let images, by id, have these faces and no others."""
    session.execute(
        sa.delete(Face).where(Face.image_id.in_(list(faces))),
        execution_options={"synchronize_session": False},
    )
    rows = [face | {"image_id": id} for id, some in faces.items() for face in some]
    if rows:
        session.execute(sa.insert(Face), rows)


def _faces_of(session: Session, ids: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """The faces of images by id, in the order in which they were recorded."""
    faces: dict[int, list[dict[str, Any]]] = {id: [] for id in ids}
    for row in session.execute(faces_of(ids)).mappings():
        face = dict(row)
        faces[face.pop("image_id")].append(face)
    return faces


def _undisputed(session: Session, redecisions: Sequence[Redecision]) -> dict[int, Image]:
    """The rows, by id, that are filed as the decisions take them to be, and not corrected."""
    sources = {one.decision.id: str(one.source) for one in redecisions}
    rows = session.scalars(
        sa.select(Image)
        .where(
            Image.id.in_(sources),
            Image.state == State.FILED,
            Image.label.is_not(None),
            Image.corrected_label.is_(None),
        )
        .with_for_update()
    )
    return {row.id: row for row in rows if row.destination_path == sources[row.id]}


def _is_the_same(one: Redecision, row: Image) -> bool:
    now = one.decision
    before = (row.model_id, row.label, row.p_sad, row.destination_path)
    return before == (now.model_id, now.label, now.p_sad, str(now.destination))


DECISION = ("model_id", "label", "probability", "p_sad", "decided_by", "decided_at")
"""The columns of a decision that an image and an earlier decision have alike."""


def _earlier(row: Image, faces: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in DECISION} | {"image_id": row.id, "faces": faces}


def _redecided(one: Redecision, now: datetime) -> dict[str, Any]:
    moves = one.decision.destination != one.source
    return _decided(one.decision, now) | {
        "state": State.RESORTING if moves else State.FILED,
        "moved_from": str(one.source) if moves else None,
    }


def _restore_decisions(session: Session, ids: Sequence[int]) -> None:
    """Give `resorting` rows back the decisions, and the places, that they had before."""
    rows = session.scalars(
        sa.select(Image).where(Image.id.in_(ids), Image.state == State.RESORTING)
    ).all()
    for row in rows:
        last = session.scalars(
            sa.select(EarlierDecision)
            .where(EarlierDecision.image_id == row.id)
            .order_by(EarlierDecision.id.desc())
        ).first()
        assert last  # or it would have another state
        for name in DECISION:
            setattr(row, name, getattr(last, name))
        row.state, row.destination_path, row.moved_from = State.FILED, row.moved_from, None
        _replace_faces(session, {row.id: last.faces})
        session.delete(last)
    session.flush()


def _unfinished(row: Image) -> Unfinished:
    path = original(row.source_path, row.source_path_raw)
    source = Source(path, row.size_bytes, row.source_mtime_ns)
    destination = Path(row.destination_path) if row.destination_path else None
    return Unfinished(row.id, source, row.sha256, destination)


def _moving(row: Image) -> Unfinished:
    assert row.moved_from  # or it would be in another state
    assert row.destination_path
    source = Source(Path(row.moved_from), row.size_bytes, row.source_mtime_ns)
    return Unfinished(row.id, source, row.sha256, Path(row.destination_path))


def _correct(session: Session, one: Correction) -> bool:
    said: dict[str, Any] = {"corrected_label": one.label, "corrected_at": _now()}
    if one.destination != one.source:
        said |= {
            "state": State.CORRECTING,
            "destination_path": str(one.destination),
            "moved_from": str(one.source),
            "source_mtime_ns": one.mtime_ns,
        }
    changed = session.execute(
        sa.update(Image).where(*_lies_at(one.id, one.source)).values(said).returning(Image.id),
        execution_options={"synchronize_session": False},
    )
    return changed.scalar() is not None


def _lies_at(id: int, path: Path) -> tuple[sa.ColumnElement[bool], ...]:
    """The conditions that a row is filed, and its file there."""
    return (Image.id == id, Image.state == State.FILED, Image.destination_path == str(path))


def _now() -> datetime:
    return datetime.now(UTC)
