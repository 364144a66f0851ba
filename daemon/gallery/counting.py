"""The counts that pages show, which many may ask for often."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from db.statistics import Tally

LEAST_SECONDS = 1.0
SHARE = 0.05
"""Of the time, at most, counting goes on: the more images there are, the more seldom."""


class Counter:
    """Counts anew when it is time to; asked by any thread."""

    def __init__(self, count: Callable[[], Tally]) -> None:
        self._count = count
        self._lock = threading.Lock()
        self._tally: Tally | None = None
        self._good_until = 0.0

    def tally(self) -> Tally:
        """The counts of a moment ago; raises what counting raises."""
        with self._lock:
            if self._tally is None or time.monotonic() >= self._good_until:
                since = time.monotonic()
                self._tally = self._count()
                now = time.monotonic()
                self._good_until = now + max(LEAST_SECONDS, (now - since) / SHARE)
            return self._tally

    def expire(self) -> None:
        """Something was changed that whoever changed it wants to see counted."""
        self._good_until = 0.0
