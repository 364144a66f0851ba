"""The images of an archive once more, by what they are taken for: as hard links, without copies."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from daemon.bulk.judge import PATH, PROBLEM
from daemon.bulk.places import Place, reason, require_outside
from daemon.errors import ServiceError

Row = dict[str, Any]


class Links:
    """`happy/`, `sad/`, `unsure/` and `failed/` below a folder, as deep as the archive is.

    Nothing is moved, and nothing there is replaced.
    """

    def __init__(self, archive: Place, folder: Place) -> None:
        """Make the folder if need be.

        Raises:
            ServiceError: there can be no links from it to what lies in the archive.
        """
        if not archive.folder or not folder.folder:
            raise ServiceError(
                f"Links are between folders, and not between {archive.name} and {folder.name}."
            )
        require_outside(archive, folder, "folder for links")
        try:
            folder.folder.mkdir(parents=True, exist_ok=True)
            apart = folder.folder.stat().st_dev != archive.folder.stat().st_dev
        except OSError as error:
            raise ServiceError(f"{folder.name} cannot be made: {reason(error)}.") from None
        if apart:
            raise ServiceError(
                f"{folder.name} is on another disk than {archive.name}, and links need one disk."
            )
        self._archive, self._folder = archive.folder, folder.folder

    def add(self, row: Row) -> Row:
        """A row of `Judge` with where its image is linked now; PROBLEM says why it is not."""
        image = Path(os.fsdecode(row[PATH]))
        link = self._folder / (row["label"] or "failed") / image.relative_to(self._archive)
        try:
            _link(image, link)
        except FileExistsError:
            return row | {PROBLEM: f"{link} exists already, and is not replaced."}
        except OSError as error:
            return row | {PROBLEM: f"It cannot be linked to {link}: {reason(error)}."}
        return row | {
            "destination_path": str(link),
            "filed_at": datetime.now(UTC),
            "state": "filed" if row["label"] else "failed",
        }


def _link(image: Path, link: Path) -> None:
    """Raises FileExistsError where there is another file of that name."""
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(image, link, follow_symlinks=False)
    except FileExistsError:
        if not os.path.samefile(image, link):  # It may be from before an interruption.
            raise
