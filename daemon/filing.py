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
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from daemon import descent
from daemon.identity import Identity, content_hash, identity
from daemon.settling import is_being_written, regular

UNFIT_NAME = {errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG}
"""What a file system says to a name that it does not take, such as FAT to `a:b`."""

OWN_PREFIX = ".moodsort-"
"""How files of the service's own begin; they are never taken for images."""

LEFTOVER = re.compile(re.escape(OWN_PREFIX) + r"(\d{1,18})\.(?:part|name)")
"""What an interrupted move may leave: a copy or a mark, with the id of its row in its name."""

NOT_OFFERED = {
    errno.EPERM,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EMLINK,
    errno.EINVAL,
}
"""What is said where there are no hard links or no such renaming, or where the kernel guards."""

KEPT_MODE = 0o775
"""What a copy gets of the permissions of its original: no set-id, nor all the world's writing."""

NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL


class Outcome(enum.Enum):
    """What became of one move."""

    DONE = "the file is at its destination, and only there"
    OCCUPIED = "another file has the destination's name"
    GONE = "the source is gone, or another file has taken its name"
    STUCK = "the source may not be moved away; it is where it was"


@dataclass(frozen=True)
class Move:
    """A file to be filed.

    `identity` and `sha256` (None if it could not be read) say which file is meant.
    `root` is the destination folder of the configuration: it is never made here, so that a file
    does not end up below the empty mount point of a missing disk. Nor does it end up in one:
    `on_mount` says that the folder itself was a mount point when the service started.
    """

    id: int
    source: Path
    destination: Path
    root: Path
    identity: Identity
    sha256: str | None
    on_mount: bool = False


def place(moves: Sequence[Move]) -> dict[int, Outcome]:
    """Carry out the moves and say by id what became of each; may be repeated at any time.

    Raises:
        OSError: a destination cannot be written (full, missing, read-only, …); moves not yet
            made are then still to be made.
    """
    with descent.keeping():
        return _place(moves)


def _place(moves: Sequence[Move]) -> dict[int, Outcome]:
    appeared = {move.id: _appear(move) for move in moves}
    outcomes = {id: one.outcome for id, one in appeared.items()}
    done = [move for move in moves if outcomes[move.id] is Outcome.DONE]
    made = {folder for move in done for folder in _made_for(move)}
    _sync_folders(made)
    for folder in made:
        descent.require_unmoved(folder)
    outcomes |= {move.id: _disappear(move, appeared[move.id].source) for move in done}
    _sync_folders({move.source.parent for move in done})
    for move in moves:
        if not appeared[move.id].alone:
            _drop(_draft(move))
            _drop(_mark(move))
    return outcomes


@dataclass(frozen=True)
class _Appeared:
    """The first half of a move: how it went, and the source as it was then, if it is to go.

    `alone`: nothing else of the move's own lies beside its destination.
    """

    outcome: Outcome
    source: os.stat_result | None = None
    alone: bool = False


def _appear(move: Move) -> _Appeared:
    """Make the file appear at its destination, if it is not there yet."""
    _require(move)
    source = descent.look(move.source)
    there = descent.look(move.destination)
    if there is not None:
        return _interrupted(move, source, there)
    if source is None or identity(source) != move.identity or is_being_written(move.source):
        return _Appeared(Outcome.GONE)
    try:
        with descent.opened(move.destination.parent, make_below=move.root):
            return _linked(move, source)
    except NotADirectoryError:
        return _Appeared(Outcome.OCCUPIED)  # A file or a link has the name of a folder on the way.
    except OSError as error:
        if error.errno in UNFIT_NAME:
            return _Appeared(Outcome.STUCK)
        raise


def _linked(move: Move, source: os.stat_result) -> _Appeared:
    try:
        way = _take_name(move, move.source)
    except FileNotFoundError:
        return _Appeared(_missing(move))
    except PermissionError:
        if _is_writable(move.destination.parent):
            return _Appeared(Outcome.STUCK)
        raise
    except OSError as error:
        if error.errno == errno.EXDEV:
            return _Appeared(_copy(move), source)
        raise
    return _Appeared(_outcome(way), source, alone=way is descent.link)


