"""Folders -> what is moved, removed or written in them, without a look at what lies there.

The observers of watchdog list all that is in a folder before they watch it, and hold the names;
where millions of files lie, that is too much. Here each folder is named by who wants it watched.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
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
    InotifyConstants.IN_MOVE
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_CREATE
    | InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_DONT_FOLLOW
)


@dataclass(frozen=True)
class Touched:
    """Something happened to this path, which is or was a folder, or not."""

    path: Path
    folder: bool


class FolderWatch:
    """Tells of what happens in folders, on a thread of its own; not of what lies deeper.

    `tell` is called with None where events were lost. That a file is linked into a folder, as the
    service does it, is not told; nor is anything about hidden names.
    """

    def __init__(self, tell: Callable[[Touched | None], None]) -> None:
        self._tell = tell
        self._id = CallbackId(id(self))
        self._lock = threading.Lock()
        self._paths: dict[WatchDescriptor, Path] = {}
        self._notifier = InotifyFD()
        self._notifier.start()

    def close(self) -> None:
        """Watch nothing any more."""
        self._notifier.stop()
        self._notifier.join()

    def add(self, folder: Path) -> None:
        """Watch a folder, if it is not watched yet.

        Raises:
            OSError: it is gone, or there may be no more watches.
        """
        if folder not in self._watched():
            added = self._notifier.add_callback(os.fsencode(folder), EVENTS, self, self._id)
            with self._lock:
                self._paths[added] = folder

    def forget(self, folder: Path) -> None:
        """Watch a folder and those below it no longer: they are elsewhere, or gone."""
        with self._lock:
            below = [wd for wd, path in self._paths.items() if path.is_relative_to(folder)]
            for wd in below:
                del self._paths[wd]
        self._notifier.remove_callbacks([(wd, self._id) for wd in below])

    def on_event(self, event: InotifyEvent) -> None:
        """Called by watchdog."""
        with self._lock:
            folder = self._paths.get(event.wd)
        if folder is None or not event.name or event.name.startswith(b"."):
            return
        path = folder / os.fsdecode(event.name)
        is_folder = bool(event.mask & InotifyConstants.IN_ISDIR)
        if is_folder and (event.is_moved_from or event.is_delete):
            self.forget(path)
        if is_folder or not event.is_create:
            self._tell(Touched(path, is_folder))

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """Called by watchdog: the folder is gone."""
        with self._lock:
            self._paths.pop(wd, None)

    def on_queue_overflow(self) -> None:
        """Called by watchdog."""
        self._tell(None)

    def _watched(self) -> set[Path]:
        with self._lock:
            return set(self._paths.values())
