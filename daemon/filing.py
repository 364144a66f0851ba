"""A file -> its final place: never over another file, never lost on the way.

A file appears at its destination before it disappears from its source, and each of the two is
made durable before the next step. Whatever is repeated after an interruption finds out how far
it had come.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import hashlib
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

LONGEST_NAME = 255
"""Bytes in a file name, on all common file systems."""

OWN_PREFIX = ".moodsort-"
"""How files of the service's own begin; they are never taken for images."""

BIDI_CONTROLS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Marks that can make a name read as another (Unicode Standard Annex 9)."""

NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""What link() says on file systems without hard links, or where the kernel guards them."""


class Outcome(enum.Enum):
    """What became of one move."""

    DONE = "the file is at its destination, and only there"
    OCCUPIED = "another file has the destination's name"
    GONE = "the source is gone, or another file has taken its name"
    STUCK = "the source may not be moved away; it is where it was"


@dataclass(frozen=True)
class Move:
    """A file to be filed.

    `size_bytes`, `mtime_ns` and `sha256` (None if it could not be read) say which file is meant.
    `root` is the destination folder of the configuration: it is never made here, so that a file
    does not end up below the empty mount point of a missing disk.
    """

    id: int
    source: Path
    destination: Path
    root: Path
    size_bytes: int
    mtime_ns: int
    sha256: str | None


def place(moves: Sequence[Move]) -> dict[int, Outcome]:
    """Carry out the moves and say by id what became of each; may be repeated at any time.

    Raises:
        OSError: a destination cannot be written (full, missing, read-only, …); moves not yet
            made are then still to be made.
    """
    outcomes = {move.id: _appear(move) for move in moves}
    done = [move for move in moves if outcomes[move.id] is Outcome.DONE]
    _sync_folders(folder for move in done for folder in _made_for(move))
    outcomes |= {move.id: _disappear(move) for move in done}
    _sync_folders(move.source.parent for move in done)
    return outcomes


def clean_name(relative: Path) -> Path:
    """A path below the inbox as valid, printable text of the same shape.

    Bytes that are no UTF-8, control characters and marks that turn text around become `_`.
    """
    return Path(*(_shorten(_clean_part(part), "") for part in relative.parts))


def choose_destinations(
    wanted: Sequence[tuple[int, Path]], taken: Callable[[Sequence[Path]], set[Path]]
) -> dict[int, Path]:
    """A free path for each (id, wanted path): the wanted one, or one with the id in its name.

    `taken` tells which of some paths the database knows already, even if no file is there now.
    """
    chosen: dict[int, Path] = {}
    left = {id: _candidates(path, id) for id, path in wanted}
    while left:
        proposed = {id: next(names) for id, names in left.items()}
        used = taken(list(proposed.values())) | set(chosen.values())
        for id, path in proposed.items():
            if path not in used and not os.path.lexists(path):
                chosen[id] = path
                used.add(path)
                del left[id]
    return chosen


def _candidates(wanted: Path, id: int) -> Iterator[Path]:
    yield wanted
    yield wanted.with_name(_shorten(wanted.name, f"-{id}"))
    for n in count(2):
        yield wanted.with_name(_shorten(wanted.name, f"-{id}-{n}"))


def _clean_part(name: str) -> str:
    text = os.fsencode(name).decode("utf-8", "replace").replace("\ufffd", "_")
    return "".join(
        "_" if unicodedata.category(c) in ("Cc", "Zl", "Zp") or BIDI_CONTROLS.match(c) else c
        for c in text
    )


def _shorten(name: str, mark: str) -> str:
    """The name with `mark` before its suffix, cut to what a file system takes."""
    stem, suffix = os.path.splitext(name)
    if len(suffix.encode()) > LONGEST_NAME // 2:
        stem, suffix = name, ""
    room = LONGEST_NAME - len((mark + suffix).encode())
    return stem.encode()[:room].decode("utf-8", "ignore") + mark + suffix


def _appear(move: Move) -> Outcome:
    """Make the file appear at its destination, if it is not there yet."""
    source = _lstat(move.source)
    there = _lstat(move.destination)
    if there is not None:
        return _interrupted(move, source, there)
    if source is None or not _is_meant(move, source):
        return Outcome.GONE
    _make_folders(move.root, move.destination.parent)
    return _link(move)


