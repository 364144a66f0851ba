"""An inbox folder -> its settled files, each once.

Events of the file system are hints; a scan of the folder is the truth.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
)

from daemon import descent
from daemon.errors import ServiceError
from daemon.filing import OWN_PREFIX
from daemon.life import Life
from daemon.settling import SettledFile, SettleTracker
from daemon.walking import Found, walk
from daemon.watching import Watch, can_watch_more

log = logging.getLogger(__name__)

IGNORED_PREFIXES = (".", "~")
IGNORED_SUFFIXES = (".part", ".tmp", ".crdownload")
"""Names under which programs write what is not finished yet."""

MOST_TRACKED = 4096
"""Files that are observed at a time; a scan goes on when there is room again."""

MOST_HINTS = 100_000
"""Events that may wait; of more than that the next scan takes care."""

BURST = 1000
"""After this many events a quiet moment is used to scan: the kernel may have dropped some."""

MOST_REMEMBERED = 10_000
"""Refused paths that are remembered, so that each is reported once."""

POLL_SECONDS = 2.0
"""How often the folder is scanned where it is not watched."""

SCANNED_AT_ONCE = 256
"""Directory entries looked at before events get their turn."""

MOST_SETTLED = 256
"""Settled files that wait to be claimed."""

FULL_SECONDS = 0.05
"""How soon to look again whether more of them may wait; that is less than a batch takes."""


@dataclass(frozen=True)
class _Seen:
    """A hint: something happened to this path."""

    path: Path
    ended: bool
    folder: bool


@dataclass(frozen=True)
class _Done:
    """The pipeline is done with these paths; `again`: the files are still to be taken."""

    paths: Sequence[Path]
    again: bool


class Inbox:
    """Watches and scans a folder on a thread of its own and hands out settled files.

    Each file handed out is in flight until `done` is called for it. With `once`, the thread ends
    when all files that lay there at the start have been handed out and are done.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settle_seconds: float,
        rescan_seconds: float,
        recursive: bool,
        poll: bool = False,
        once: bool = False,
    ) -> None:
        self.folder = folder
        self.settled: queue.SimpleQueue[SettledFile] = queue.SimpleQueue()
        self.drained = threading.Event()
        self._life = Life()
        self._rescan_seconds = rescan_seconds
        self._recursive = recursive
        self._watching = not (poll or once)
        self._once = once
        self._tracker = SettleTracker(settle_seconds)
        self._news: queue.SimpleQueue[_Seen | _Done] = queue.SimpleQueue()
        self._in_flight: dict[Path, bool] = {}
        self._reported: set[Path] = set()
        self._scans: deque[Iterator[Found]] = deque()
        self._missing = False
        self._overflown = False
        self._events = 0
        self._next_scan = 0.0
        self._loss_is_told = False
        self._watch: Watch | None = None
        self._first_place = self._place()
        self._next_look = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inbox")
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Begin: first the watch, then the scan, so that nothing falls between them."""
        if self._watching:
            self._begin_watch()
        self._thread.start()

    def stop(self) -> None:
        """End the watch and the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._end_watch()

    def adjust(self, *, settle_seconds: float, rescan_seconds: float) -> None:
        """Use other times from now on; may be called from any thread."""
        self._tracker.settle_seconds = settle_seconds
        self._rescan_seconds = rescan_seconds

    @property
    def depths(self) -> dict[str, int]:
        """Files that are watched until they are finished, that are finished, that are in work."""
        finished = self.settled.qsize()
        return {
            "unfinished": len(self._tracker),
            "finished": finished,
            "in_work": max(0, len(self._in_flight) - finished),
        }

    @property
    def silence(self) -> float:
        """Seconds for which the thread, if it should work, has given no sign of life."""
        return self._life.silence if self._thread.is_alive() else 0.0

    def done(self, *paths: Path, again: bool = False) -> None:
        """Files handed out are dealt with; `again`: still here and to be taken once more."""
        if paths:
            self._news.put(_Done(paths, again))

    def look(self) -> None:
        """Look through the folder again: there may be files that others had in work."""
        self._next_scan = 0.0

    def seen(self, path: Path, *, ended: bool = False, folder: bool = False) -> None:
        """A hint from the watch."""
        if self._news.qsize() < MOST_HINTS:
            self._news.put(_Seen(path, ended, folder))
        else:
            self._lose_hints()

    def leave_alone(self, path: Path, reason: str) -> None:
        """Say once that a file is not to be filed; it stays where it is."""
        if path in self._reported:
            return
        if len(self._reported) < MOST_REMEMBERED:
            self._reported.add(path)
        log.warning("left alone: %s", reason, extra={"file": path})

    def _run(self) -> None:
        try:
            self._scan_soon()
            while not self._stopping.is_set():
                self._life.beat()
                news = self._news_after(self._pause())
                with descent.keeping():
                    for one in news:
                        self._take(one)
                    self._scan_some()
                    self._hand_out()
                if self._once and self._is_drained():
                    break
        except ServiceError as error:
            self.failure = error
        except BaseException as error:
            log.exception("the inbox thread failed")
            self.failure = error
        finally:
            self.drained.set()

    def _pause(self) -> float:
        """Seconds until there is something to do without news."""
        now = time.monotonic()
        if self._scans and len(self._tracker) < MOST_TRACKED:
            return 0.0
        due = self._tracker.next_due()
        if due is not None and not self._room():
            due = max(due, now + FULL_SECONDS)
        upcoming = self._next_scan if due is None else min(due, self._next_scan)
        return min(max(0.0, upcoming - now), 0.5)

    def _news_after(self, wait: float) -> list[_Seen | _Done]:
        """What has come when the first has, or after `wait` seconds."""
        news: list[_Seen | _Done] = []
        with contextlib.suppress(queue.Empty):
            news.append(self._news.get(timeout=wait) if wait else self._news.get_nowait())
            while len(news) <= MOST_TRACKED:
                news.append(self._news.get_nowait())
        return news

    def _take(self, news: _Seen | _Done) -> None:
        if isinstance(news, _Done):
            for path in news.paths:
                seen_again = self._in_flight.pop(path, False)
                if news.again or seen_again:
                    self._tracker.note(path)
            return
        if news.path.name.startswith(OWN_PREFIX):
            return
        self._events += 1
        if not news.path.is_relative_to(self.folder) or any(
            is_ignored(part) for part in news.path.relative_to(self.folder).parts
        ):
            return
        if news.folder:
            if self._recursive:
                self._scans.append(self._walk(news.path))
        else:
            self._note(news.path, ended=news.ended)

    def _note(self, path: Path, *, ended: bool = False) -> None:
        if path in self._in_flight:
            self._in_flight[path] = True
        elif not self._tracker.note(path, ended=ended):
            self._refuse(path)

    def _refuse(self, path: Path) -> None:
        """Links and special files are never opened."""
        if os.path.lexists(path):
            is_link = path.is_symlink()
            self.leave_alone(path, "it is a symbolic link" if is_link else "it is no regular file")

    def _scan_soon(self) -> None:
        self._scans = deque([self._walk(self.folder)])
        self._events = 0
        self._overflown = False
        period = self._rescan_seconds if self._watching else POLL_SECONDS
        self._next_scan = time.monotonic() + (float("inf") if self._once else period)

    def _scan_some(self) -> None:
        """Go on with the scan under way, as far as there is room to observe files."""
        if not self._scans and (self._is_back() or self._scan_is_due()):
            self._scan_soon()
        for _ in range(SCANNED_AT_ONCE):
            if not self._scans or len(self._tracker) >= MOST_TRACKED:
                return
            found = next(self._scans[0], None)
            if found is None:
                self._scans.popleft()
                self._poll_unless_all_is_watched()
            else:
                self._note(found.path)

    def _scan_is_due(self) -> bool:
        quiet = not self._tracker and not self._in_flight
        lossy = self._overflown or self._events >= BURST
        return time.monotonic() >= self._next_scan or (quiet and lossy)

    def _hand_out(self) -> None:
        for file in islice(self._tracker.settled(), self._room()):
            self._in_flight[file.path] = False
            self.settled.put(file)

    def _room(self) -> int:
        return max(0, MOST_SETTLED - self.settled.qsize())

    def _is_drained(self) -> bool:
        return not (self._scans or self._tracker or self._in_flight)

    def _walk(self, folder: Path) -> Iterator[Found]:
        return walk(
            folder,
            recursive=self._recursive,
            skip=is_ignored,
            on_error=self._report_unlistable,
        )

    def _report_unlistable(self, folder: Path, error: OSError) -> None:
        if not folder.exists():
            return  # It was moved away in the meantime; the inbox itself is looked after.
        if folder not in self._reported:
            self._reported.add(folder)
            log.error("cannot list the folder: %s", error.strerror, extra={"file": folder})

    def _begin_watch(self) -> None:
        try:
            self._watch = Watch(
                self.folder,
                recursive=self._recursive,
                on_event=self._take_hint,
                on_loss=self._lose_hints,
            )
        except OSError as error:
            self._poll_instead(error.strerror)

    def _end_watch(self) -> None:
        if self._watch:
            self._watch.stop()
            self._watch = None

    def _poll_instead(self, reason: str | None) -> None:
        self._end_watch()
        self._watching = False
        self._next_scan = min(self._next_scan, time.monotonic() + POLL_SECONDS)
        log.warning(
            "cannot watch the inbox (%s); looking through it every %g s instead",
            reason,
            POLL_SECONDS,
        )

    def _poll_unless_all_is_watched(self) -> None:
        """After a look at folders, some of which may be new."""
        if self._watch and self._recursive and not can_watch_more(self.folder):
            self._poll_instead("the kernel watches no more folders: fs.inotify.max_user_watches")

    def _take_hint(self, event: FileSystemEvent) -> None:
        """Called on a thread of the watch."""
        if isinstance(event, DirCreatedEvent):
            self.seen(_path(event.src_path), folder=True)
        elif isinstance(event, DirMovedEvent) and event.dest_path:
            self.seen(_path(event.dest_path), folder=True)
        elif isinstance(event, FileCreatedEvent):
            self.seen(_path(event.src_path))
        elif isinstance(event, FileClosedEvent):
            self.seen(_path(event.src_path), ended=True)
        elif isinstance(event, FileMovedEvent) and event.dest_path:
            self.seen(_path(event.dest_path), ended=True)

    def _lose_hints(self) -> None:
        """Called on a thread of the watch, when there are too many to keep."""
        self._overflown = True
        if not self._loss_is_told:
            self._loss_is_told = True
            log.warning("more happens in the inbox than can be watched; looking through it as well")

    def _is_back(self) -> bool:
        """Whether the folder, which was missing, has come back, as with a disk; then watch it anew.

        Raises:
            ServiceError: another folder has taken its place, without the lock.
        """
        if time.monotonic() < self._next_look:
            return False
        self._next_look = time.monotonic() + POLL_SECONDS
        found = self._place()
        if found is None:
            if not self._missing:
                log.error("the inbox is missing, waiting for it", extra={"file": self.folder})
            self._missing = True
            return False
        if found != self._first_place:
            raise ServiceError(f"The inbox {self.folder} was replaced by another folder.")
        was_missing, self._missing = self._missing, False
        if was_missing and self._watching:
            self._end_watch()
            self._begin_watch()
        return was_missing

    def _place(self) -> tuple[int, int] | None:
        """What tells the folder from another of the same name."""
        try:
            found = self.folder.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


def _path(name: bytes | str) -> Path:
    return Path(os.fsdecode(name))


def is_ignored(name: str) -> bool:
    """Whether programs write what is not finished yet under such a name."""
    return name.startswith(IGNORED_PREFIXES) or name.lower().endswith(IGNORED_SUFFIXES)


def count_files(folder: Path, *, recursive: bool, most_seconds: float) -> int | None:
    """Files in an inbox that are to be taken; None where counting takes longer than that."""
    end = time.monotonic() + most_seconds
    total = 0
    for found in walk(folder.resolve(), recursive=recursive, skip=is_ignored):
        total += found.regular
        if time.monotonic() > end:
            return None
    return total
