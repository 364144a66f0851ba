"""Waiting for what happens elsewhere: asks, never guesses how long it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

PATIENCE = 60.0


def wait_until(
    condition: Callable[[], Any], what: str, timeout: float = PATIENCE, *, every: float = 0.02
) -> Any:
    """Wait for a true answer and give it back; the limit is for tests that would hang.

    It is asked for every so many seconds: rarely where asking takes much itself.
    """
    pause = threading.Event()
    end = time.monotonic() + timeout
    while not (answer := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout:.0f} s in vain until {what}")
        pause.wait(every)
    return answer
