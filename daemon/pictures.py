"""Small copies of filed images, made anew from their pixels.

The originals are anybody's, and so are decoded by the workers and the decoder that the service
uses, with their limits; a browser gets none of their bytes.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from daemon import classifier, worker
from daemon.cache import Cache
from daemon.classifier import Unsettled
from daemon.errors import ServiceError
from daemon.pipeline import Folders
from daemon.worker import Ended, Unstarted, Workers, limited_to
from db.schema import JUDGED
from trainer.errors import ImageError
from trainer.image import InputSpec, View

SECONDS = 20
"""How long it may take to read and decode an image: somebody waits for it."""

PROCESSES = min(4, os.cpu_count() or 1)
"""That decode for somebody who waits."""

SIDES = {"thumbnail": 320, "picture": 1280}
"""Pixels of the longer side, by what is asked for."""

KEPT_SECONDS = 24 * 3600
"""How long a browser may keep one; its address stands for its content."""

QUALITY = 82
"""Of JPEG, 0 to 95."""


class NoPicture(ServiceError):
    """There is nothing to show of this row; the text says why."""


class Wanted(NamedTuple):
    """A file with its hash in hex, and how large its picture may be: its longer side in pixels."""

    path: Path
    sha256: str
    side: int


class Pictures:
    """Makes pictures in processes of their own, and may keep them in a cache."""

    def __init__(
        self, folders: Folders, cache: Cache | None, count: int, *, seconds: int = SECONDS
    ) -> None:
        """Use `count` processes; without a cache, all is made anew.

        Raises:
            OSError: a process cannot be started.
        """
        self._folders = folders
        self._cache = cache
        self._workers: Workers[Wanted, bytes] = Workers(partial(begin, seconds), count)

    def of(self, row: Mapping[str, Any], side: int) -> bytes:
        """A JPEG of the image of a row of the view `results`, upright, without metadata.

        Raises:
            NoPicture: it has none, or none that can be shown.
        """
        wanted = Wanted(self._path(row), row["sha256"], side)
        name = f"{wanted.sha256}-{side}.jpg"
        if self._cache and (kept := self._cache.get(name)):
            return kept
        picture = self._make(wanted)
        if self._cache:
            self._cache.put(name, picture)
        return picture

    def close(self) -> None:
        """End the processes."""
        self._workers.close()

    def _path(self, row: Mapping[str, Any]) -> Path:
        """Where the file lies: rows lead nowhere but into the configured folders."""
        if row["state"] not in JUDGED or not row["sha256"]:
            raise NoPicture("Only images that are filed have a picture.")
        path = Path(row["destination_path"])
        root = self._folders.root_above(path)
        if root in (None, self._folders.failed):
            raise NoPicture("The image lies in none of the folders of the settings.")
        return path

    def _make(self, wanted: Wanted) -> bytes:
        try:
            return self._workers.ask(wanted)
        except Ended as how:
            raise NoPicture(f"Its decoder fails: {how}.") from None
        except (ImageError, Unstarted, OSError) as error:
            raise NoPicture(f"The image cannot be shown: {error}") from None


def prepare() -> None:
    """Begin what takes a moment, so that the processes start sooner."""
    worker.prepare(__name__)


def begin(seconds: int) -> Callable[[Wanted], bytes]:
    """What a worker does with each that is wanted, in so much time."""
    return partial(draw, seconds)


def draw(seconds: int, wanted: Wanted) -> bytes:
    """The picture, as a JPEG.

    Raises:
        NoPicture: the file is not what it was, or not there.
        ImageError: it cannot be decoded.
    """
    with limited_to(seconds):
        try:
            photo = classifier.read(wanted.path, View(InputSpec(1, 1, 3), wanted.side))
        except Unsettled:
            raise NoPicture("The file is not there, or is being written to.") from None
        if isinstance(photo.outcome, ImageError):
            raise photo.outcome
        if photo.sha256 != wanted.sha256:
            raise NoPicture("The file was changed since.")
        assert photo.outcome.photo is not None
        image = photo.outcome.photo
        image.thumbnail((wanted.side, wanted.side))
        jpeg = io.BytesIO()
        image.save(jpeg, "JPEG", quality=QUALITY)
        return jpeg.getvalue()
