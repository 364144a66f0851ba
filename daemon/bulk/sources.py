"""An archive: what lies in it, a bit at a time, and its images as files that can be read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from pyarrow import fs

from daemon.bulk.places import Place, reason
from daemon.classifier import MAX_BYTES
from daemon.errors import ServiceError
from daemon.inbox import is_ignored
from daemon.walking import walk
from db.text import printable

FETCHED_AT_ONCE = 16
"""Objects that are fetched at the same time: each is waited for much longer than it takes."""


@dataclass(frozen=True)
class Listed:
    """A file of an archive, or a folder that could not be listed and why.

    `path` is as the file system has it; `size_bytes` is None where nobody had to ask.
    """

    path: bytes
    size_bytes: int | None = None
    problem: str | None = None


class Source(Protocol):
    """An archive; it may be sent to another process, or another machine."""

    def listed(self) -> Iterator[Listed]:
        """All files but those that are ignored in an inbox.

        In the same order each time, unless files come or go.
        """

    def name(self, path: bytes) -> str:
        """What the results call a file: printable text."""

    @contextmanager
    def at_hand(self, files: Sequence[Listed]) -> Iterator[list[Path | OSError]]:
        """The files of this machine that have their content, or why there is none."""


def source_of(place: Place) -> Source:
    """What lies below a place.

    Raises:
        ServiceError: it is not there, is no folder, or cannot be reached.
    """
    try:
        kind = place.files.get_file_info(place.path).type
    except OSError as error:
        raise ServiceError(f"{place.name} cannot be reached: {reason(error)}.") from None
    if kind is not fs.FileType.Directory:
        how = "is not there" if kind is fs.FileType.NotFound else "is no folder"
        raise ServiceError(f"{place.name} {how}. Name the folder that the images lie in.")
    return Folder(place.folder) if place.folder else Store(place)


@dataclass(frozen=True)
class Folder:
    """One that all machines which work on it have at the same path; links are not followed."""

    folder: Path

    def listed(self) -> Iterator[Listed]:
        """See `Source`."""
        problems: list[Listed] = []

        def note(folder: Path, error: OSError) -> None:
            why = f"The folder cannot be listed: {reason(error)}."
            problems.append(Listed(os.fsencode(folder), problem=why))

        for found in walk(self.folder, skip=is_ignored, on_error=note):
            if found.regular:
                yield Listed(os.fsencode(found.path))
        yield from problems

    def name(self, path: bytes) -> str:
        """See `Source`."""
        return printable(Path(os.fsdecode(path)))

    @contextmanager
    def at_hand(self, files: Sequence[Listed]) -> Iterator[list[Path | OSError]]:
        """They are."""
        yield [Path(os.fsdecode(file.path)) for file in files]


@dataclass(frozen=True)
class Store:
    """One of objects, which are fetched before they are read."""

    place: Place

    def listed(self) -> Iterator[Listed]:
        """See `Source`."""
        folders = [self.place.path]
        while folders:
            here = folders.pop()
            try:
                found = self.place.files.get_file_info(fs.FileSelector(here))
            except OSError as error:
                yield Listed(here.encode(), problem=f"It cannot be listed: {reason(error)}.")
                continue
            for one in found:
                if is_ignored(one.base_name):
                    continue
                if one.type is fs.FileType.Directory:
                    folders.append(one.path)
                elif one.type is fs.FileType.File:
                    yield Listed(one.path.encode(), one.size)

    def name(self, path: bytes) -> str:
        """See `Source`."""
        return self.place.name.removesuffix(self.place.path) + path.decode()

    @contextmanager
    def at_hand(self, files: Sequence[Listed]) -> Iterator[list[Path | OSError]]:
        """They are fetched, and kept for so long."""
        with (
            tempfile.TemporaryDirectory(prefix="moodsort-") as folder,
            ThreadPoolExecutor(FETCHED_AT_ONCE) as pool,
        ):
            copies = [Path(folder).resolve() / str(number) for number in range(len(files))]
            yield list(pool.map(partial(_fetch, self.place.files), files, copies))


def _fetch(files: fs.FileSystem, wanted: Listed, copy: Path) -> Path | OSError:
    try:
        with open(copy, "xb") as out:
            if wanted.size_bytes and wanted.size_bytes > MAX_BYTES:
                out.truncate(wanted.size_bytes)  # So large a file is refused unread.
                return copy
            with files.open_input_stream(wanted.path.decode()) as stream:
                while part := stream.read(1 << 20):
                    out.write(part)
    except OSError as error:
        copy.unlink(missing_ok=True)
        return error
    return copy
