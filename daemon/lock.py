"""One service an inbox."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from daemon.errors import InboxHeld, ServiceError

LOCK_FILE = ".moodsort.lock"

TRIES = 5
TRY_SECONDS = 0.02


@contextmanager
def hold(inbox: Path) -> Iterator[None]:
    """Keep other services off the folder; the kernel lets go of it however this process ends.

    Raises:
        InboxHeld: another process holds it; the text says which.
        ServiceError: the lock file cannot be written.
    """
    path = inbox / LOCK_FILE
    try:
        descriptor = _lock(path)
    except OSError as error:
        raise ServiceError(f"Cannot write {path}: {error.strerror}.") from None
    try:
        about = f"process {os.getpid()} on {socket.gethostname()} since {datetime.now():%F %T}\n"
        with contextlib.suppress(OSError):  # The lock holds without it, on a full disk too.
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, about.encode(), 0)
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether a process works on the folder as its inbox; looking leaves no trace."""
    try:
        # Not blocking: anybody may have put a FIFO there.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(folder / LOCK_FILE, flags)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        if not _try(descriptor):
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise InboxHeld(
                f"Another moodsort works on {path.parent}: {holder or 'just starting'}. "
                "Stop it first, or name another inbox."
            )
        if _is_still(path, descriptor):
            return descriptor
        os.close(descriptor)  # The holder before removed it between the opening and the locking.


def _try(descriptor: int) -> bool:
    """Lock it, unless it is held for longer than `is_held` looks."""
    for _ in range(TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(TRY_SECONDS)
        else:
            return True
    return False


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
