"""The real thing, started by tests: folders, a database file, the service as a child process."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import random
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from PIL import Image

from daemon.doctor import examine
from daemon.settings import Settings
from db.engine import open_for_writing
from tests.faces import draw_face
from tests.folders import files
from tests.waiting import PATIENCE, wait_until

MOODSORT = Path(sys.executable).with_name("moodsort")


@functools.cache
def jpeg(mood: str = "happy", seed: int = 0, size: tuple[int, int] = (96, 96)) -> bytes:
    """A drawn face."""
    return encoded(draw_face(random.Random(f"{mood}{seed}"), mood, size), "JPEG")


def encoded(image: Image.Image, file_format: str, **options: Any) -> bytes:
    """The image as a file."""
    out = io.BytesIO()
    image.save(out, file_format, **options)
    return out.getvalue()


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it is that large, and is small."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 100_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def moodsort(*args: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        [MOODSORT, *args], capture_output=True, text=True, timeout=300, check=False, **options
    )


class Place:
    """The folders and the database of one trial."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.inbox, self.happy, self.sad, self.failed, self.unsure = (
            root / name for name in ("inbox", "happy", "sad", "failed", "unsure")
        )
        self.database = root / "moodsort.db"
        self.inbox.mkdir(parents=True)

    def settings(self) -> Settings:
        return Settings(
            inbox=self.inbox,
            happy=self.happy,
            sad=self.sad,
            failed=self.failed,
            unsure=self.unsure,
            database=str(self.database),
            models=self.root / "models",
            settle_seconds=0.1,
        )

    def destinations(self) -> list[str | Path]:
        return [
            *("--happy", self.happy, "--sad", self.sad, "--failed", self.failed),
            *("--unsure", self.unsure, "--database", self.database),
        ]

    def file_on(self, disk: Path) -> None:
        """Let happy/ and sad/ lie there, away from the inbox."""
        self.happy, self.sad = disk / "happy", disk / "sad"

    files = staticmethod(files)

    def filed(self) -> list[Path]:
        return self.files(self.happy, self.sad, self.failed, self.unsure)

    def contents(self) -> Counter[str]:
        """How often each content exists, by hash."""
        return Counter(sha256(path.read_bytes()) for path in self.files(self.inbox) + self.filed())

    def rows(self, table: str = "images") -> list[Any]:
        link = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30)
        link.row_factory = sqlite3.Row
        try:
            return link.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()
        finally:
            link.close()

    def change(self, *statements: sa.Executable) -> None:
        """As somebody does who knows the database."""
        engine = open_for_writing(str(self.database))
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(statement)
        engine.dispose()

    def row(self, name: str) -> dict[str, Any]:
        """The row of the file that was dropped under this name."""
        [row] = [row for row in self.rows() if Path(row["source_path"]).name == name]
        return dict(row)

    def assert_promise(self, dropped: Counter[str]) -> None:
        """Every image exists once, unchanged, with exactly one finished row that tells where."""
        assert self.contents() == dropped
        rows = self.rows()
        assert {row["state"] for row in rows} <= {"filed", "failed"}
        assert Counter(row["sha256"] for row in rows) == Counter(
            sha256(path.read_bytes()) for path in self.filed()
        )
        assert {row["destination_path"] for row in rows} == {str(path) for path in self.filed()}
        assert list(examine(self.settings(), deep=True)) == []


class Service:
    """`moodsort run` as a child process on a place."""

    def __init__(
        self,
        place: Place,
        *extra: str,
        under: Sequence[str] = (),
        number: int | None = None,
        **environ: str,
    ) -> None:
        """`under`: a command that runs another one, such as nice; `number`: one of several."""
        self.place = place
        self.log = place.root / f"service{'' if number is None else number}.log"
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [*under, MOODSORT, "run", "--inbox", place.inbox, *place.destinations(), *extra],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=os.environ | environ,
            )

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def wait_until_ready(self) -> Service:
        self.wait_for(lambda: self.said().count(" ready\n") > 0, "it is ready")
        return self

    def wait_for(self, condition: Callable[[], Any], what: str) -> Any:
        def alive_and() -> Any:
            answer = condition()
            assert answer or self.process.poll() is None, f"the service ended: {self.said()}"
            return answer

        try:
            return wait_until(alive_and, what)
        except AssertionError as error:
            raise AssertionError(f"{error}; it said: {self.said()}") from None

    def wait_drained(self, filed: int) -> None:
        """Until the inbox is empty, so many files lie elsewhere and their rows are closed."""

        def drained() -> bool:
            place = self.place
            return (
                not [p for p in place.files(place.inbox) if not p.name.startswith(".")]
                and len(place.filed()) == filed
                and sum(row["state"] in ("filed", "failed") for row in place.rows()) == filed
            )

        self.wait_for(drained, f"{filed} files are filed")

    def said(self) -> str:
        return self.log.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def free_port() -> int:
    """Of this machine, a moment ago."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]
