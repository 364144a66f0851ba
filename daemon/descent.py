"""Files by paths that are taken part by part, and never through a link.

The folders of the configuration are resolved once, at the start. From then on a link on the way
is a mistake or a trap, also one that takes the name of a folder between two looks at it: so each
folder is opened in the one above, and none is followed. Paths are absolute.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path

STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
ALWAYS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

NEW_FOLDER = 0o775
"""The permissions of a folder that is made, less the umask: not everybody may write there."""

RENAME_NOREPLACE = 1
"""For renameat2(2), which Python does not offer."""

MOST_KEPT = 64
"""Folders that are kept open at a time; a process may often have but 1,024 files open."""


@contextmanager
def keeping() -> Iterator[None]:
    """Within, and on this thread, each folder is walked to but once: for some files at a time.

    What is done to a path is then done in the folder that was there when it was first walked to.
    """
    kept = _Kept()
    token = _kept.set(kept)
    try:
        yield
    finally:
        _kept.reset(token)
        kept.close()


class _Kept:
    """Descriptors of folders, the one used last at the end."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def descriptor(self, folder: str, make_below: Path | None) -> int:
        descriptor = self._open.pop(folder, None)
        if descriptor is None:
            descriptor = _descend(folder, make_below)
        self._open[folder] = descriptor
        if len(self._open) > MOST_KEPT:
            os.close(self._open.pop(next(iter(self._open))))
        return descriptor

    def close(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)


_kept: ContextVar[_Kept | None] = ContextVar("_kept", default=None)


def opened(folder: str | Path, *, make_below: Path | None = None) -> AbstractContextManager[int]:
    """A descriptor of the folder, in which names can be looked up.

    Folders below `make_below` are made where they are missing.

    Raises:
        FileNotFoundError: it is missing.
        NotADirectoryError: a file or a link is on the way, or `..`.
        OSError: it may not be entered or made.
    """
    # Of each file that is filed, ten names are looked up: text is compared faster than paths are.
    name = str(folder)
    kept = _kept.get()
    try:
        if kept:
            return nullcontext(kept.descriptor(name, make_below))
        return _closing(_descend(name, make_below))
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from None


@contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def listed(folder: Path) -> Iterator[int]:
    """A descriptor of the folder that can also be listed and synced.

    Raises:
        OSError: as `opened`, and if it may not be read.
    """
    with opened(folder) as above:
        descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=above)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def look(path: Path) -> os.stat_result | None:
    """What lies there, be it a link; None for nothing, and where a link is on the way."""
    above, name = os.path.split(path)
    try:
        with opened(above) as folder:
            return os.lstat(name, dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError):
        return None


def open_file(path: Path, flags: int, mode: int = 0o600) -> int:
    """A descriptor as from os.open(); no link is followed, and no FIFO waited for.

    Raises:
        OSError: as os.open() and `opened`.
    """
    above, name = os.path.split(path)
    with opened(above) as folder:
        return os.open(name, flags | ALWAYS, mode, dir_fd=folder)


def unlink(path: Path) -> None:
    """As os.unlink()."""
    above, name = os.path.split(path)
    with opened(above) as folder:
        os.unlink(name, dir_fd=folder)


def link(path: Path, new: Path) -> None:
    """As os.link()."""
    (above, name), (above_new, new_name) = os.path.split(path), os.path.split(new)
    with opened(above) as source, opened(above_new) as destination:
        os.link(name, new_name, src_dir_fd=source, dst_dir_fd=destination, follow_symlinks=False)


def rename(path: Path, new: Path) -> None:
    """As os.rename(), which replaces what has the new name."""
    (above, name), (above_new, new_name) = os.path.split(path), os.path.split(new)
    with opened(above) as source, opened(above_new) as destination:
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=destination)


def rename_to_free(path: Path, new: Path) -> None:
    """Rename in one step, and only if the new name is free.

    Raises:
        FileExistsError: it is not.
        OSError: as os.rename(); EINVAL or ENOSYS where the system or the file system cannot.
    """
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(new))
    (above, name), (above_new, new_name) = os.path.split(path), os.path.split(new)
    names = os.fsencode(name), os.fsencode(new_name)
    with opened(above) as source, opened(above_new) as destination:
        if call(source, names[0], destination, names[1], RENAME_NOREPLACE):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(new))


def sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    with listed(folder) as descriptor:
        os.fsync(descriptor)


def require_unmoved(folder: Path) -> None:
    """Unless the folder that is kept open is still the one that the path leads to.

    Raises:
        FileNotFoundError: it was moved away or removed since it was walked to.
    """
    with opened(folder) as descriptor:
        kept = os.fstat(descriptor)
    try:
        descriptor = _descend(str(folder), None)
    except (FileNotFoundError, NotADirectoryError):
        now = None
    else:
        now = os.fstat(descriptor)
        os.close(descriptor)
    if now is None or not os.path.samestat(kept, now):
        raise FileNotFoundError(errno.ENOENT, "The folder was moved away", str(folder))


def _descend(folder: str, make_below: Path | None) -> int:
    top, *names = Path(folder).parts
    fixed = len(make_below.parts) if make_below else len(names) + 1
    descriptor = os.open(top, STEP)
    for depth, name in enumerate(names, 1):
        try:
            below = _enter(descriptor, name, make=depth >= fixed)
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


def _enter(above: int, name: str, *, make: bool) -> int:
    if name == "..":
        raise NotADirectoryError(errno.ENOTDIR, "The path leads back up")
    if make:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, NEW_FOLDER, dir_fd=above)
    return os.open(name, STEP, dir_fd=above)
