"""A folder is watched by the kernel; and what the watch misses, without saying so, is found out."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileClosedEvent,
    FileMovedEvent,
    DirCreatedEvent,
    DirMovedEvent,
]
"""What the kernel is asked for; reading and removing files by the service itself is not in it."""

IN_CREATE = 0x100
"""For inotify_add_watch(2), which Python does not offer."""

LOGGERS = ("watchdog.observers.inotify", "watchdog.observers.inotify_c")
"""Where watchdog tells that the kernel dropped events, and nowhere else."""


class Watch:
    """Watches a folder until it is stopped.

    `on_event` is called with each event, `on_loss` when the kernel had too many of them to keep,
    both on threads of watchdog's.

    Raises:
        OSError: it cannot be watched.
    """

    def __init__(
        self,
        folder: Path,
        *,
        recursive: bool,
        on_event: Callable[[FileSystemEvent], None],
        on_loss: Callable[[], None],
    ) -> None:
        self._observer = _observer()
        self._losses = _Losses(on_loss)
        try:
            self._observer.schedule(
                _Handler(on_event), str(folder), recursive=recursive, event_filter=EVENTS
            )
            self._observer.start()
        except OSError:
            self._observer.stop()
            raise
        for name in LOGGERS:
            logging.getLogger(name).addFilter(self._losses)

    def stop(self) -> None:
        """End it, and its threads."""
        for name in LOGGERS:
            logging.getLogger(name).removeFilter(self._losses)
        self._observer.stop()
        self._observer.join()


def can_watch_more(folder: Path) -> bool:
    """Whether the kernel would watch one more folder, such as this: watchdog passes over others."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_CLOEXEC)
    if descriptor < 0:
        return True  # There are too many watchers, which says nothing of what they watch.
    try:
        watch = libc.inotify_add_watch(descriptor, os.fsencode(folder), IN_CREATE)
        return watch >= 0 or ctypes.get_errno() != errno.ENOSPC
    finally:
        os.close(descriptor)


def _observer() -> Any:
    """An observer that tells a file moved in from one that was made and is still empty."""
    make: Any = Observer  # which differs from system to system
    try:
        return make(generate_full_events=True)
    except TypeError:  # Only the one for inotify knows the option.
        return make()


class _Handler(FileSystemEventHandler):
    def __init__(self, on_event: Callable[[FileSystemEvent], None]) -> None:
        self._on_event = on_event

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Called on the observer's thread."""
        self._on_event(event)


class _Losses(logging.Filter):
    """Takes what watchdog says of dropped events, which may be often, out of the log."""

    def __init__(self, on_loss: Callable[[], None]) -> None:
        super().__init__()
        self._on_loss = on_loss

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is to be logged."""
        if "overflow" not in record.getMessage():
            return True
        self._on_loss()
        return False
