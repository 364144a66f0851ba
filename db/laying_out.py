"""Corrected images -> a data set: a folder for each class."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from db.errors import ExportError


@dataclass(frozen=True)
class LaidOut:
    """How many images have been laid out, and how many were not where their rows say."""

    images: int
    missing: int


def lay_out(rows: Iterable[dict[str, Any]], folder: Path) -> LaidOut:
    """Link the images of corrected rows below the folder, or copy them, by what a person said.

    Links are hard: they take no room, and last when the image is moved or removed. Where two have
    one name, the second has the number of its row for a name.

    Raises:
        ExportError: the folder holds something already.
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ExportError(f"{folder} is not empty. Name a new folder, or empty this one.")
    done = missing = 0
    for row in rows:
        image = Path(row["destination_path"])
        home = folder / row["corrected_label"]
        home.mkdir(exist_ok=True)
        try:
            _put(image, _names(home, image, row["id"]))
            done += 1
        except FileNotFoundError:
            missing += 1
    return LaidOut(done, missing)


def _names(home: Path, image: Path, id: int) -> Iterator[Path]:
    yield home / image.name
    suffix = image.suffix[:16]  # Together they are no name that is too long.
    yield home / f"{id}{suffix}"
    for n in count(2):
        yield home / f"{id}-{n}{suffix}"


def _put(image: Path, names: Iterator[Path]) -> None:
    for name in names:
        with contextlib.suppress(FileExistsError):
            _link_or_copy(image, name)
            return


def _link_or_copy(image: Path, name: Path) -> None:
    try:
        os.link(image, name, follow_symlinks=False)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:  # another disk, or one without links
        with open(image, "rb") as source, open(name, "xb") as copy:
            shutil.copyfileobj(source, copy)
        shutil.copystat(image, name)
