"""What lies below a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path


def walk(
    folder: Path,
    *,
    recursive: bool = True,
    skip: Callable[[str], bool] = lambda name: False,
    on_error: Callable[[Path, OSError], None] = lambda folder, error: None,
) -> Iterator[os.DirEntry[str]]:
    """All below it that is no folder and has no name to `skip`, in no order; never through a link.

    `on_error` is told of each folder that cannot be listed.
    """
    folders = [folder]
    while folders:
        here = folders.pop()
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    if skip(entry.name):
                        continue
                    if not entry.is_dir(follow_symlinks=False):
                        yield entry
                    elif recursive:
                        folders.append(Path(entry.path))
        except OSError as error:
            on_error(here, error)
