"""Names from the outside world, made safe to store and to show; and times."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path

PASSWORD = re.compile(r"(?<=://)(?P<user>[^:/@]*):.*@|(?P<key>[?&][a-z]*password=)[^&]*")
"""In a database URL, also in one that is malformed."""


def without_password(database: str) -> str:
    """The path or URL of a database as it may be shown."""
    return PASSWORD.sub(lambda m: m["key"] + "***" if m["key"] else m["user"] + ":***@", database)


def one_line(text: str) -> str:
    """The text with what a terminal could take for a command (controls, bidi marks) as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def original(text: str, raw: bytes | None) -> Path:
    """The path of which a row keeps the printable text and, where that is another, the bytes."""
    return Path(os.fsdecode(text.encode() if raw is None else raw))


def printable(path: Path) -> str:
    r"""A path as text that every database stores; bytes that are no UTF-8 become `\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_text(path: Path) -> bool:
    """Whether a database takes it as it is."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def utc(moment: datetime) -> str:
    """A time as programs take it: in UTC, ISO 8601."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def local(moment: datetime) -> str:
    """A time as people here have it."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
