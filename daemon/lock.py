"""One service an inbox, or only such as share it through one database."""

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
def hold(inbox: Path, *, shared: bool = False) -> Iterator[None]:
    """Keep other services off the folder; the kernel lets go of it however this process ends.

    Those who hold it `shared` keep off only those who do not.

    Raises:
        InboxHeld: another process holds it; the text says which.
        ServiceError: the lock file cannot be written.
    """
    path = inbox / LOCK_FILE
    try:
        descriptor = _lock(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
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
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # Others may still share it.
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
        # Others who only look are none who hold it: they are done in no time.
        return not (_try(descriptor, fcntl.LOCK_SH, 1) and _try(descriptor, fcntl.LOCK_EX))
    finally:
        os.close(descriptor)


def _lock(path: Path, kind: int) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        if not _try(descriptor, kind):
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise InboxHeld(
                f"Another moodsort works on {path.parent}: {holder or 'just starting'}. "
                "Stop it first, or name another folder."
            )
        if _is_still(path, descriptor):
            return descriptor
        os.close(descriptor)  # The holder before removed it between the opening and the locking.


def _try(descriptor: int, kind: int, tries: int = TRIES) -> bool:
    """Lock it, unless it is held for longer than `is_held` looks."""
    for left in range(tries, 0, -1):
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if left > 1:
                time.sleep(TRY_SECONDS)
        else:
            return True
    return False


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
