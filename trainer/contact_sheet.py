"""Many images at a glance: small pictures with captions on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from trainer.errors import DataError, ImageError
from trainer.faces import Box
from trainer.image import InputSpec, View, decode

THUMBNAIL = InputSpec(120, 120, 3)
LETTERS = 20
"""Characters of a line that fit below a tile, however large it is."""
COLUMNS = 8
MOST = 400
"""Tiles on a sheet; what is beyond is not shown."""


@dataclass(frozen=True)
class Item:
    """An image file, a word on it, and what of it is to be framed."""

    path: Path
    word: str
    boxes: Sequence[Box] = ()


@dataclass(frozen=True)
class Tile:
    """A picture with two short lines below it: a word on it, and its name."""

    picture: Image.Image
    word: str
    name: str


def save(items: Sequence[Item], to: Path) -> None:
    """Draw the files, each with a word, and save the sheet in the format of its suffix.

    Raises:
        DataError: it cannot be written, or the suffix means no format.
    """
    sheet = draw(items)
    try:
        sheet.save(to)
    except (OSError, ValueError) as error:
        raise DataError(f"The sheet {to} cannot be written: {error}.") from None


def draw(items: Sequence[Item]) -> Image.Image:
    """A sheet of the first `MOST` files, each with its name and a word; gray if undecodable."""
    return arrange([Tile(_thumbnail(item), item.word, item.path.name) for item in items[:MOST]])


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


def _thumbnail(item: Item) -> Image.Image:
    try:
        image = decode(item.path.read_bytes(), View(THUMBNAIL))
    except (ImageError, OSError):
        return Image.new("RGB", (THUMBNAIL.width, THUMBNAIL.height), "lightgray")
    picture = Image.fromarray(image.pixels)
    pen = ImageDraw.Draw(picture)
    across, down = THUMBNAIL.width / image.width, THUMBNAIL.height / image.height
    for box in item.boxes:
        right, bottom = box.x + box.width, box.y + box.height
        pen.rectangle((box.x * across, box.y * down, right * across, bottom * down), outline="red")
    return picture
