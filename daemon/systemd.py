"""What systemd is told, and what it allows: sd_notify(3), sd_watchdog_enabled(3).

Without systemd, nobody is told and nothing is asked for.
"""

from __future__ import annotations

import os
import time
from collections.abc import MutableMapping

from sdnotify import SystemdNotifier

SOCKET = "NOTIFY_SOCKET"
"""The variable that says where to tell it."""

MOST_SILENCE = 180.0
"""Seconds after which a thread without a sign of life hangs, where systemd has no other view.

An answer of a reader may take two minutes: see `daemon.reading`.
"""

FEED_SECONDS = 1.0
"""How often the watchdog is fed at most."""

EXTENSION_SECONDS = 30.0
"""What is asked for while a start or a stop that goes on takes long."""


class Manager:
    """The one who started this process."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """The socket is taken out of the environment: it is not for processes that are started."""
        self._notifier = SystemdNotifier() if environ.get(SOCKET) else None
        environ.pop(SOCKET, None)
        watchdog = _watchdog_seconds(environ)
        self.most_silence = watchdog or MOST_SILENCE
        self.feed_seconds = min(FEED_SECONDS, self.most_silence / 4)

    def ready(self) -> None:
        """It has started, or is done with a reload."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """It reads its settings again; `ready` tells the end."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """It ends."""
        self._tell("STOPPING=1")

    def still_at_it(self) -> None:
        """It starts or stops, and goes on with that."""
        self._tell(f"EXTEND_TIMEOUT_USEC={int(EXTENSION_SECONDS * 1e6)}")

    def feed(self) -> None:
        """It goes on."""
        self._tell("WATCHDOG=1")

    def status(self, text: str) -> None:
        """A line for `systemctl status`; the library takes none but ASCII for sure."""
        self._tell(f"STATUS={ascii(text)[1:-1]}")

    def close(self) -> None:
        """Tell nothing more."""
        if self._notifier and self._notifier.socket:
            self._notifier.socket.close()
        self._notifier = None

    def _tell(self, *lines: str) -> None:
        if self._notifier:
            self._notifier.notify("\n".join(lines))


def _watchdog_seconds(environ: MutableMapping[str, str]) -> float | None:
    """How soon systemd misses a sign of life; None: it waits for none from this process."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        return int(environ.get("WATCHDOG_USEC", "0")) / 1e6 or None
    except ValueError:
        return None
