"""Work on hostile bytes in processes of their own: what crashes or hangs one harms nothing else."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import queue
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

Request = TypeVar("Request")
Answer = TypeVar("Answer")

MEMORY = 4 * 1024**3
"""Bytes that a worker may use; the largest images with wide samples need about half."""

FIRST_TO_GO = 500
"""Of 1,000: how readily Linux ends a worker, rather than the service, where memory is short."""

END_SECONDS = 3.0
"""How long a worker that has nothing to do may take to end."""

HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that often go to a whole group of processes; the service alone answers them."""

# A worker is forked from a process that has what it needs and no threads, and so is there at once.
_processes = multiprocessing.get_context("forkserver")


class Ended(Exception):
    """The worker ended amid its work; the text says how."""


class Unstarted(Exception):
    """The worker ended before it had begun; the text says how."""


class Worker(Generic[Request, Answer]):
    """A process that does the same work on one request after the other."""

    def __init__(self, begin: Callable[[], Callable[[Request], Answer]]) -> None:
        """`begin` gives the work, in that process; it is pickled, as are requests and answers.

        Raises:
            OSError: the process cannot be started.
        """
        self._link, theirs = _processes.Pipe()
        # It ends by itself when the link does, whatever ends this process.
        self._process = _processes.Process(target=_serve, args=(theirs, begin), daemon=True)
        with theirs, _held_signals():
            self._process.start()
        self._ready = False

    def ask(self, request: Request) -> Answer:
        """What the work gives, or raises, for a request.

        Raises:
            Ended: the request, as it seems, has ended the process.
            Unstarted: it has not even begun.
        """
        self.await_ready()
        try:
            self._link.send(request)
            answer, error = self._link.recv()
        except (EOFError, OSError):
            raise Ended(self._how()) from None
        if error:
            raise error
        done: Answer = answer
        return done

    def await_ready(self) -> None:
        """Wait until it has begun; what goes wrong before is no fault of a request.

        Raises:
            Unstarted: it ended before.
        """
        if self._ready:
            return
        try:
            self._ready = self._link.recv()
        except (EOFError, OSError):
            raise Unstarted(f"A worker process cannot be started: {self._how()}.") from None

    def kill(self) -> None:
        """End it now, also while another thread asks; that one is told so."""
        self._process.kill()

    def close(self) -> None:
        """End it, which it does by itself when it has answered, unless it hangs."""
        self._link.close()
        self._process.join(END_SECONDS)
        self.kill()
        self._process.join()
        self._process.close()

    def _how(self) -> str:
        self._process.join()
        code = self._process.exitcode
        if code is None or code >= 0:
            return f"it ended with {code}"
        if code == -signal.SIGALRM:
            return "it takes too long"
        return f"it died of {signal.Signals(-code).name}"


class Workers(Generic[Request, Answer]):
    """Several workers with the same work; as many threads as there are can ask at once."""

    def __init__(self, begin: Callable[[], Callable[[Request], Answer]], count: int) -> None:
        """`begin` as for a Worker.

        Raises:
            OSError: a process cannot be started.
        """
        self.count = count
        self._begin = begin
        self._all: set[Worker[Request, Answer]] = set()
        # None: to be started when it is needed. The one used last comes first: it is warm.
        self._idle: queue.LifoQueue[Worker[Request, Answer] | None] = queue.LifoQueue()
        for _ in range(count):
            self._idle.put(self._start())

    def await_ready(self) -> None:
        """Wait until all that were started can begin at once.

        Raises:
            Unstarted: one cannot be started.
        """
        for one in self._all:
            one.await_ready()

    def ask(self, request: Request) -> Answer:
        """As `Worker.ask`, of the first that is idle; one that ended is replaced when it is needed.

        Raises:
            Ended: the request, as it seems, has ended its process.
            OSError, Unstarted: a process cannot be started.
        """
        one = self._idle.get()
        try:
            one = one or self._start()
            return one.ask(request)
        except (Ended, Unstarted):
            assert one
            self._all.discard(one)
            one.close()
            one = None
            raise
        finally:
            self._idle.put(one)

    def kill_busy(self, seconds: float) -> None:
        """End those that are not done when so much time has passed; nobody may ask any more."""
        end = time.monotonic() + seconds
        idle: list[Worker[Request, Answer] | None] = []
        with contextlib.suppress(queue.Empty):
            while len(idle) < self.count:
                idle.append(self._idle.get(timeout=max(0.0, end - time.monotonic())))
        for one in self._all.difference(idle):
            one.kill()

    def close(self) -> None:
        """End them all."""
        for one in self._all:
            one.close()

    def _start(self) -> Worker[Request, Answer]:
        one: Worker[Request, Answer] = Worker(self._begin)
        self._all.add(one)
        return one


@contextlib.contextmanager
def limited_to(seconds: int) -> Iterator[None]:
    """End this worker, even where Python has no say, if what is done takes longer."""
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def prepare(*modules: str) -> None:
    """Begin to import what workers will need, so that they start at once."""
    from multiprocessing import forkserver

    _processes.set_forkserver_preload(list(modules))
    with _held_signals():
        forkserver.ensure_running()


@contextlib.contextmanager
def _held_signals() -> Iterator[None]:
    """What is started meanwhile is never told of HELD."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(link: Connection, begin: Callable[[], Callable[[Request], Answer]]) -> None:
    """Answer what comes through the link until it is closed."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])  # Or it could not be ended.
    # A writer that opens a file while its lease is asked for makes the kernel send this.
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    _limit(resource.RLIMIT_DATA, MEMORY)
    _limit(resource.RLIMIT_CORE, 0)
    _be_first_to_go()
    _silence()
    work = begin()
    gc.freeze()  # Or all that is there now would be looked through for garbage again and again.
    with contextlib.suppress(EOFError, ConnectionError):
        link.send(True)
        while True:
            link.send(_answer(work, link.recv()))


def _answer(
    work: Callable[[Request], Answer], request: Request
) -> tuple[Answer | None, Exception | None]:
    try:
        return work(request), None
    except Exception as error:
        return None, error


def _silence() -> None:
    """Some libraries tell of each wrong bit of an image; that is not for the log of a service."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stderr.fileno())
    os.close(nowhere)


def _be_first_to_go() -> None:
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(FIRST_TO_GO))


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY or hard > most:
        resource.setrlimit(kind, (most, most))
