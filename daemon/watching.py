"""Folders -> what is made, moved, written and removed in them.

The observers of watchdog list all that is in a folder before they watch it, hold the names, and
pair the two ends of each move; where millions of files lie or come, that is too much. Here each
folder is named by who wants it watched, on what watchdog builds its observers for Linux on.
"""

from __future__ import annotations

import enum
import errno
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchDescriptor,
)

EVENTS = Mask(
    InotifyConstants.IN_CREATE
    | InotifyConstants.IN_MOVE
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_DONT_FOLLOW
)
"""What the kernel is asked for."""

REMOVALS = Mask(InotifyConstants.IN_DELETE)

OVERFLOW_LOGGER = "watchdog.observers.inotify_c"
"""Where watchdog tells that the kernel dropped events, beside telling who watches."""

logging.getLogger(OVERFLOW_LOGGER).addFilter(lambda record: "overflow" not in record.getMessage())


class Change(enum.Enum):
    """What happened to a path."""

    MADE = "made"
    CAME = "came"
    WRITTEN = "written"
    GONE = "gone"


@dataclass(frozen=True)
class Touched:
    """Something happened to this path, which is or was a folder, or not."""

    path: Path
    folder: bool
    change: Change


class FolderWatch:
    """Tells of what happens in folders, on a thread of its own; not of what lies deeper.

    `tell` is called with None where events were lost. Nothing is told about hidden names, nor, but
    with `removals`, about what is removed.
    """

    def __init__(
        self,
        tell: Callable[[Touched | None], None],
        *,
        removals: bool = False,
        pause: float = 0.0,
    ) -> None:
        """Watch nothing yet.

        What happens within `pause` seconds after something else waits, to be told with the rest.

        Raises:
            OSError: there may be no more watches.
        """
        self._tell = tell
        self._events = Mask(EVENTS | REMOVALS) if removals else EVENTS
        self._ids = map(CallbackId, count())
        self._lock = threading.Lock()
        self._folders: dict[WatchDescriptor, Path] = {}
        self._watches: dict[Path, tuple[WatchDescriptor, CallbackId]] = {}
        self._notifier = _Notifier(pause)
        self._notifier.start()

    def close(self) -> None:
        """Watch nothing any more."""
        self._notifier.stop()
        self._notifier.join()

    def add(self, folder: Path) -> None:
        """Watch a folder, if it is not watched yet.

        Raises:
            OSError: it is gone, may not be read, or (ENOSPC) there may be no more watches.
        """
        with self._lock:  # An event that comes at once waits until it is known whose it is.
            if folder in self._watches:
                return
            id = next(self._ids)
            added = self._notifier.add_callback(os.fsencode(folder), self._events, self, id)
            if added < 0:  # Of this alone watchdog says nothing.
                self._notifier.remove_callbacks([(added, id)])
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
            if before := self._folders.get(added):  # It was renamed, which is yet to be told.
                self._notifier.remove_callbacks([self._watches.pop(before)])
            self._folders[added] = folder
            self._watches[folder] = added, id

    def forget(self, folder: Path) -> None:
        """Watch a folder and those below it no longer: they are elsewhere, or gone."""
        with self._lock:
            below = [path for path in self._watches if path.is_relative_to(folder)]
            gone = [self._watches.pop(path) for path in below]
            for descriptor, _ in gone:
                del self._folders[descriptor]
        self._notifier.remove_callbacks(gone)

    def on_event(self, event: InotifyEvent) -> None:
        """Called by watchdog."""
        with self._lock:
            folder = self._folders.get(event.wd)
        if folder is None or not event.name or event.name.startswith(b"."):
            return
        touched = Touched(
            folder / os.fsdecode(event.name),
            bool(event.mask & InotifyConstants.IN_ISDIR),
            _change(event),
        )
        if touched.folder and touched.change is Change.GONE:
            self.forget(touched.path)
        self._tell(touched)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """Called by watchdog: the folder is gone."""
        with self._lock:
            if folder := self._folders.pop(wd, None):
                del self._watches[folder]

    def on_queue_overflow(self) -> None:
        """Called by watchdog."""
        self._tell(None)


class _Notifier(InotifyFD):
    """Reads what has happened at most every `pause` seconds: to wake up costs more than to read."""

    def __init__(self, pause: float) -> None:
        super().__init__()
        self._pause = pause

    def read_events(self, **options: int) -> list[InotifyEvent]:
        """What has happened."""
        self.stopped_event.wait(self._pause)
        return super().read_events(**options)


def _change(event: InotifyEvent) -> Change:
    if event.is_create:
        return Change.MADE
    if event.is_moved_to:
        return Change.CAME
    return Change.WRITTEN if event.is_close_write else Change.GONE
