"""What people do by hand to filed files: move, rename and remove them.

A file that is moved to the folder of another label is a correction. What is done is noted in the
rows, and never undone. A moved file is known by its content, among those that are missing.

At the start every filed row is compared with its file once, in the background; what happens later
is told by a watch on the folders, and costs nothing where nothing happens.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Container, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from daemon.deciding import UNSURE
from daemon.identity import content_hash
from daemon.pipeline import Folders, Stopped, persist
from daemon.settling import regular
from daemon.walking import walk
from daemon.watching import Change, FolderWatch, Touched
from db import queries
from db.chunks import chunks
from db.engine import open_for_reading
from db.ledger import Ledger, Relocation
from db.queries import Record
from db.schema import State
from db.text import is_text

log = logging.getLogger(__name__)

T = TypeVar("T")

AT_ONCE = 500
"""Files that are compared with their rows at a time."""

QUIET_SECONDS = 0.5
"""After this long without news a move is over: a file is gone here and has appeared there."""

PAUSE_SECONDS = 0.1
"""News waits so long for more: each image that is filed makes some, which is of no interest."""

MOST_TOUCHED = 10_000
"""News that are held; of more than that a look at everything takes care."""

MOST_STRANGERS = 10_000
"""Files without a row that are remembered: one may turn out to be a missing one."""

IDLE_SHARE = 4
"""A look at everything rests so many times as long as it works: photos that come go first."""


class ByHand:
    """Follows on a thread of its own what people do below the destinations."""

    def __init__(self, folders: Folders, database: str, ledger: Ledger, *, unsure: bool) -> None:
        self._folders = folders
        self._labels = {folders.happy: "happy", folders.sad: "sad"}
        if unsure:  # Else that folder may be anywhere.
            self._labels[folders.unsure] = UNSURE
        self._database = database
        self._ledger = ledger
        self._news: queue.Queue[Touched] = queue.Queue(MOST_TOUCHED)
        self._lost_news = threading.Event()
        self._strangers: dict[Path, int] = {}
        self._places: dict[Path, tuple[int, int] | None] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="by-hand")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what happens from now on is noticed at the next start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            watch = FolderWatch(self._tell, removals=True, pause=PAUSE_SECONDS)
        except OSError as error:
            log.warning("what is moved by hand is not noticed: %s", error.strerror)
            return
        engine = open_for_reading(self._database)
        try:
            self._follow(engine, watch)
        except Stopped:
            pass  # The next start looks again.
        except Exception:
            log.exception("what is moved by hand is noticed again after the next start")
        finally:
            watch.close()
            engine.dispose()

    def _tell(self, touched: Touched | None) -> None:
        if touched and touched.change is Change.MADE and not touched.folder:
            return  # That is how the service itself files an image.
        try:
            if touched is not None:
                self._news.put_nowait(touched)
                return
        except queue.Full:
            pass
        self._lost_news.set()

    def _follow(self, engine: sa.Engine, watch: FolderWatch) -> None:
        while not self._stopping.is_set():
            places = {root: _place(root) for root in self._labels}
            if places != self._places or self._lost_news.is_set():
                new = {root for root in self._labels if places[root] != self._places.get(root)}
                for root in new:
                    watch.forget(root)
                self._places = places
                self._lost_news.clear()
                self._look(engine, watch, new)
            if touched := self._touched():
                self._reckon(engine, watch, touched)

    def _touched(self) -> set[Touched]:
        """News, when there is some and then a quiet moment."""
        touched: set[Touched] = set()
        with contextlib.suppress(queue.Empty):
            while len(touched) < MOST_TOUCHED and not self._stopping.is_set():
                touched.add(self._news.get(timeout=QUIET_SECONDS))
        return touched

    def _look(self, engine: sa.Engine, watch: FolderWatch, new: Container[Path]) -> None:
        """Compare all rows with their files; then look for those that are missing elsewhere.

        A root that is `new` and empty is left out: its disk is not mounted, rather than all gone.
        """
        roots = [root for root in self._labels if self._places[root]]
        for root in roots:
            for _ in self._rested(chunks(self._walk(root, watch), AT_ONCE)):
                pass  # It is only watched: what happens from now on is told.
        looked_for = [root for root in roots if root not in new or not _is_empty(root)]
        for rows in self._rested(chunks(queries.records(engine, State.FILED), AT_ONCE)):
            paths = [row.destination for row in rows if row.destination]
            self._compare(
                engine, [p for p in paths if any(p.is_relative_to(root) for root in looked_for)]
            )
        if queries.is_any_missing(engine):
            for root in roots:
                for found in self._rested(chunks(self._walk(root, watch), AT_ONCE)):
                    self._compare(engine, found)
                    self._match(engine)

    def _reckon(self, engine: sa.Engine, watch: FolderWatch, touched: Iterable[Touched]) -> None:
        for paths in chunks(self._meant(engine, watch, touched), AT_ONCE):
            self._compare(engine, paths)
        self._match(engine)

    def _meant(
        self, engine: sa.Engine, watch: FolderWatch, touched: Iterable[Touched]
    ) -> Iterator[Path]:
        """The files themselves; of a folder, those that lie or lay below it."""
        for one in touched:
            yield one.path
            if one.folder:
                yield from (
                    row.destination for row in queries.below(engine, one.path) if row.destination
                )
                yield from self._walk(one.path, watch)

    def _compare(self, engine: sa.Engine, paths: Iterable[Path]) -> None:
        """Note which of the files are gone, which are back, and remember which have no row."""
        found = {path: regular(path) for path in paths if is_text(path)}
        rows = queries.at(engine, [str(path) for path in found])
        gone: dict[int, Path] = {}
        back: dict[int, Path] = {}
        for path, file in found.items():
            row = rows.get(str(path))
            if row is None:
                if file is not None:
                    self._remember(path, file.st_size)
            elif row.state is State.FILED and row.is_missing != (file is None):
                (gone if file is None else back)[row.id] = path
        persist(partial(self._ledger.miss, gone), self._stopping)
        persist(partial(self._ledger.find, back), self._stopping)
        for path in gone.values():
            log.info("gone, by hand", extra={"file": path})

    def _remember(self, path: Path, size: int) -> None:
        self._strangers[path] = size
        if len(self._strangers) > MOST_STRANGERS:
            del self._strangers[next(iter(self._strangers))]

    def _match(self, engine: sa.Engine) -> None:
        """Find missing files among those without a row: first by size, then by content."""
        for some in chunks(list(self._strangers.items()), AT_ONCE):
            left = queries.missing(engine, {size for _, size in some})
            for path, size in some:
                if not any(row.size_bytes == size for row in left):
                    continue
                if row := _same_content(path, left):
                    left.remove(row)
                    del self._strangers[path]
                    self._relocate(row, path)

    def _relocate(self, row: Record, path: Path) -> None:
        assert row.destination is not None  # or it would not be missing
        before, now = self._folders.root_above(row.destination), self._folders.root_above(path)
        label = self._labels.get(now) if now and now != before else None
        said = None if label == UNSURE else label
        moved = Relocation(row.id, row.destination, path, said)
        if persist(partial(self._ledger.relocate, moved), self._stopping):
            about = {"file": row.destination, "destination": path}
            log.info("moved by hand", extra=about | ({"corrected_label": said} if said else {}))

    def _walk(self, folder: Path, watch: FolderWatch) -> Iterator[Path]:
        """The files below it, hidden ones left out; all folders on the way are watched first."""

        def add(found: Path) -> None:
            try:
                watch.add(found)
            except FileNotFoundError:
                pass
            except OSError as error:
                log.warning(
                    "what is moved by hand there is noticed at the next start: %s",
                    error.strerror,
                    extra={"file": found},
                )

        for found in walk(folder, skip=_is_hidden, on_folder=add):
            yield found.path

    def _rested(self, chunks: Iterator[list[T]]) -> Iterator[list[T]]:
        """The same, with pauses."""
        begin = time.monotonic()
        for chunk in chunks:
            yield chunk
            if self._stopping.wait(IDLE_SHARE * (time.monotonic() - begin)):
                raise Stopped
            begin = time.monotonic()


def _same_content(path: Path, rows: Iterable[Record]) -> Record | None:
    """The row of a missing file that is this one; if there are several, that of its name."""
    try:
        sha256 = content_hash(path)
    except OSError:
        return None
    same = [row for row in rows if row.sha256 == sha256]
    named = [row for row in same if row.destination and row.destination.name == path.name]
    return next(iter(named or same), None)


def _place(root: Path) -> tuple[int, int] | None:
    """What tells the folder from another of the same name; None if it is not there."""
    try:
        found = root.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_empty(root: Path) -> bool:
    """Whether nothing lies there but what is hidden."""
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        return not any(not _is_hidden(entry.name) for entry in entries)
    return True


def _is_hidden(name: str) -> bool:
    return name.startswith(".")
