"""Images decoded by processes of their own: one that crashes or hangs its decoder harms no other.

`Decoders` serves the threads that ask; `main` is what each of the processes runs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

from trainer.errors import ImageError
from trainer.image import DecodedImage, View, decode

log = logging.getLogger(__name__)

ROOT = str(Path(__file__).parents[1])

SECONDS = 30
"""How long an image may take; the largest that are taken at all need some seconds."""

MEMORY = 4 * 1024**3
"""Bytes that a process may use; the largest images with wide samples need about half."""

HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that often go to a whole group of processes; the service alone answers them."""


class Decoders:
    """So many processes that decode; several threads may ask at the same time.

    Leaving the context ends them; so does the end of this process, however it comes.
    """

    def __init__(self, count: int, *, seconds: int = SECONDS) -> None:
        self._count, self._seconds = count, seconds
        # None: to be started when it is needed. The one used last comes first: it is warm.
        self._idle: queue.LifoQueue[_Process | None] = queue.LifoQueue()
        for _ in range(count):
            self._idle.put(_Process(seconds))

    def __enter__(self) -> Decoders:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for _ in range(self._count):
            if process := self._idle.get():
                process.end()

    def decode(self, data: bytes, view: View) -> DecodedImage:
        """The same as `trainer.image.decode`; what ends a process is tried once more in a new one.

        Raises:
            ImageError: as there, or `undecodable`: it ended two processes.
            RuntimeError: a process cannot be started.
        """
        try:
            answer = self._ask(data, view)
        except _Ended as first:
            log.warning("an image ended its decoder (%s), trying again", first)
            try:
                answer = self._ask(data, view)
            except _Ended as again:
                raise ImageError("undecodable", f"Its decoder fails: {again}.") from None
        if isinstance(answer, ImageError):
            raise answer
        return answer.keeping(data)

    def _ask(self, data: bytes, view: View) -> DecodedImage | ImageError:
        process = self._idle.get()
        try:
            process = process or _Process(self._seconds)
            return process.ask(data, view)
        except _Ended:
            process = None
            raise
        finally:
            self._idle.put(process)


class _Ended(Exception):
    """The process ended amid its work; the text says how."""


class _Process:
    """One process that decodes images, one after the other."""

    def __init__(self, seconds: int) -> None:
        self._link, theirs = Pipe()
        command = [sys.executable, "-m", __name__, str(theirs.fileno()), str(seconds)]
        changed = {
            "OPENBLAS_NUM_THREADS": "1",  # It reserves memory for each, and does nothing.
            "PYTHONPATH": os.pathsep.join([ROOT, os.environ.get("PYTHONPATH", "")]),
        }
        try:
            with theirs, _held_signals():
                self._process = subprocess.Popen(
                    command,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env=os.environ | changed,
                )
        except OSError as error:
            self._link.close()
            raise RuntimeError(f"A decoder cannot be started: {error.strerror}.") from None
        self._ready = False

    def ask(self, data: bytes, view: View) -> DecodedImage | ImageError:
        """What it makes of an image.

        Raises:
            _Ended: the image, as it seems, has ended it.
            RuntimeError: it has not even begun.
        """
        if not self._ready:
            self._await_ready()
        try:
            self._link.send((data, view))
            answer: DecodedImage | ImageError = self._link.recv()
        except (EOFError, OSError):
            raise _Ended(self.end()) from None
        return answer

    def end(self) -> str:
        """End it, unless it has ended, and say how it did."""
        self._link.close()
        return _how(self._process.wait())

    def _await_ready(self) -> None:
        """What goes wrong before is no fault of an image."""
        try:
            self._ready = self._link.recv()
        except (EOFError, OSError):
            raise RuntimeError(f"A decoder cannot be started: {self.end()}.") from None


@contextlib.contextmanager
def _held_signals() -> Iterator[None]:
    """What is started meanwhile is never told of HELD."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _how(code: int) -> str:
    if code == -signal.SIGALRM:
        return "it takes too long"
    return f"it died of {signal.Signals(-code).name}" if code < 0 else f"it ended with {code}"


def main() -> None:
    """Decode what comes through a connection, given by its number, until it is closed."""
    number, seconds = (int(word) for word in sys.argv[1:])
    link = Connection(number)
    _limit(resource.RLIMIT_DATA, MEMORY)
    _limit(resource.RLIMIT_CORE, 0)
    _silence()
    with contextlib.suppress(EOFError, ConnectionError):
        link.send(True)
        while True:
            data, view = link.recv()
            link.send(_decoded(data, view, seconds))


def _decoded(data: bytes, view: View, seconds: int) -> DecodedImage | ImageError:
    signal.alarm(seconds)  # Unhandled, it ends the process even where Python has no say.
    try:
        return replace(decode(data, view), encoded=None)
    except ImageError as error:
        return error
    finally:
        signal.alarm(0)


def _silence() -> None:
    """Some libraries tell of each wrong bit of an image; that is not for the log of a service."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stderr.fileno())
    os.close(nowhere)


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY or hard > most:
        resource.setrlimit(kind, (most, most))


if __name__ == "__main__":
    main()
