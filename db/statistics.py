"""How many images, and of what kind; it reads as `db.queries` does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from db.schema import JUDGED, Image, Model, State, decisions, results
from db.terms import By

QUARTER = 900
"""Seconds in which counts are fetched: every hour and day, in any zone, is made of such."""


@dataclass(frozen=True)
class Period:
    """Since when and until when (not included) images were claimed; None means always."""

    since: datetime | None = None
    until: datetime | None = None

    def holds(self, time: Any) -> Iterator[sa.ColumnElement[bool]]:
        """The conditions on a column that it is within."""
        if self.since:
            yield time >= self.since
        if self.until:
            yield time < self.until


@dataclass(frozen=True)
class Stats:
    """Counts of images by state, of filed ones by label, of failed ones by error code.

    `decided_by` counts the filed ones by what decided: `faces` or `whole_image`. `share_happy`
    is that of happy ones among those that are happy or sad; None where there are none.
    `corrected` images have been judged by a person, who said the same of `agreeing` ones;
    `agreement` is their share.
    """

    images: int
    waiting: int
    filed: int
    failed: int
    labels: dict[str, int]
    decided_by: dict[str, int]
    errors: dict[str, int]
    share_happy: float | None
    corrected: int
    agreeing: int
    agreement: float | None
    first_claimed_at: datetime | None
    last_filed_at: datetime | None


@dataclass(frozen=True)
class Tally:
    """How many images were decided: by label, how many failed, and how many a person judged."""

    labels: dict[str, int]
    failed: int
    corrected: int

    @property
    def decided(self) -> int:
        """All, failed ones too."""
        return sum(self.labels.values()) + self.failed


@dataclass(frozen=True)
class Group:
    """Counts of images that have `key` in common, as in `Stats`; `happy` and so on are filed."""

    key: str
    images: int = 0
    happy: int = 0
    sad: int = 0
    unsure: int = 0
    failed: int = 0
    corrected: int = 0
    agreeing: int = 0

    @property
    def share_happy(self) -> float | None:
        """As in `Stats`."""
        return _share(self.happy, self.happy + self.sad)

    @property
    def agreement(self) -> float | None:
        """As in `Stats`."""
        return _share(self.agreeing, self.corrected)


def stats(engine: sa.Engine, period: Period) -> Stats:
    """The totals of a period, from one moment."""
    within = tuple(period.holds(Image.claimed_at))
    is_filed, is_failed = Image.state.in_(JUDGED), Image.state == State.FAILED
    with engine.connect() as connection:
        states = _counts(connection, Image.state, *within)
        labels = _counts(connection, Image.label, is_filed, *within)
        decided_by = _counts(connection, Image.decided_by, is_filed, *within)
        errors = _counts(connection, Image.error_code, is_failed, *within)
        is_right = Image.corrected_label == Image.label
        judged = _counts(connection, is_right, Image.corrected_label.is_not(None), *within)
        first, last = connection.execute(
            sa.select(sa.func.min(Image.claimed_at), sa.func.max(Image.filed_at)).where(*within)
        ).one()
    happy, sad = labels.get("happy", 0), labels.get("sad", 0)
    filed = sum(states.get(state, 0) for state in JUDGED)
    failed = states.get(State.FAILED, 0)
    images, corrected = sum(states.values()), sum(judged.values())
    return Stats(
        images=images,
        waiting=images - filed - failed,
        filed=filed,
        failed=failed,
        labels=labels,
        decided_by=decided_by,
        errors=errors,
        share_happy=_share(happy, happy + sad),
        corrected=corrected,
        agreeing=judged.get("True", 0),
        agreement=_share(judged.get("True", 0), corrected),
        first_claimed_at=first,
        last_filed_at=last,
    )


def tally(engine: sa.Engine) -> Tally:
    """The counts of now, from indexes alone: under a tenth of a second for a million images."""
    said = Image.corrected_label.is_not(None)
    with engine.connect() as connection:
        return Tally(
            labels=_counts(connection, Image.label, Image.label.is_not(None)),
            failed=sum(
                _counts(connection, Image.error_code, Image.error_code.is_not(None)).values()
            ),
            corrected=connection.scalar(sa.select(sa.func.count()).where(said)) or 0,
        )


def groups(
    engine: sa.Engine, by: By, period: Period, name: Callable[[datetime], str]
) -> list[Group]:
    """The images of a period, grouped; by time in its order, else the largest group first.

    `name` is what a day or an hour is called, by any moment (in UTC) within; moments that are
    called the same are counted together.
    """
    is_time = by in (By.DAY, By.HOUR)
    columns = {By.MODEL: results.c.model, By.ERROR: results.c.error_code}
    quarter = sa.func.floor(sa.extract("epoch", results.c.claimed_at) / QUARTER)
    key = quarter if is_time else columns[by]
    query = (
        sa.select(key.label("key"), *_counters())
        .where(key.is_not(None), *period.holds(results.c.claimed_at))
        .group_by("key")
        .order_by("key")
    )
    with engine.connect() as connection:
        found = [dict(row) for row in connection.execute(query).mappings()]
    if is_time:
        for row in found:
            row["key"] = name(datetime.fromtimestamp(int(row["key"]) * QUARTER, UTC))
        return _merged(Group(**row) for row in found)
    return sorted((Group(**row) for row in found), key=lambda group: -group.images)


@dataclass(frozen=True)
class Use:
    """A model that has decided something, and how its decisions have fared.

    `images` are those whose decision is its own now, `decisions` also counts earlier ones. Of them
    a person has judged `corrected` images, and said the same of `agreeing` ones.
    """

    name: str
    sha256: str
    metrics: dict[str, Any]
    first_used_at: datetime
    last_decided_at: datetime | None
    images: int
    decisions: int
    corrected: int
    agreeing: int

    @property
    def agreement(self) -> float | None:
        """As in `Stats`."""
        return _share(self.agreeing, self.corrected)


def uses(engine: sa.Engine) -> list[Use]:
    """All models that were used, the one that was used first at first."""
    made = decisions.c
    said = Image.corrected_label
    counted = (
        sa.select(
            made.model_id,
            sa.func.max(made.decided_at).label("last_decided_at"),
            sa.func.count().label("decisions"),
            _number(said.is_not(None)).label("corrected"),
            _number(said == made.label).label("agreeing"),
        )
        .join(Image, Image.id == made.image_id)
        .group_by(made.model_id)
        .subquery()
    )
    current = (
        sa.select(Image.model_id, sa.func.count().label("images"))
        .where(Image.label.is_not(None))
        .group_by(Image.model_id)
        .subquery()
    )
    query = (
        sa.select(
            *(Model.name, Model.sha256, Model.metrics, Model.first_used_at),
            counted.c.last_decided_at,
            *(
                sa.func.coalesce(count, 0).label(count.name)
                for count in (
                    *(current.c.images, counted.c.decisions),
                    *(counted.c.corrected, counted.c.agreeing),
                )
            ),
        )
        .outerjoin(counted, counted.c.model_id == Model.id)
        .outerjoin(current, current.c.model_id == Model.id)
        .order_by(Model.id)
    )
    with engine.connect() as connection:
        return [Use(**row) for row in connection.execute(query).mappings()]


def _number(condition: sa.ColumnElement[bool]) -> sa.Function[int]:
    """How many rows of a group it is true of."""
    return sa.func.sum(sa.case((condition, 1), else_=0))


def probabilities(engine: sa.Engine, period: Period, bins: int) -> dict[str, list[int]]:
    """By label, how many images of a period have it with a probability in each of the bins.

    The bins share out 0 to 1 evenly; 1 lies in the last.
    """
    scaled = sa.func.floor(Image.probability * bins)
    bin_ = sa.case((scaled >= bins, bins - 1), else_=scaled)
    query = (
        sa.select(Image.label, bin_.label("bin"), sa.func.count())
        .where(Image.probability.is_not(None), *period.holds(Image.claimed_at))
        .group_by(Image.label, "bin")
        .order_by(Image.label)
    )
    counts: dict[str, list[int]] = {}
    with engine.connect() as connection:
        for label, number, count in connection.execute(query):
            counts.setdefault(str(label), [0] * bins)[int(number)] = count
    return counts


def _counters() -> list[sa.Label[int]]:
    """All counts of a group but its key."""
    is_filed = results.c.state.in_(JUDGED)
    conditions = {
        "happy": is_filed & (results.c.label == "happy"),
        "sad": is_filed & (results.c.label == "sad"),
        "unsure": is_filed & (results.c.label == "unsure"),
        "failed": results.c.state == State.FAILED.value,
        "corrected": results.c.corrected_label.is_not(None),
        "agreeing": results.c.corrected_label == results.c.label,
    }
    counts = [_number(condition).label(name) for name, condition in conditions.items()]
    return [sa.func.count().label("images"), *counts]


def _merged(parts: Iterable[Group]) -> list[Group]:
    """One group for each key."""
    whole: dict[str, Group] = {}
    for part in parts:
        known = whole.get(part.key, Group(part.key))
        sums = {
            field.name: getattr(known, field.name) + getattr(part, field.name)
            for field in fields(Group)
            if field.name != "key"
        }
        whole[part.key] = replace(known, **sums)
    return list(whole.values())


def _counts(connection: sa.Connection, column: Any, *where: Any) -> dict[str, int]:
    rows = connection.execute(
        sa.select(column, sa.func.count()).where(*where).group_by(column).order_by(column)
    )
    return {str(value): count for value, count in rows}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
