"""Image files -> photos -> verdicts."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from daemon import descent
from daemon.identity import Identity, identity
from daemon.settling import has_writer, regular
from trainer.bundle import Bundle, Verdict
from trainer.errors import ImageError
from trainer.image import DecodedImage, View, decode

MAX_BYTES = 256 * 1024**2
"""A larger file is refused unread: no photo is, and each worker holds one in memory."""


class Unsettled(Exception):
    """The file changed while it was read, is being written, or is gone: no image to judge now."""


@dataclass(frozen=True)
class Photo:
    """A file that was read: which bytes it had and what decoding them gave.

    `sha256` is in hex, None where the file could not be read or was too large to be.
    """

    path: Path
    identity: Identity
    sha256: str | None
    outcome: DecodedImage | ImageError

    def without_pixels(self) -> Photo:
        """The same, without what only the networks need: that is a megabyte or more."""
        if isinstance(self.outcome, ImageError):
            return self
        return replace(self, outcome=self.outcome.without_pixels())


def read(path: Path, view: View) -> Photo:
    """Read and decode one file; an image that cannot be decoded is an outcome, not an error.

    Raises:
        Unsettled: it is gone, no regular file, or being changed.
    """
    return _examine(path, partial(decode, view=view))


def refuse(path: Path, reason: ImageError) -> Photo:
    """A file whose image is not decoded, for a reason that is known before.

    Raises:
        Unsettled: as `read`.
    """

    def decoded(data: bytes) -> DecodedImage:
        raise reason

    return _examine(path, decoded)


def judge(bundle: Bundle, photos: Sequence[Photo]) -> list[Verdict | ImageError]:
    """One verdict a photo, in order; what made a photo undecodable stands in its place."""
    images = [p.outcome for p in photos if isinstance(p.outcome, DecodedImage)]
    verdicts = iter(bundle.classify(images))
    return [p.outcome if isinstance(p.outcome, ImageError) else next(verdicts) for p in photos]


def _examine(path: Path, decoded: Callable[[bytes], DecodedImage]) -> Photo:
    try:
        descriptor = descent.open_file(path, os.O_RDONLY)
    except OSError as error:
        return _unreadable(path, error)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode) or has_writer(descriptor):
            raise Unsettled
        digest, outcome = _read(descriptor, before.st_size, decoded)
        after = os.fstat(descriptor)
    except OSError as error:
        return _unreadable(path, error)
    finally:
        os.close(descriptor)
    if identity(before) != identity(after):
        raise Unsettled
    return Photo(path, identity(after), digest, outcome)


def _read(
    descriptor: int, size: int, decoded: Callable[[bytes], DecodedImage]
) -> tuple[str | None, DecodedImage | ImageError]:
    if size > MAX_BYTES:
        limit = MAX_BYTES // 1024**2
        return None, ImageError("too_large", f"The file is larger than {limit} MiB.")
    with open(descriptor, "rb", closefd=False) as file:
        data = file.read()
    digest = hashlib.sha256(data).hexdigest()
    try:
        return digest, decoded(data)
    except ImageError as error:
        return digest, error


def _unreadable(path: Path, error: OSError) -> Photo:
    """With what can be known of a file that cannot be opened or read."""
    found = regular(path)
    if found is None:
        raise Unsettled from None
    reason = ImageError("unreadable", f"The file cannot be read: {error.strerror}.")
    return Photo(path, identity(found), None, reason)
