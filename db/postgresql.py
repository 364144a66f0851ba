"""What is particular to PostgreSQL: a server that may be away, and is shared with others."""

from __future__ import annotations

import re

import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.errors import LedgerError

PATIENCE = {
    "connect_timeout": "5",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""How long libpq waits for a server: in seconds, the last in milliseconds.

A server that has vanished from the network is noticed in half a minute, not in hours.
"""

APPLICATION = "moodsort"
"""How sessions name themselves to the server."""

PAUSED = "15s"
"""How long a session may be idle amid a transaction: a writer that is paused holds up no other."""

WRITING = {
    "lock_timeout": "2s",  # Who waits for it is to say so, and can be stopped.
    "idle_in_transaction_session_timeout": PAUSED,
}
READING = {"default_transaction_read_only": "on"}
"""Settings of a session."""

_END_PAUSED = sa.text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE pid <> pg_backend_pid() AND datname = current_database() AND usename = current_user"
    " AND application_name = :application AND xact_start IS NOT NULL AND wait_event_type = 'Client'"
    " AND state_change < clock_timestamp() - CAST(:paused AS interval)"
)

MIGRATING = 0x6D6F6F64
"""The number of the advisory lock on which those who change the schema take turns."""

REFUSALS = re.compile(
    r"password authentication failed|no password supplied|no pg_hba.conf entry"
    r"|(role|user|database) \".*\" does not exist|permission denied"
)
"""In what a server says to those whom it will not let in later, either."""


def engine(url: sa.URL, *, writing: bool) -> sa.Engine:
    """An engine that connects when it is asked; what the URL says goes before what is said here.

    Raises:
        LedgerError: the driver is not installed.
    """
    session = {"timezone": "UTC", **(WRITING if writing else READING)}
    options = " ".join(f"-c {name}={value}" for name, value in session.items())
    about = {"application_name": APPLICATION, "options": options, **PATIENCE}
    # A connection that died while nobody used it, as when the server restarts, is none to speak of.
    try:
        return sa.create_engine(url.set(query=about | dict(url.query)), pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise LedgerError(
            f"PostgreSQL needs {error.name}, which is not installed: "
            "pip install 'moodsort[postgres]'."
        ) from None


def end_paused(session: Session) -> None:
    """End other sessions of moodsort that wait for their client amid a transaction, for PAUSED.

    The server's own limit counts between queries alone, not between those of a pipeline, as the
    driver sends several rows: what one had locked that was paused there stayed so.
    """
    session.execute(_END_PAUSED, {"application": APPLICATION, "paused": PAUSED})


def take_turn(connection: sa.Connection) -> None:
    """Wait, until the end of the transaction, for others who change the schema."""
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATING)))
