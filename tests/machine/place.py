"""The folders and the database of a service in the machine, and the promise about them."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.folders import files
from tests.machine.systemd import EVERY, SLOWLY, run
from tests.waiting import wait_until

PREFIX = Path("/opt/moodsort")
SAMPLES = Path("/usr/src/samples")


class Place:
    """The folders and the database of one service, and what was dropped into them."""

    def __init__(self, home: Path, *elsewhere: Path) -> None:
        self.inbox = home / "inbox"
        self.database = home / "moodsort.db"
        self.folders = [home / name for name in ("happy", "sad", "failed", "unsure")]
        self.folders += [folder / name for folder in elsewhere for name in ("happy", "sad")]
        self.dropped: Counter[str] = Counter()

    def drop(self, count: int, copy: Callable[[Path, Path], object] = shutil.copyfile) -> None:
        """So many samples, each under a name of its own."""
        samples = sorted(SAMPLES.iterdir(), key=lambda path: path.stem[::-1])
        for sample in itertools.islice(itertools.cycle(samples), count):
            copy(sample, self.inbox / f"{self.dropped.total():04}-{sample.name}")
            self.dropped[sha256(sample)] += 1

    def filed(self) -> list[Path]:
        return files(*self.folders)

    def wait_filed(self) -> None:
        count = self.dropped.total()
        wait_until(lambda: len(self.filed()) >= count, f"{count} are filed", SLOWLY, every=EVERY)
        self._wait_closed()

    def _wait_closed(self) -> None:
        wait_until(
            lambda: {row["state"] for row in self.results()} <= {"filed", "failed"},
            "all rows are closed",
            SLOWLY,
            every=EVERY,
        )

    def results(self) -> list[dict[str, Any]]:
        done = run(PREFIX / "bin/moodsort", "results", "--database", self.database, "--json")
        return [json.loads(line) for line in done.splitlines()]

    def assert_promise(self) -> None:
        """Every image exists once, unchanged, with one row that tells where it lies."""
        filed, rows = self.filed(), self.results()
        assert files(self.inbox) == [], files(self.inbox)
        assert Counter(map(sha256, filed)) == self.dropped
        assert sorted(row["destination_path"] for row in rows) == sorted(map(str, filed))
        assert Counter(row["sha256"] for row in rows) == self.dropped


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
