"""What people and systemd ask of the service with signals."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def heeded(stop: threading.Event, reload: threading.Event | None) -> Iterator[None]:
    """Let SIGINT and SIGTERM set `stop`; a second one ends the process at once.

    SIGHUP sets `reload`; where there is none, as where it means that a terminal is gone, `stop`.
    """

    def ask_to_stop(number: int, frame: object) -> None:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    def ask_to_reload(number: int, frame: object) -> None:
        assert reload is not None
        reload.set()

    handlers = {
        signal.SIGINT: ask_to_stop,
        signal.SIGTERM: ask_to_stop,
        signal.SIGHUP: ask_to_stop if reload is None else ask_to_reload,
    }
    before = {
        number: signal.signal(number, handler)
        for number, handler in handlers.items()
        if signal.getsignal(number) is not signal.SIG_IGN  # as nohup has it
    }
    # A writer that opens a file while its lease is asked for makes the kernel send this.
    before[signal.SIGIO] = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
