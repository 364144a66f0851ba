"""Is it still the same file? What tells, of all that the system knows of one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from daemon import descent

LARGEST = 2**63 - 1
"""What databases take; file systems know times beyond the year 2262, which is more."""


class Identity(NamedTuple):
    """A file's size in bytes and its modification time in nanoseconds since 1970."""

    size_bytes: int
    mtime_ns: int


def identity(found: os.stat_result) -> Identity:
    """Of a file that was looked at; two that differ show that it was changed between."""
    return Identity(found.st_size, max(-LARGEST, min(found.st_mtime_ns, LARGEST)))


def content_hash(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex; never through a link."""
    with open(descent.open_file(path, os.O_RDONLY), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
