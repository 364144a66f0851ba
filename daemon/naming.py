"""Where a file is to go: a printable name that is free."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Wanted:
    """The path that the file of a row is to get, in a destination folder of the configuration."""

    id: int
    root: Path
    path: Path


def choose_destinations(
    wanted: Sequence[Wanted], taken: Callable[[Sequence[Path]], set[Path]]
) -> dict[int, Path]:
    """A free path by id: the wanted one, or one with the id in its name.

    `taken` tells which of some paths the database knows already, even if no file is there now.
    """
    chosen: dict[int, Path] = {}
    left = {one.id: _candidates(_around_files(one), one.id) for one in wanted}
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


def _around_files(wanted: Wanted) -> Path:
    """The same with another folder, where a file or a link has the name of a folder on the way."""
    here = wanted.root
    for part in wanted.path.relative_to(here).parts[:-1]:
        here = next(
            path for path in _candidates(here / part, wanted.id) if not _is_in_the_way(path)
        )
    return here / wanted.path.name


def _is_in_the_way(path: Path) -> bool:
    return path.is_symlink() or (path.exists() and not path.is_dir())


def _clean_part(name: str) -> str:
    text = os.fsencode(name).decode("utf-8", "replace").replace("\ufffd", "_")
    if text.isprintable():  # Nearly all are, and then none of these is in them.
        return text
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
