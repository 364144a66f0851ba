"""`moodsort gallery` and its like as child processes, and requests to them."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Self
from urllib.parse import urlencode

from tests.helpers import MOODSORT, PATIENCE, Place, free_port


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    data: bytes

    @property
    def text(self) -> str:
        return self.data.decode()


class Pages:
    """What a command serves of a place; ready when it is made."""

    COMMAND: str
    READY: str
    """How it begins the line that tells the address."""

    def __init__(self, place: Place, *extra: str | Path, host: str = "127.0.0.1") -> None:
        self.place = place
        self.port = free_port()
        self.command: list[str | Path] = [
            *(MOODSORT, self.COMMAND, "--inbox", place.inbox, *place.destinations()),
            *("--listen", f"{host}:{self.port}", "--cache", place.root / "cache", *extra),
        ]
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdout
        said = self.process.stdout.readline()
        assert said.startswith(self.READY), said + self.process.stdout.read()
        self.address = said.removeprefix(self.READY).split()[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def ask(
        self, path: str, form: dict[str, str] | None = None, method: str = "GET", **headers: str
    ) -> Answer:
        """What is answered; with a `form` it is posted. Words of headers are joined by `_`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = None
        if form is not None:
            method, body = "POST", urlencode(form)
            named["Content-Type"] = "application/x-www-form-urlencoded"
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            link.request(method, path, body, named)
            got = link.getresponse()
            return Answer(got.status, got.headers, got.read())
        finally:
            link.close()

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """How it ends, and what it has said."""
        os.kill(self.process.pid, number)
        said, _ = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said


class Gallery(Pages):
    """`moodsort gallery`."""

    COMMAND, READY = "gallery", "Look at it at "

    def secret(self) -> str:
        """What its pages send with a correction."""
        found = re.search(r'name="secret" value="([^"]+)"', self.ask("/").text)
        assert found
        return found[1]


def ids(page: Answer) -> list[int]:
    """Of the images on a page, in order."""
    return [int(id) for id in re.findall(r'id="image-(\d+)"', page.text)]
