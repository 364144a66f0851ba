"""What lies in folders; needs nothing but Python."""

from __future__ import annotations

import os
from pathlib import Path


def files(*folders: Path) -> list[Path]:
    """All files below them, but those that moodsort has not finished."""
    return [
        Path(base) / name
        for folder in folders
        for base, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".moodsort")
    ]
