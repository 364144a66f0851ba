"""The service as a child process, with folders and a database of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MOODSORT = Path(sys.executable).with_name("moodsort")
LOOK_SECONDS = 0.02
"""How often it is looked whether all is filed."""


@dataclass(frozen=True)
class Place:
    """Where files come from and go to."""

    root: Path

    @property
    def inbox(self) -> Path:
        """Where to drop them."""
        return self.root / "inbox"

    @property
    def destinations(self) -> list[Path]:
        """Where they may be filed."""
        return [self.root / name for name in ("happy", "sad", "failed")]

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.root / "moodsort.db"

    def filed(self) -> int:
        """How many files lie in the destinations."""
        return sum(len(os.listdir(folder)) for folder in self.destinations)

    def wait_for(self, count: int) -> None:
        """Return when so many are filed, and their rows say so."""
        while self.filed() < count or self._recorded() < count:
            time.sleep(LOOK_SECONDS)

    def _recorded(self) -> int:
        """How many rows have reached their end."""
        link = sqlite3.connect(self.database)
        with contextlib.closing(link):
            query = "SELECT count(*) FROM results WHERE state IN ('filed', 'failed')"
            return int(link.execute(query).fetchone()[0])

    def stock(self, sources: Sequence[Path], count: int) -> list[Path]:
        """So many copies of the sources, in turn, ready to be moved into the inbox."""
        stock = self.root / "stock"
        stock.mkdir(exist_ok=True)
        copies = [stock / f"{i}{sources[i % len(sources)].suffix}" for i in range(count)]
        for i, copy in enumerate(copies):
            shutil.copyfile(sources[i % len(sources)], copy)
        return copies


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """New folders, removed in the end."""
    with tempfile.TemporaryDirectory(prefix="moodsort-bench-") as root:
        there = Place(Path(root))
        for folder in (there.inbox, *there.destinations):
            folder.mkdir()
        yield there


@contextlib.contextmanager
def service(there: Place, *options: str) -> Iterator[int]:
    """Start it, wait until it is ready, stop it in the end; its process id."""
    folders = [f"--{folder.name}={folder}" for folder in (there.inbox, *there.destinations)]
    command: list[str | Path] = [
        MOODSORT,
        "run",
        *folders,
        f"--database={there.database}",
        *options,
    ]
    log = there.root / "service.log"
    with open(log, "wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            while b"ready" not in log.read_bytes():
                if process.poll() is not None:
                    raise SystemExit(f"The service ended: {log.read_text()}")
                time.sleep(0.01)
            yield process.pid
        finally:
            process.terminate()
