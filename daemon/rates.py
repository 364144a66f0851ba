"""Images a second, over the last minutes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

LONGEST_SECONDS = 15 * 60


class Rates:
    """Keeps how many images were done, each time that it is told."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, done: int = 0) -> None:
        """`done` are those of before, which do not count."""
        self._clock = clock
        self._noted = deque([(clock(), done)])

    def note(self, done: int) -> None:
        """So many are done by now."""
        now = self._clock()
        self._noted.append((now, done))
        while now - self._noted[1][0] >= LONGEST_SECONDS:
            self._noted.popleft()

    def over(self, seconds: float) -> float:
        """Images a second in the last so many seconds, or since the start if that is shorter."""
        now, done = self._noted[-1]
        since, before = next(one for one in self._noted if now - one[0] <= seconds)
        return (done - before) / max(1e-3, now - since)
