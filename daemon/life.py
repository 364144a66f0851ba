"""Signs of life: how the service tells a thread that hangs from one that waits by choice."""

from __future__ import annotations

import threading
import time

REST_SECONDS = 0.2
"""How often a thread that waits by choice says so."""


class Life:
    """Of one thread; may be read from any other.

    A thread gives a sign at each step, and again and again while it waits by choice. `trouble` is
    what it waits for without being able to change it, such as a full disk.
    """

    def __init__(self) -> None:
        self._last = time.monotonic()
        self.trouble: str | None = None

    def beat(self) -> None:
        """Give a sign."""
        self._last = time.monotonic()

    @property
    def silence(self) -> float:
        """Seconds since the last sign."""
        return time.monotonic() - self._last

    def rest(self, seconds: float, until: threading.Event) -> bool:
        """Wait for so long by choice; True as soon as `until` is set."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.beat()
            if until.wait(min(left, REST_SECONDS)):
                return True
        return until.is_set()
