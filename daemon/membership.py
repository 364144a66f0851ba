"""Several services on one inbox, through one database that many may share.

Each has a row of its own, and gives a sign of life there as long as it goes on. Whoever sees no
sign of another for the time of its lease takes it for dead: the row is buried, and with it what
the dead one had claimed becomes anybody's. One that was only paused finds its row gone when it next
asks the database, which it does before each step, and ends.

Time is measured by who looks, from one sign to the next: what clocks say does not matter, and after
the database was away for all, everybody is given a whole lease anew.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from daemon import process, status
from db.errors import ClaimsLost, LedgerUnavailable
from db.services import Enlisted, Services

log = logging.getLogger(__name__)

BEATS = 6
"""Signs of life in the time of a lease."""


class Membership:
    """Gives signs of life and looks at the others, on a thread of its own."""

    def __init__(
        self,
        engine: sa.Engine,
        inbox: Path,
        *,
        lease_seconds: float,
        goes_on: Callable[[], bool],
        on_loss: Callable[[], None],
    ) -> None:
        """`goes_on`: whether to give a sign of life; `on_loss` is told that another has ended.

        Raises:
            LedgerUnavailable: the database does not take it now.
        """
        self._services = Services(engine)
        self._inbox = inbox
        self.pause = lease_seconds / BEATS
        self._goes_on = goes_on
        self._on_loss = on_loss
        self._others: set[int] = set()
        self._signs: dict[int, tuple[datetime, float]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="membership")
        self.failure: BaseException | None = None
        self.id = self._services.enlist(process.current(), inbox, lease_seconds)
        self._look()  # What is gone for certain is buried at once.

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and leave what is unfinished to the others, or to the next start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        with contextlib.suppress(LedgerUnavailable):  # Then its row is buried later.
            self._services.leave(self.id)

    def _run(self) -> None:
        try:
            while not self._stopping.wait(self.pause):
                self._beat_and_look()
        except BaseException as error:
            self.failure = error

    def _beat_and_look(self) -> None:
        try:
            if self._goes_on() and not self._services.beat(self.id):
                raise ClaimsLost
            self._look()
        except LedgerUnavailable:
            self._signs.clear()  # The others may not have reached it, either.

    def _look(self) -> None:
        others = self._services.others(self.id, self._inbox)
        buried = {one.id for one in others if self._is_dead(one) and self._bury(one)}
        left = {one.id for one in others} - buried
        if self._others - left:
            self._on_loss()
        self._others = left

    def _is_dead(self, other: Enlisted) -> bool:
        if process.is_gone(other.who):
            return True
        now = time.monotonic()
        sign, since = self._signs.get(other.id, (None, now))
        if sign != other.beat_at:
            self._signs[other.id] = other.beat_at, now
            return False
        return now - since > other.lease_seconds

    def _bury(self, other: Enlisted) -> bool:
        try:
            if not self._services.bury(other):
                return False
        except LedgerUnavailable:  # It is amid a transaction, which is ended in time.
            self._services.end_paused()
            return False
        about = {"host": other.who.host, "pid": other.who.pid}
        log.warning("another service is gone, taking over what it had claimed", extra=about)
        status.remove(self._inbox / status.file_of(other.who))
        return True
