"""Names from the outside world, made safe to store and to show."""

from __future__ import annotations

import os
from pathlib import Path


def one_line(text: str) -> str:
    """The text with what a terminal could take for a command (controls, bidi marks) as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable(path: Path) -> str:
    r"""A path as text that every database stores; bytes that are no UTF-8 become `\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
