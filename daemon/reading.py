"""Files are read, and without a GPU judged, in several processes at once."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from daemon import classifier, descent, worker
from daemon.classifier import Photo, Unsettled
from daemon.life import Life
from daemon.worker import Ended, Unstarted, Workers, limited_to
from trainer.bundle import Bundle, Verdict
from trainer.errors import ImageError
from trainer.image import View

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Files that one process reads and judges at once: with more, little is left to share out.

One network looks at all of them before the next does, and so stays in the cache. Measured, judging
takes 6.4 ms an image one by one, 5.8 by eight, 5.6 by 16.
"""

SECONDS = 60
"""How long it may take to decode what is asked for at once; with more, each is tried alone.

The largest images that are taken at all need some seconds. With SECONDS_TO_JUDGE it is what an
answer may take, and so has to stay well below `daemon.systemd.MOST_SILENCE`.
"""

SECONDS_TO_JUDGE = 60
"""The same for the networks; they need milliseconds for each."""

STOP_SECONDS = 3.0
"""How long what has been begun may take when the service is to stop."""


@dataclass(frozen=True)
class Read:
    """A photo, what is said of it if that is already known, and how many seconds it took.

    `judging` is its share of the time that all that were judged at once took.
    """

    photo: Photo
    verdict: Verdict | ImageError | None
    decoding: float = 0.0
    judging: float = 0.0


class Readers:
    """So many processes, each with a thread here that waits for it.

    What crashes or hangs a process is read once more, alone, and then counts as an image that
    cannot be decoded.
    """

    def __init__(self, bundle: Bundle, count: int, *, seconds: int = SECONDS) -> None:
        """Judge with the bundle, unless it is faster with more images than one process reads.

        Raises:
            OSError: a process cannot be started.
        """
        self.count = count
        self.life = Life()
        judging = None if bundle.in_batches else bundle
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="read")
        self._stopping = threading.Event()
        self._closing = threading.Lock()
        self._workers: Workers[Sequence[Path], list[Read | None]] = Workers(
            partial(begin, bundle.info.view, judging, seconds), count
        )

    def await_ready(self) -> None:
        """Wait until all that were started can begin at once.

        Raises:
            Unstarted: one cannot be started.
        """
        self._workers.await_ready()

    def read(self, paths: Sequence[Path]) -> Future[list[Read | None]]:
        """What is in some files; None: not settled, or the readers are closed."""
        with self._closing:
            if not self._stopping.is_set():
                return self._threads.submit(self._read, paths)
        nothing: Future[list[Read | None]] = Future()
        nothing.set_result([None] * len(paths))
        return nothing

    def close(self) -> None:
        """Begin nothing more, and end what takes longer than STOP_SECONDS."""
        with self._closing:
            if self._stopping.is_set():
                return
            self._stopping.set()
        self._workers.kill_busy(STOP_SECONDS)
        self._threads.shutdown()
        self._workers.close()

    def _read(self, paths: Sequence[Path]) -> list[Read | None]:
        if self._stopping.is_set():
            return [None] * len(paths)
        try:
            return self._ask(paths)
        except Ended as how:
            if self._stopping.is_set():
                return [None] * len(paths)
            log.warning("a worker ended (%s), trying each of its files alone", how)
            return [self._read_alone(path) for path in paths]

    def _read_alone(self, path: Path) -> Read | None:
        if self._stopping.is_set():
            return None
        try:
            return self._ask([path])[0]
        except Ended as how:
            if self._stopping.is_set():
                return None
            return _undecodable(path, str(how))

    def _ask(self, paths: Sequence[Path]) -> list[Read | None]:
        try:
            return self._workers.ask(paths)
        except Unstarted as error:
            if self._stopping.is_set():  # and so it was killed before it had begun.
                raise Ended("it was stopped") from error
            raise
        finally:
            self.life.beat()


def share_of(count: int, readers: int) -> int:
    """How many of so many files each of the readers should take at once."""
    return max(1, min(AT_ONCE, -(-count // readers)))


def prepare() -> None:
    """Begin what takes a moment, so that readers start sooner."""
    worker.prepare(__name__, "ai_edge_litert.interpreter")


def begin(
    view: View, bundle: Bundle | None, seconds: int
) -> Callable[[Sequence[Path]], list[Read | None]]:
    """`read_files` of these, with the bundle warm: what a worker does first."""
    if bundle:
        bundle.warm()
    return partial(read_files, view, bundle, seconds)


def read_files(
    view: View, bundle: Bundle | None, seconds: int, paths: Sequence[Path]
) -> list[Read | None]:
    """What is in some files, and what the bundle says of them; None: not settled."""
    read: dict[Path, Read] = {}
    with limited_to(seconds), descent.keeping():
        for path in paths:
            since = time.perf_counter()
            with contextlib.suppress(Unsettled):
                photo = classifier.read(path, view)
                read[path] = Read(photo, None, decoding=time.perf_counter() - since)
    if bundle and read:
        with limited_to(SECONDS_TO_JUDGE):
            since = time.perf_counter()
            verdicts = classifier.judge(bundle, [one.photo for one in read.values()])
            share = (time.perf_counter() - since) / len(read)
        for (path, one), verdict in zip(list(read.items()), verdicts, strict=True):
            photo = one.photo.without_pixels()
            read[path] = replace(one, photo=photo, verdict=verdict, judging=share)
    return [read.get(path) for path in paths]


def _undecodable(path: Path, how: str) -> Read | None:
    reason = ImageError("undecodable", f"Its decoder fails: {how}.")
    with contextlib.suppress(Unsettled):
        return Read(classifier.refuse(path, reason), reason)
    return None
