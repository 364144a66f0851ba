"""The tables, typed; and the view that people query."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NEWEST = "0008"
"""The migration that this code needs."""


class State(enum.StrEnum):
    """Where a file is in its life: claimed -> decided -> filed, or failed for a bad one.

    While its file moves elsewhere, a filed one is `correcting`, where a person has said what it is,
    or `resorting`, where it was decided again; then it is filed again.
    """

    CLAIMED = "claimed"
    DECIDED = "decided"
    FILED = "filed"
    FAILED = "failed"
    CORRECTING = "correcting"
    RESORTING = "resorting"


UNFINISHED = (State.CLAIMED, State.DECIDED)
MOVING = (State.CORRECTING, State.RESORTING)
OPEN = (*UNFINISHED, *MOVING)
JUDGED = (State.FILED, *MOVING)

BigId = sa.BigInteger().with_variant(sa.Integer, "sqlite")
FilePath = sa.String().with_variant(sa.String(collation="C"), "postgresql")
"""Compared byte by byte, so that what lies below a folder is one range of an index."""


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """Times in UTC, aware in Python on every database."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        """To UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        """SQLite gives the time back without its zone, PostgreSQL in that of the session."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """What all tables share."""

    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy's own way of configuring a base)
        datetime: UtcDateTime(),
        dict[str, Any]: sa.JSON(),
        list[dict[str, Any]]: sa.JSON(),
        list[str]: sa.JSON(),
        State: sa.Enum(
            State,
            native_enum=False,
            length=16,
            values_callable=lambda states: [state.value for state in states],
        ),
    }


class Model(Base):
    """A model bundle that has decided something; `sha256` stands for the whole bundle."""

    __tablename__ = "models"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    sha256: Mapped[str] = mapped_column(sa.String(64), unique=True)
    classes: Mapped[list[str]]
    input_height: Mapped[int]
    input_width: Mapped[int]
    input_channels: Mapped[int]
    metrics: Mapped[dict[str, Any]]
    first_used_at: Mapped[datetime]


class Image(Base):
    r"""One file that came through an inbox.

    `source_path` is printable text; where a file's name is no valid UTF-8, the undecodable bytes
    stand in it as `\xNN` and `source_path_raw` has the path as the operating system knows it.
    `decided_by` is `faces` or `whole_image`, None of what is undecided or failed.
    `moved_from` is where the file of one of MOVING lay before; `missing_since` is when
    a filed one was first not found where it was filed. `claimed_by` is the service that works on
    an unfinished one, where several may share the database; it may have no row any more.
    """

    __tablename__ = "images"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    source_path: Mapped[str] = mapped_column(FilePath)
    source_path_raw: Mapped[bytes | None]
    source_mtime_ns: Mapped[int] = mapped_column(sa.BigInteger)
    size_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    sha256: Mapped[str | None] = mapped_column(sa.String(64))
    width: Mapped[int | None]
    height: Mapped[int | None]
    format: Mapped[str | None] = mapped_column(sa.String(16))
    state: Mapped[State]
    label: Mapped[str | None] = mapped_column(sa.String(16))
    probability: Mapped[float | None]
    p_sad: Mapped[float | None]
    model_id: Mapped[int | None] = mapped_column(sa.ForeignKey("models.id"))
    destination_path: Mapped[str | None] = mapped_column(FilePath)
    claimed_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]
    filed_at: Mapped[datetime | None]
    error_code: Mapped[str | None] = mapped_column(sa.String(32))
    error_detail: Mapped[str | None]
    corrected_label: Mapped[str | None] = mapped_column(sa.String(16))
    corrected_at: Mapped[datetime | None]
    decided_by: Mapped[str | None] = mapped_column(sa.String(16))
    moved_from: Mapped[str | None] = mapped_column(FilePath)
    missing_since: Mapped[datetime | None]
    claimed_by: Mapped[int | None] = mapped_column(BigId)

    __table_args__ = (
        sa.Index(
            "one_claim_per_file",
            "source_path",
            unique=True,
            sqlite_where=sa.text("state IN ('claimed', 'decided')"),
            postgresql_where=sa.text("state IN ('claimed', 'decided')"),
        ),
        sa.Index("images_by_destination", "destination_path", unique=True),
        sa.Index("images_by_claimed_at", "claimed_at", "id"),
        sa.Index("images_by_label", "label", "claimed_at", "id"),
        sa.Index("images_by_state", "state", "id"),
        sa.Index("images_by_state_and_time", "state", "claimed_at", "id"),
        sa.Index("images_by_probability", "probability", "id"),
        sa.Index("images_by_label_and_probability", "label", "probability", "id"),
        sa.Index(
            "images_by_error",
            *("error_code", "claimed_at", "id"),
            sqlite_where=sa.text("error_code IS NOT NULL"),
            postgresql_where=sa.text("error_code IS NOT NULL"),
        ),
        sa.Index(
            "images_by_correction",
            *("claimed_at", "id"),
            sqlite_where=sa.text("corrected_label IS NOT NULL"),
            postgresql_where=sa.text("corrected_label IS NOT NULL"),
        ),
        sa.Index("images_by_sha256", "sha256"),
        sa.Index(
            "images_by_moved_from",
            "moved_from",
            sqlite_where=sa.text("moved_from IS NOT NULL"),
            postgresql_where=sa.text("moved_from IS NOT NULL"),
        ),
        sa.Index(
            "images_that_are_missing",
            *("size_bytes", "id"),
            sqlite_where=sa.text("missing_since IS NOT NULL"),
            postgresql_where=sa.text("missing_since IS NOT NULL"),
        ),
    )


class Service(Base):
    """A service that works on an inbox, where several may share the database.

    `host` and `pid` are for people; `process` tells it from all others that have or had the same.
    `beat_at` is its last sign of life, by the clock of the server; `lease_seconds` after that its
    claims are anybody's.
    """

    __tablename__ = "services"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    process: Mapped[str]
    inbox: Mapped[str] = mapped_column(FilePath)
    started_at: Mapped[datetime]
    beat_at: Mapped[datetime]
    lease_seconds: Mapped[float]


class Face(Base):
    """A face that counted in an image; among its image's by `id` in the order of the decision.

    The box is in pixels of the upright image and may reach over its edge; `score` (how sure the
    detector is) and `p_sad` are in [0, 1].
    """

    __tablename__ = "faces"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    image_id: Mapped[int] = mapped_column(BigId, sa.ForeignKey("images.id", ondelete="CASCADE"))
    x: Mapped[int]
    y: Mapped[int]
    width: Mapped[int]
    height: Mapped[int]
    score: Mapped[float]
    p_sad: Mapped[float]

    __table_args__ = (sa.Index("faces_by_image", "image_id"),)


class EarlierDecision(Base):
    """What was decided on an image before it was decided again; among its image's by `id` in order.

    `faces` are those that counted then, each as the columns of `Face` have it.
    """

    __tablename__ = "earlier_decisions"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    image_id: Mapped[int] = mapped_column(BigId, sa.ForeignKey("images.id", ondelete="CASCADE"))
    model_id: Mapped[int | None] = mapped_column(sa.ForeignKey("models.id"))
    label: Mapped[str] = mapped_column(sa.String(16))
    probability: Mapped[float | None]
    p_sad: Mapped[float | None]
    decided_by: Mapped[str | None] = mapped_column(sa.String(16))
    decided_at: Mapped[datetime | None]
    faces: Mapped[list[dict[str, Any]]]

    __table_args__ = (sa.Index("earlier_decisions_by_image", "image_id"),)


def faces_of(ids: Sequence[int]) -> sa.Select[*tuple[Any, ...]]:
    """The faces of images, each with its `image_id`, in the order in which they were recorded."""
    about = (Face.x, Face.y, Face.width, Face.height, Face.score, Face.p_sad)
    return sa.select(Face.image_id, *about).where(Face.image_id.in_(ids)).order_by(Face.id)


def names_held(among: Sequence[str]) -> sa.CompoundSelect[str]:
    """Those of the paths at which a row has its file, or had it before a move that goes on.

    A move that is given back needs the second again.
    """
    return sa.union_all(
        sa.select(Image.destination_path).where(Image.destination_path.in_(among)),
        sa.select(Image.moved_from).where(Image.moved_from.in_(among)),
    )


results = sa.table(
    "results",
    sa.column("id", sa.BigInteger()),
    sa.column("source_path", sa.String()),
    sa.column("destination_path", sa.String()),
    sa.column("state", sa.String()),
    sa.column("label", sa.String()),
    sa.column("probability", sa.Double()),
    sa.column("p_sad", sa.Double()),
    sa.column("model", sa.String()),
    sa.column("width", sa.Integer()),
    sa.column("height", sa.Integer()),
    sa.column("format", sa.String()),
    sa.column("size_bytes", sa.BigInteger()),
    sa.column("sha256", sa.String()),
    sa.column("claimed_at", UtcDateTime()),
    sa.column("decided_at", UtcDateTime()),
    sa.column("filed_at", UtcDateTime()),
    sa.column("error_code", sa.String()),
    sa.column("error_detail", sa.String()),
    sa.column("corrected_label", sa.String()),
    sa.column("decided_by", sa.String()),
    sa.column("corrected_at", UtcDateTime()),
    sa.column("missing_since", UtcDateTime()),
)
"""The view `results`: the stable interface for queries."""

decisions = sa.table(
    "decisions",
    sa.column("image_id", sa.BigInteger()),
    sa.column("model_id", sa.Integer()),
    sa.column("label", sa.String()),
    sa.column("probability", sa.Double()),
    sa.column("p_sad", sa.Double()),
    sa.column("decided_by", sa.String()),
    sa.column("decided_at", UtcDateTime()),
)
"""The view `decisions`: one row a decision, those that hold and the earlier ones."""
