"""One transaction; what goes wrong in it is told as one of this package's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.exc import (
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.orm import Session

from db.errors import LedgerConflict, LedgerError, LedgerUnavailable, said

PASSING = (OperationalError, InterfaceError, InternalError)
"""It is locked, full or away; or, the last, a standby server that is yet to be promoted."""


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[Session]:
    """All of it is recorded at the end, or nothing.

    Raises:
        LedgerUnavailable: the database does not take it now.
        LedgerError: the database is damaged, or another file has taken its place.
    """
    try:
        with Session(engine) as session, session.begin():
            yield session
    except IntegrityError as error:
        raise LedgerConflict(f"The database does not take it: {said(error)}") from error
    except PASSING as error:
        raise LedgerUnavailable(f"The database does not take it: {said(error)}") from error
    except SQLAlchemyError as error:
        raise LedgerError(
            f"The database has become unusable: {said(error)}. If it is damaged, move it aside and "
            "restore a copy. Start again, and then ask moodsort doctor what differs."
        ) from error
