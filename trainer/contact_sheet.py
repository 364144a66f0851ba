"""Many images at a glance: small pictures with captions on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from trainer.errors import DataError, ImageError
from trainer.image import InputSpec, decode

THUMBNAIL = InputSpec(120, 120, 3)
LETTERS = 20
"""Characters of a line that fit below a tile, however large it is."""
COLUMNS = 8
MOST = 400
"""Tiles on a sheet; what is beyond is not shown."""


@dataclass(frozen=True)
class Tile:
    """A picture with two short lines below it: a word on it, and its name."""

    picture: Image.Image
    word: str
    name: str


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
    return arrange([Tile(_thumbnail(path), word, path.name) for path, word in items[:MOST]])


def arrange(tiles: Sequence[Tile]) -> Image.Image:
    """A sheet of `tiles`, `COLUMNS` in a row; their pictures are all of one size."""
    width, height = tiles[0].picture.size if tiles else (THUMBNAIL.width, THUMBNAIL.height)
    font = ImageFont.load_default(width / 12)
    line = width // 10
    step = height + 2 * line + 4
    rows = max(1, -(-len(tiles) // COLUMNS))
    sheet = Image.new("RGB", (COLUMNS * width, rows * step), "white")
    pen = ImageDraw.Draw(sheet)
    for number, tile in enumerate(tiles):
        x = number % COLUMNS * width
        y = number // COLUMNS * step
        sheet.paste(tile.picture, (x, y))
        name = tile.name.encode("ascii", "replace").decode()
        pen.text((x + 2, y + height + 1), tile.word[:LETTERS], "darkred", font)
        pen.text((x + 2, y + height + 1 + line), name[:LETTERS], "black", font)
    return sheet


def _thumbnail(path: Path) -> Image.Image:
    try:
        return Image.fromarray(decode(path.read_bytes(), THUMBNAIL).pixels)
    except (ImageError, OSError):
        return Image.new("RGB", (THUMBNAIL.width, THUMBNAIL.height), "lightgray")
