"""What lies below a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from daemon import descent


@dataclass(frozen=True)
class Found:
    """Something that is no folder; `regular`: nor a link, FIFO, socket or device."""

    path: Path
    regular: bool


def walk(
    folder: Path,
    *,
    recursive: bool = True,
    skip: Callable[[str], bool] = lambda name: False,
    on_folder: Callable[[Path], None] = lambda folder: None,
    on_error: Callable[[Path, OSError], None] = lambda folder, error: None,
) -> Iterator[Found]:
    """All below it that is no folder and has no name to `skip`, in no order; never through a link.

    `on_folder` is told of each folder before it is listed, `on_error` of each that cannot be.
    """
    folders = [folder]
    while folders:
        here = folders.pop()
        on_folder(here)
        try:
            with descent.listed(here) as descriptor, os.scandir(descriptor) as entries:
                for entry in entries:
                    if skip(entry.name):
                        continue
                    path = here / entry.name
                    if not entry.is_dir(follow_symlinks=False):
                        yield Found(path, entry.is_file(follow_symlinks=False))
                    elif recursive:
                        folders.append(path)
        except OSError as error:
            on_error(here, error)
