"""Which process is this, and is another one of this machine still there?"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from db.terms import Process


def current() -> Process:
    """Of this process."""
    return Process(socket.gethostname(), os.getpid(), _name(os.getpid(), _began(os.getpid())))


def is_gone(other: Process) -> bool:
    """Whether it has ended for certain: it was of this machine and this system start.

    A container has numbers of its own for its processes; of those outside nothing is known.
    """
    began = _began(other.pid)
    if other.process == _name(other.pid, began) or not other.process.startswith(_machine()):
        return False
    return bool(began) or not _is_there(other.pid)


def _name(pid: int, began: str) -> str:
    return f"{_machine()} {pid} {began}"


def _machine() -> str:
    """The start of the system, and the space in which processes are numbered."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:  # Another system than Linux.
        return f"{socket.gethostname()} ?"


def _began(pid: int) -> str:
    """When the process began, in ticks since the system did; empty if it cannot be seen."""
    try:
        # The name before it, in brackets, may itself hold spaces and brackets.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