def _interrupted(move: Move, source: os.stat_result | None, there: os.stat_result) -> _Appeared:
    """Something has the destination's name: is it this file, from an interrupted move?"""
    if source is None:
        return _Appeared(Outcome.DONE if _has_content(move) else Outcome.GONE)
    if os.path.samestat(source, there):
        return _Appeared(Outcome.DONE, source)
    if _is_reserved(move, source, there):
        descent.unlink(move.destination)
        return _appear(move)
    draft = descent.look(_draft(move))
    copied = draft is not None and os.path.samestat(draft, there)
    if not (copied or _has_content(move)):
        return _Appeared(Outcome.OCCUPIED)
    # On one file system no move leaves a second file: this source then came after it.
    is_rest = copied or source.st_dev != there.st_dev
    return _Appeared(
        Outcome.DONE, source if is_rest and identity(source) == move.identity else None
    )


def _is_reserved(move: Move, source: os.stat_result, there: os.stat_result) -> bool:
    """Whether the name is but reserved for this file, which still waits to be renamed."""
    return (
        descent.look(_mark(move)) is not None
        and stat.S_ISREG(there.st_mode)
        and there.st_size == 0
        and identity(source) == move.identity
    )


def _copy(move: Move) -> Outcome:
    """To another file system: a whole, durable copy under its own name first.

    That name stays until the source is gone: it proves that the copy is this one's.
    """
    try:
        return _copy_by_draft(move)
    except _SourceUnreadable:
        now = descent.look(move.source)
        return Outcome.STUCK if now and identity(now) == move.identity else Outcome.GONE
    except FileNotFoundError:
        return _missing(move)
    except OSError as error:
        _drop(_draft(move))  # A full disk needs the room.
        raise OSError(error.errno, error.strerror, str(move.destination.parent)) from error


def _copy_by_draft(move: Move) -> Outcome:
    _drop(_draft(move))
    digest = hashlib.sha256()
    with (
        _opened_source(move) as source,
        open(descent.open_file(_draft(move), NEW_FILE), "wb") as copy,
    ):
        for chunk in _chunks(source):
            copy.write(chunk)
            digest.update(chunk)
        copy.flush()
        _copy_attributes(source.fileno(), copy.fileno())
        os.fsync(copy.fileno())
        made = os.fstat(copy.fileno())
    now = descent.look(_draft(move))
    if now is None or not os.path.samestat(made, now):
        return Outcome.GONE  # Another service has taken this move over, and begun it anew.
    if move.sha256 not in (None, digest.hexdigest()):
        return Outcome.GONE
    return _outcome(_take_name(move, _draft(move)))


class _SourceUnreadable(Exception):
    """The source, not the destination, is why a copy fails."""


@contextmanager
def _opened_source(move: Move) -> Iterator[BinaryIO]:
    try:
        descriptor = descent.open_file(move.source, os.O_RDONLY)
    except OSError as error:
        raise _SourceUnreadable from error
    with open(descriptor, "rb") as file:
        if identity(os.fstat(descriptor)) != move.identity:
            raise _SourceUnreadable
        yield file


def _chunks(source: BinaryIO) -> Iterator[bytes]:
    try:
        while chunk := source.read(1 << 20):
            yield chunk
    except OSError as error:
        raise _SourceUnreadable from error


def _copy_attributes(source: int, copy: int) -> None:
    """Times, permissions as far as KEPT_MODE, and what users and their programs have noted."""
    with contextlib.suppress(OSError):  # Not every file system takes notes.
        for name in os.listxattr(source):
            if name.startswith("user."):
                os.setxattr(copy, name, os.getxattr(source, name))
    found = os.fstat(source)
    with contextlib.suppress(PermissionError):  # FAT has permissions of its own.
        os.fchmod(copy, found.st_mode & KEPT_MODE)
    os.utime(copy, ns=(found.st_atime_ns, found.st_mtime_ns))


