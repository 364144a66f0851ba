"""Where a file is to go: a printable name that is free."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

LONGEST_NAME = 255
"""Bytes in a file name, on all common file systems."""

BIDI_CONTROLS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Marks that can make a name read as another (Unicode Standard Annex 9)."""


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
    left = {id: _candidates(_around_files(path, id), id) for id, path in wanted}
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


def _around_files(wanted: Path, id: int) -> Path:
    """The same with another folder, where a file has the name of a folder on the way."""
    for folder in wanted.parents:
        if os.path.lexists(folder):
            if folder.is_dir():
                return wanted
            other = folder.with_name(_shorten(folder.name, f"-{id}"))
            return _around_files(other / wanted.relative_to(folder), id)
    return wanted


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
