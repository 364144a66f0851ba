"""One line an event, as key=value or as JSON; under systemd with the priority that it asks for."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import click

from db.text import one_line, printable

TEXT, JSON = FORMATS = ("text", "json")

TIME = "%Y-%m-%dT%H:%M:%S%z"

STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}
"""Levels of syslog(3) by those of Python."""


class KeyValueFormatter(logging.Formatter):
    """What the pattern says, then key=value for what came as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Values with spaces or quotes are quoted as in JSON."""
        record.message = record.getMessage()
        if self.usesTime():
            record.asctime = self.formatTime(record, self.datefmt)
        pairs = (f"{key}={_quoted(text)}" for key, text in _about(record))
        return " ".join([one_line(self.formatMessage(record)), *pairs])


class JsonFormatter(logging.Formatter):
    """One object: time, level, message, and what came as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Values are text, but for numbers."""
        event = {
            "time": self.formatTime(record, TIME),
            "level": record.levelname,
            "message": record.getMessage(),
        }
        return json.dumps(event | dict(_about(record)))


class JournalFormatter(logging.Formatter):
    """A line for journald, which keeps the time itself and takes the priority from its start."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """`<4>` and the line."""
        return f"<{PRIORITIES.get(record.levelno, 6)}>{self._inner.format(record)}"


class EchoHandler(logging.Handler):
    """Writes to what standard output is at that moment, also above a live line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record; that nobody reads any more must not end the service."""
        with contextlib.suppress(OSError):
            click.echo(self.format(record))


def set_up(level: int, log_format: str) -> None:
    """Send the service's log records from `level` on, and others' warnings, to standard output."""
    handler = EchoHandler()
    handler.setFormatter(_formatter(log_format, journal=goes_to_journal(sys.stdout, os.environ)))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("daemon").setLevel(level)


def goes_to_journal(stream: TextIO | None, environ: Mapping[str, str]) -> bool:
    """Whether journald reads a stream: systemd.exec(5), JOURNAL_STREAM."""
    try:
        found = os.fstat(stream.fileno()) if stream else None
    except (OSError, ValueError):
        return False
    return found is not None and environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _formatter(log_format: str, *, journal: bool) -> logging.Formatter:
    if log_format == JSON:
        plain: logging.Formatter = JsonFormatter()
    else:
        pattern = "%(levelname)s %(message)s"
        plain = KeyValueFormatter(pattern if journal else f"%(asctime)s {pattern}", TIME)
    return JournalFormatter(plain) if journal else plain


def _about(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    """What came as `extra`, and the traceback if there is one."""
    for key, value in vars(record).items():
        if key not in STANDARD_ATTRIBUTES:
            yield key, _plain(value)
    if record.exc_info:
        yield "traceback", logging.Formatter().formatException(record.exc_info)


def _plain(value: object) -> object:
    if isinstance(value, (int, float)):
        return value
    return printable(value) if isinstance(value, Path) else str(value)


def _quoted(value: object) -> str:
    text = str(value)
    plain = text.isprintable() and not set(text) & set(" \"'=")
    return text if plain and text else json.dumps(text)
