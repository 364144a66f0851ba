"""A folder of small files that can be made again: it grows so far, and what was not used goes."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from daemon.errors import ServiceError, SettingsError

THUMBNAIL_BYTES = 256 * 1024**2
"""How far the folder of thumbnails grows: some ten thousand."""

AFTER_TRIMMING = 0.9
"""How full it is when it was full and has been trimmed."""


class Cache:
    """Files by name; any number of threads and processes may share the folder.

    What cannot be read or written is not cached: a full disk is no reason to show nothing.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        """Use the folder, which is made for this user alone.

        Raises:
            ServiceError: it cannot be made.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ServiceError(
                f"The folder {folder} for thumbnails cannot be made: {error.strerror}. "
                "Name another with --cache."
            ) from None
        self._folder = folder
        self._most = most_bytes
        self._trimming = threading.Lock()
        self._size = sum(found.st_size for found, _ in self._files())

    def get(self, name: str) -> bytes | None:
        """What was put there under the name, if it is still there and whole."""
        path = self._path(name)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return data or None  # A power failure may leave an empty file.

    def put(self, name: str, data: bytes) -> None:
        """Keep it for a while."""
        path = self._path(name)
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, exist_ok=True)
            _write(path, data)
        with self._trimming:
            self._size += len(data)
            if self._size > self._most:
                self._trim()

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name

    def _trim(self) -> None:
        """Remove what was not used for longest."""
        files = sorted(self._files(), key=lambda file: file[0].st_mtime_ns)
        self._size = sum(found.st_size for found, _ in files)
        for found, path in files:
            if self._size <= self._most * AFTER_TRIMMING:
                return
            with contextlib.suppress(OSError):
                path.unlink()
            self._size -= found.st_size

    def _files(self) -> Iterator[tuple[os.stat_result, Path]]:
        for base, _, names in os.walk(self._folder):
            for name in names:
                path = Path(base, name)
                with contextlib.suppress(OSError):
                    yield path.stat(follow_symlinks=False), path


def thumbnails(folder: Path | None) -> Cache:
    """That of the thumbnails, in the folder or in that of this user.

    Raises:
        ServiceError: the folder cannot be made, or the user has no home.
    """
    return Cache(folder or _of_the_user(), THUMBNAIL_BYTES)


def _of_the_user() -> Path:
    """As the XDG Base Directory Specification has it."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        raise SettingsError("There is no home folder for thumbnails; name one: --cache.") from None
    return home / "moodsort" / "thumbnails"


def _write(path: Path, data: bytes) -> None:
    """All of it, or nothing."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        os.replace(draft, path)
    except OSError:
        os.unlink(draft)
        raise