def _draft(move: Move) -> Path:
    return move.destination.with_name(f"{OWN_PREFIX}{move.id}.part")


def _mark(move: Move) -> Path:
    return move.destination.with_name(f"{OWN_PREFIX}{move.id}.name")


def _drop(path: Path) -> None:
    if descent.look(path) is not None:
        descent.unlink(path)


Way = Callable[[Path, Path], None]


def _take_name(move: Move, path: Path) -> Way | None:
    """Let the file have its destination's name as well, or instead; None if it is not free.

    A link first: until the source is gone all can be taken back, and each half made durable before
    the next also where the file system does not rename as a whole when the power fails.
    """
    ways: Sequence[Way] = (
        descent.link,
        descent.rename_to_free,
        partial(_rename_to_reserved, move),
    )
    for way in ways:
        try:
            way(path, move.destination)
            return way
        except FileExistsError:
            return None
        except OSError as error:
            if error.errno not in NOT_OFFERED:
                raise
            refusal = error
    raise refusal


def _outcome(way: Way | None) -> Outcome:
    return Outcome.DONE if way else Outcome.OCCUPIED


def _rename_to_reserved(move: Move, path: Path, destination: Path) -> None:
    """Reserve the name with an empty file: rename() alone would replace what is there by then.

    A mark beside it tells, if this is interrupted, that the empty file is nobody's.
    """
    _drop(_mark(move))
    os.close(descent.open_file(_mark(move), NEW_FILE))
    os.close(descent.open_file(destination, NEW_FILE))
    try:
        descent.rename(path, destination)
    except OSError:
        descent.unlink(destination)
        raise


def _missing(move: Move) -> Outcome:
    """The source vanished; or is it the destination folder that did?"""
    if descent.look(move.source) is None:
        return Outcome.GONE
    raise FileNotFoundError(errno.ENOENT, "The folder is missing", str(move.destination.parent))


def _disappear(move: Move, before: os.stat_result | None) -> Outcome:
    """Remove the source as it was before; what has taken its name since is another story.

    If it was written to in place meanwhile, or may not be removed, the destination goes instead.
    """
    outcome = Outcome.DONE
    now = descent.look(move.source)
    if before is not None and now is not None and os.path.samestat(before, now):
        if identity(now) != move.identity:
            outcome = Outcome.GONE
        else:
            try:
                descent.unlink(move.source)
            except PermissionError:
                outcome = Outcome.STUCK
    if outcome is not Outcome.DONE:
        descent.unlink(move.destination)
    return outcome


def _has_content(move: Move) -> bool:
    """Whether the file at the destination is the one that is meant."""
    there = regular(move.destination)
    if there is None:
        return False
    found = identity(there)
    if move.sha256 is None:
        return found == move.identity
    same_size = found.size_bytes == move.identity.size_bytes
    return same_size and content_hash(move.destination) == move.sha256


def _require(move: Move) -> None:
    """Unless its folder is there nothing can be told of a move: the file may be on a missing disk.

    Raises:
        FileNotFoundError: it is not.
    """
    root = str(move.root)
    try:
        with descent.opened(move.root):
            pass
    except NotADirectoryError:
        reason = "A link or a file has taken its place"
        raise FileNotFoundError(errno.ENOENT, reason, root) from None
    if move.on_mount and not move.root.is_mount():
        raise FileNotFoundError(errno.ENOENT, "Its disk is not mounted", root)


def _is_writable(folder: Path) -> bool:
    with descent.opened(folder) as descriptor:
        return os.access(".", os.W_OK | os.X_OK, dir_fd=descriptor, effective_ids=True)


def _made_for(move: Move) -> Iterator[Path]:
    """The folders that may be new: a file is as durable as the names on the way to it."""
    folder = move.destination.parent
    yield folder
    while folder != move.root and folder.is_relative_to(move.root):
        folder = folder.parent
        yield folder


def _sync_folders(folders: Iterable[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            descent.sync(folder)
