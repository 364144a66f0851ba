"""An inbox folder -> its settled files, each once.

Events of the file system are hints; a scan of the folder is the truth.
"""

from __future__ import annotations

import contextlib
import errno
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

from daemon import descent
from daemon.errors import ServiceError
from daemon.life import Life
from daemon.settling import SettledFile, SettleTracker
from daemon.walking import Found, walk
from daemon.watching import Change, FolderWatch, Touched

log = logging.getLogger(__name__)

IGNORED_PREFIXES = (".", "~")
IGNORED_SUFFIXES = (".part", ".tmp", ".crdownload")
"""Names under which programs write what is not finished yet."""

MOST_TRACKED = 4096
"""Files that are observed at a time; a scan goes on when there is room again."""

MOST_HINTS = 100_000
"""Events that may wait; of more than that the next scan takes care."""

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
        self._news: queue.SimpleQueue[Touched | _Done] = queue.SimpleQueue()
        self._in_flight: dict[Path, bool] = {}
        self._reported: set[Path] = set()
        self._scans: deque[Iterator[Found]] = deque()
        self._missing = False
        self._overflown = False
        self._next_scan = 0.0
        self._loss_is_told = False
        self._watch: FolderWatch | None = None
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

    def _news_after(self, wait: float) -> list[Touched | _Done]:
        """What has come when the first has, or after `wait` seconds."""
        news: list[Touched | _Done] = []
        with contextlib.suppress(queue.Empty):
            news.append(self._news.get(timeout=wait) if wait else self._news.get_nowait())
            while len(news) <= MOST_TRACKED:
                news.append(self._news.get_nowait())
        return news

    def _take(self, news: Touched | _Done) -> None:
        if isinstance(news, _Done):
            for path in news.paths:
                seen_again = self._in_flight.pop(path, False)
                if news.again or seen_again:
                    self._tracker.note(path)
        elif not news.folder:
            self._note(news.path, ended=news.change is not Change.MADE)
        elif self._recursive:
            self._scans.append(self._walk(news.path))

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
            else:
                self._note(found.path)

    def _scan_is_due(self) -> bool:
        quiet = not self._tracker and not self._in_flight
        return time.monotonic() >= self._next_scan or (quiet and self._overflown)

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
            on_folder=self._watch_too,
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
            self._watch = FolderWatch(self._take_hint)
        except OSError as error:
            self._poll_instead(error.strerror)
        self._watch_too(self.folder)

    def _watch_too(self, folder: Path) -> None:
        """Before a folder is listed, so that nothing falls between."""
        if not self._watch:
            return
        try:
            self._watch.add(folder)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            pass  # It is moved or removed; or it will be told that it cannot be listed.
        except OSError as error:
            self._poll_instead(
                "the kernel watches no more folders: fs.inotify.max_user_watches"
                if error.errno == errno.ENOSPC
                else error.strerror
            )

    def _end_watch(self) -> None:
        if self._watch:
            self._watch.close()
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

    def _take_hint(self, touched: Touched | None) -> None:
        """Called on the thread of the watch."""
        if touched is None or self._news.qsize() >= MOST_HINTS:
            self._lose_hints()
        elif touched.change is not Change.GONE and not is_ignored(touched.path.name):
            self._news.put(touched)

    def _lose_hints(self) -> None:
        """When there are too many to keep."""
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
