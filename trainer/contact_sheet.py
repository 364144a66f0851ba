"""Many images at a glance: small pictures with captions on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from trainer.errors import DataError, ImageError
from trainer.image import InputSpec, decode

TILE = InputSpec(120, 120, 3)
CAPTION = 28
"""Pixels below a tile, for two lines."""
LETTERS = 20
"""Characters of the default font that fit below a tile."""
COLUMNS = 8
MOST = 400
"""Tiles on a sheet; what is beyond is not shown."""


def save(items: Sequence[tuple[Path, str]], to: Path) -> None:
    """Draw the files, each with a word, and save the sheet in the format of its suffix.

    Raises:
        DataError: it cannot be written, or the suffix means no format.
    """
    sheet = draw(items)
    try:
        sheet.save(to)
    except (OSError, ValueError) as error:
        raise DataError(f"The sheet {to} cannot be written: {error}.") from None


def draw(items: Sequence[tuple[Path, str]]) -> Image.Image:
    """A sheet of the first `MOST` files, each with its name and a word; gray if undecodable."""
    shown = items[:MOST]
    rows = max(1, -(-len(shown) // COLUMNS))
    sheet = Image.new("RGB", (COLUMNS * TILE.width, rows * (TILE.height + CAPTION)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (path, word) in enumerate(shown):
        x = number % COLUMNS * TILE.width
        y = number // COLUMNS * (TILE.height + CAPTION)
        sheet.paste(_thumbnail(path), (x, y))
        name = path.name.encode("ascii", "replace").decode()
        pen.text((x + 2, y + TILE.height + 1), word[:LETTERS], "darkred")
        pen.text((x + 2, y + TILE.height + 13), name[:LETTERS], "black")
    return sheet


def _thumbnail(path: Path) -> Image.Image:
    try:
        return Image.fromarray(decode(path.read_bytes(), TILE).pixels)
    except (ImageError, OSError):
        return Image.new("RGB", (TILE.width, TILE.height), "lightgray")
