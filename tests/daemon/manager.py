"""What systemd is to a service that it starts: a socket that is told how it does, and signals."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.helpers import Service, wait_until


class Manager:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="notify-")
        self.address = str(Path(self._folder.name) / "socket")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._told: list[tuple[float, str]] = []
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *exc: object) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(b"", self.address)
        self._thread.join()
        self._socket.close()
        self._folder.cleanup()

    def environ(self, watchdog_seconds: float) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self.address, "WATCHDOG_USEC": str(int(watchdog_seconds * 1e6))}

    def told(self, start: str, since: float = 0.0) -> list[str]:
        """All that begins so, since a moment of `time.monotonic`."""
        return [text for at, text in self._told if text.startswith(start) and at >= since]

    def wait_for(self, start: str, since: float = 0.0) -> str:
        wait_until(lambda: self.told(start, since), f"{start} is told")
        return self.told(start, since)[-1]

    def wait_until_ready(self, service: Service) -> None:
        """It is told here first, and then in the log."""
        self.wait_for("READY=1")
        service.wait_until_ready()

    def silence(self) -> float:
        """Seconds since the watchdog was fed."""
        return time.monotonic() - max(at for at, text in self._told if text == "WATCHDOG=1")

    def _listen(self) -> None:
        while message := self._socket.recv(4096):
            self._told.append((time.monotonic(), message.decode()))


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def workers(service: Service) -> list[int]:
    """The processes that read: the children of its forkserver."""
    return [worker for child in children(service.process.pid) for worker in children(child)]


@contextmanager
def held(pids: list[int]) -> Iterator[None]:
    """They hang meanwhile."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGCONT)
