"""The services that work on one database, each with a sign of life by which others know it.

    enlist -> beat -> beat … -> leave        bury, where the signs have ceased

Images are claimed by the id of a service. One whose row is gone has lost its claims with it: they
are anybody's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from db import postgresql
from db.schema import Service
from db.terms import Process
from db.text import printable
from db.transactions import transaction

UNSYNCHRONIZED: dict[str, Any] = {"synchronize_session": False}


@dataclass(frozen=True)
class Enlisted:
    """A service as the database knows it.

    `beat_at` is its last sign of life, `age` the seconds since then, both by the server's clock.
    After `lease_seconds` without one its claims are anybody's.
    """

    id: int
    who: Process
    beat_at: datetime
    lease_seconds: float
    age: float


class Services:
    """Through an engine made by `db.engine.open_for_writing`.

    Every method raises LedgerUnavailable where the database does not take it now.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def enlist(self, who: Process, inbox: Path, lease_seconds: float) -> int:
        """The id of a service that begins to work on an inbox."""
        with transaction(self._engine) as session:
            row = Service(
                **vars(who),
                inbox=printable(inbox),
                started_at=datetime.now(UTC),
                beat_at=sa.func.now(),
                lease_seconds=lease_seconds,
            )
            session.add(row)
            session.flush()
            return row.id

    def beat(self, id: int) -> bool:
        """Give a sign of life; False if others have buried this service."""
        with transaction(self._engine) as session:
            change = sa.update(Service).where(Service.id == id).values(beat_at=sa.func.now())
            return _hits(session.execute(change, execution_options=UNSYNCHRONIZED))

    def others(self, id: int | None, inbox: Path) -> list[Enlisted]:
        """The other services that work on an inbox, or did."""
        with transaction(self._engine) as session:
            here = Service.inbox == printable(inbox)
            return [one for one in _enlisted(session, here) if one.id != id]

    def bury(self, other: Enlisted) -> bool:
        """Let its claims be anybody's; False if it has given a sign of life since, or is gone."""
        with transaction(self._engine) as session:
            change = sa.delete(Service).where(
                Service.id == other.id, Service.beat_at == other.beat_at
            )
            return _hits(session.execute(change, execution_options=UNSYNCHRONIZED))

    def end_paused(self) -> None:
        """Let nothing be locked any more by a service that is paused amid a transaction."""
        if self._engine.dialect.name == "postgresql":
            with transaction(self._engine) as session:
                postgresql.end_paused(session)

    def leave(self, id: int) -> None:
        """The service ends; what it has claimed and not finished is anybody's."""
        with transaction(self._engine) as session:
            change = sa.delete(Service).where(Service.id == id)
            session.execute(change, execution_options=UNSYNCHRONIZED)


def enlisted(engine: sa.Engine) -> list[Enlisted]:
    """All services, for those who only read."""
    with transaction(engine) as session:
        return _enlisted(session, sa.true())


def _enlisted(session: Any, where: sa.ColumnElement[bool]) -> list[Enlisted]:
    rows = session.execute(sa.select(Service, sa.func.now()).where(where).order_by(Service.id))
    return [
        Enlisted(
            id=row.id,
            who=Process(row.host, row.pid, row.process),
            beat_at=row.beat_at,
            lease_seconds=row.lease_seconds,
            age=(now - row.beat_at).total_seconds(),
        )
        for row, now in rows
    ]


def _hits(result: Any) -> bool:
    return bool(result.rowcount)
