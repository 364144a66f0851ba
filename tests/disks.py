"""A small disk that fills up, becomes read-only, or goes away; for tests that run as root."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import IO

import pytest


class Disk:
    """A file system of a few MiB in memory, mounted at a folder."""

    def __init__(self, at: Path, store: Path, mebibytes: int = 2) -> None:
        self.at = at
        self._store = store
        at.mkdir(parents=True)
        store.mkdir()
        if _mount("-t", "tmpfs", "-o", f"size={mebibytes}m,mode=755", "tmpfs", store).returncode:
            pytest.skip("nothing can be mounted here: that takes root, outside of most containers")
        self._content = store / "content"
        self._content.mkdir()
        self.plug_in()

    def plug_in(self) -> None:
        _mount("--bind", self._content, self.at).check_returncode()

    def pull_out(self) -> None:
        subprocess.run(["umount", self.at], check=True)

    def protect(self) -> None:
        _mount("-o", "remount,bind,ro", self.at).check_returncode()

    def unprotect(self) -> None:
        _mount("-o", "remount,bind,rw", self.at).check_returncode()

    def fill(self) -> None:
        """To the last byte."""
        with (self._store / ".filling").open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 8, 1):
                with pytest.raises(OSError, match="No space left on device"):
                    _write_on_and_on(file, bytes(size))

    def make_room(self) -> None:
        (self._store / ".filling").unlink()

    def throw_away(self) -> None:
        subprocess.run(["umount", "-l", self.at], capture_output=True, check=False)
        subprocess.run(["umount", "-l", self._store], check=True)


def _write_on_and_on(file: IO[bytes], data: bytes) -> None:
    while True:
        file.write(data)


def _mount(*args: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["mount", *args], capture_output=True, check=False)
