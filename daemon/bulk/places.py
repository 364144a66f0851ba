"""Where images lie and results go: a folder, or a place in an object store, as pyarrow knows it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs

from daemon.errors import ServiceError


@dataclass(frozen=True)
class Place:
    """A folder of a file system; `path` is as that has it, `name` what people may read.

    Keys and passwords that stand in the address are in neither.
    """

    files: fs.FileSystem
    path: str
    name: str

    @property
    def folder(self) -> Path | None:
        """The same as a folder of this machine; None if it is none."""
        return Path(self.path) if isinstance(self.files, fs.LocalFileSystem) else None

    def holds(self, other: Place) -> bool:
        """Whether the other is this one, or lies below it."""
        path = self.path.rstrip("/") + "/"
        return self.files == other.files and (other.path.rstrip("/") + "/").startswith(path)


def require_outside(archive: Place, place: Place, what: str) -> None:
    """What is written must not be taken for a part of the archive.

    Raises:
        ServiceError: the place lies in it; name another of `what`.
    """
    if archive.holds(place):
        raise ServiceError(f"{place.name} lies in {archive.name}. Name another {what}.")


def place_of(where: str) -> Place:
    """The place of a path, or of an address such as `s3://bucket/photos`.

    Raises:
        ServiceError: it is none that pyarrow knows.
    """
    if "://" not in where:
        path = os.path.realpath(where)
        return Place(fs.LocalFileSystem(), path, path)
    scheme = where.partition("://")[0]
    try:
        files, path = fs.FileSystem.from_uri(where)
    except (OSError, ValueError) as error:
        raise ServiceError(f"The {scheme}:// address cannot be used: {reason(error)}.") from None
    return Place(files, path, path if scheme == "file" else f"{scheme}://{path}")


def reason(error: Exception) -> str:
    """What went wrong, without a period; pyarrow says much, and not all in one line."""
    told = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(told).strip().splitlines()[0].rstrip(".")