def _link(move: Move) -> Outcome:
    try:
        os.link(move.source, move.destination, follow_symlinks=False)
    except FileExistsError:
        return Outcome.OCCUPIED
    except FileNotFoundError:
        return _missing(move)
    except OSError as error:
        if error.errno == errno.EXDEV:
            return _copy(move)
        if error.errno in NO_LINKS:
            return _rename(move)
        raise
    return Outcome.DONE


def _rename(move: Move) -> Outcome:
    try:
        return _rename_exclusively(move.source, move.destination)
    except PermissionError:
        if os.access(move.destination.parent, os.W_OK | os.X_OK):
            return Outcome.STUCK
        raise


def _interrupted(move: Move, source: os.stat_result | None, there: os.stat_result) -> Outcome:
    """Something has the destination's name: is it this file, from an interrupted move?"""
    _draft(move).unlink(missing_ok=True)
    if source is None:
        return Outcome.DONE if _has_content(move) else Outcome.GONE
    if os.path.samestat(source, there):
        return Outcome.DONE
    if not _is_meant(move, source):
        return Outcome.DONE if _has_content(move) else Outcome.GONE
    if source.st_dev != there.st_dev and _has_content(move):
        return Outcome.DONE
    return Outcome.OCCUPIED


def _copy(move: Move) -> Outcome:
    """To another file system: a whole, durable copy under its own name first."""
    draft = _draft(move)
    draft.unlink(missing_ok=True)
    try:
        with open(move.source, "rb") as source, open(draft, "xb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
            copy.flush()
            shutil.copystat(move.source, draft)
            os.fsync(copy.fileno())
        if move.sha256 not in (None, _hash(draft)):
            return Outcome.GONE
        return _rename_exclusively(draft, move.destination)
    except FileNotFoundError:
        return _missing(move)
    finally:
        draft.unlink(missing_ok=True)


def _draft(move: Move) -> Path:
    return move.destination.parent / f"{OWN_PREFIX}{move.id}.part"


def _rename_exclusively(path: Path, destination: Path) -> Outcome:
    """Rename where the name is free.

    Where there are no hard links, an empty file reserves the name: rename() alone would replace
    what another program has put there in the meantime.
    """
    try:
        os.link(path, destination, follow_symlinks=False)
        return Outcome.DONE
    except FileExistsError:
        return Outcome.OCCUPIED
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
    try:
        os.close(os.open(destination, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return Outcome.OCCUPIED
    try:
        os.rename(path, destination)
    except OSError:
        destination.unlink()
        raise
    return Outcome.DONE


def _missing(move: Move) -> Outcome:
    """The source vanished; or is it the destination folder that did?"""
    if _lstat(move.source) is None:
        return Outcome.GONE
    raise FileNotFoundError(errno.ENOENT, "The folder is missing", str(move.destination.parent))


def _disappear(move: Move) -> Outcome:
    """Remove the source; unless a new file has taken its name since."""
    source = _lstat(move.source)
    if source is None or not _is_meant(move, source):
        return Outcome.DONE
    try:
        move.source.unlink(missing_ok=True)
    except PermissionError:
        move.destination.unlink()
        return Outcome.STUCK
    return Outcome.DONE


def _is_meant(move: Move, found: os.stat_result) -> bool:
    return (found.st_size, found.st_mtime_ns) == (move.size_bytes, move.mtime_ns)


def _has_content(move: Move) -> bool:
    """Whether the file at the destination is the one that is meant."""
    found = os.lstat(move.destination)
    if found.st_size != move.size_bytes:
        return False
    if move.sha256 is None:
        return found.st_mtime_ns == move.mtime_ns
    return _hash(move.destination) == move.sha256


def _make_folders(root: Path, folder: Path) -> None:
    if not root.is_dir():
        raise FileNotFoundError(errno.ENOENT, "The folder is missing", str(root))
    folder.mkdir(parents=True, exist_ok=True)


def _made_for(move: Move) -> Iterator[Path]:
    """The folders that may be new: a file is as durable as the names on the way to it."""
    folder = move.destination.parent
    yield folder
    while folder != move.root and folder.is_relative_to(move.root):
        folder = folder.parent
        yield folder


def _sync_folders(folders: Iterable[Path]) -> None:
    for folder in set(folders):
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
