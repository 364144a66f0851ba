"""Draw cartoon faces, happy and sad: samples for a first run, and images for the tests.

    python -m tests.faces FOLDER [--count N] [--seed S] [--flat]

makes FOLDER/happy and FOLDER/sad with N faces each; with --flat all lie in FOLDER itself.
"""

from __future__ import annotations

import argparse
import colorsys
import random
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

MOODS = ("happy", "sad")
OVERSAMPLING = 3
Color = tuple[int, int, int]


def draw_face(rng: random.Random, mood: str, size: tuple[int, int] = (240, 240)) -> Image.Image:
    """One face as RGB of `size` (width, height); another one at each call."""
    width, height = (side * OVERSAMPLING for side in size)
    image = Image.new("RGB", (width, height), _color(rng, (0.1, 0.5), (0.35, 1.0)))
    side = min(width, height)
    look = _Look(
        draw=ImageDraw.Draw(image),
        rng=rng,
        x=width / 2 + rng.uniform(-0.04, 0.04) * side,
        y=height / 2 + rng.uniform(-0.02, 0.05) * side,
        r=side * rng.uniform(0.36, 0.46),
        skin=_skin(rng),
        ink=_color(rng, (0.2, 0.7), (0.08, 0.25)),
        pen=side * rng.uniform(0.012, 0.024),
    )
    _head(look)
    _eyes(look, mood)
    _brows(look, mood)
    _nose(look)
    _mouth(look, mood)
    # Shrunk before it is turned and blurred, it takes a fifth of the time and looks the same.
    image = image.resize(size, Image.Resampling.LANCZOS)
    image = image.rotate(rng.uniform(-8, 8), Image.Resampling.BICUBIC, fillcolor=look.skin)
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 3.0) / OVERSAMPLING))


@dataclass
class _Look:
    """A face being drawn: where, how large, in which colours."""

    draw: ImageDraw.ImageDraw
    rng: random.Random
    x: float
    y: float
    r: float
    skin: Color
    ink: Color
    pen: float

    def box(self, x: float, y: float, rx: float, ry: float) -> tuple[float, float, float, float]:
        """Around a point given in face radii from the centre."""
        cx, cy = self.x + x * self.r, self.y + y * self.r
        return (cx - rx * self.r, cy - ry * self.r, cx + rx * self.r, cy + ry * self.r)

    def line(self, *points: tuple[float, float], scale: float = 1.0) -> None:
        """Through points given in face radii."""
        xy = [(self.x + x * self.r, self.y + y * self.r) for x, y in points]
        self.draw.line(xy, self.ink, round(self.pen * scale), joint="curve")


def _head(look: _Look) -> None:
    rng = look.rng
    hair = _color(rng, (0.2, 0.8), (0.1, 0.6))
    tall = rng.uniform(1.05, 1.25)
    if rng.random() < 0.6:
        look.draw.ellipse(look.box(0, -0.15, 1.1, tall * 1.05), hair)
    look.draw.ellipse(look.box(-0.95, 0.05, 0.14, 0.2), look.skin, look.ink, round(look.pen))
    look.draw.ellipse(look.box(0.95, 0.05, 0.14, 0.2), look.skin, look.ink, round(look.pen))
    look.draw.ellipse(look.box(0, 0, 0.95, tall), look.skin, look.ink, round(look.pen))
    if rng.random() < 0.7:
        look.draw.chord(look.box(0, 0, 0.95, tall), 205, 335, hair)


def _eyes(look: _Look, mood: str) -> None:
    rng = look.rng
    apart, y = rng.uniform(0.3, 0.42), rng.uniform(-0.25, -0.1)
    style = rng.choice(("dots", "open", "open", "closed" if mood == "happy" else "low"))
    for x in (-apart, apart):
        if style == "dots":
            look.draw.ellipse(look.box(x, y, 0.08, 0.11), look.ink)
        elif style == "closed":
            look.draw.arc(look.box(x, y + 0.08, 0.17, 0.16), 195, 345, look.ink, round(look.pen))
        else:
            look.draw.ellipse(look.box(x, y, 0.19, 0.14), "white", look.ink, round(look.pen * 0.7))
            down = 0.05 if mood == "sad" else 0.0
            look.draw.ellipse(look.box(x, y + down, 0.085, 0.085), look.ink)
            if style == "low":
                look.draw.chord(look.box(x, y, 0.2, 0.16), 180, 360, look.skin, look.ink)
    if mood == "sad" and rng.random() < 0.3:
        look.draw.ellipse(look.box(apart, y + 0.3, 0.06, 0.11), (120, 180, 235))


def _brows(look: _Look, mood: str) -> None:
    rng = look.rng
    if rng.random() < 0.15:
        return
    y = rng.uniform(-0.5, -0.42)
    # Sadness draws the inner ends of the brows up (action unit 1 of Ekman and Friesen's FACS).
    inner = -0.13 if mood == "sad" else rng.uniform(-0.02, 0.05)
    bow = 0.0 if mood == "sad" else -0.07
    for side in (-1, 1):
        look.line(
            (side * 0.56, y + 0.04), (side * 0.36, y + bow), (side * 0.16, y + inner), scale=1.4
        )


def _nose(look: _Look) -> None:
    width = look.rng.uniform(0.05, 0.1)
    look.line((0.0, -0.08), (width, 0.16), (-width * 0.6, 0.18), scale=0.7)


def _mouth(look: _Look, mood: str) -> None:
    rng = look.rng
    wide, deep = rng.uniform(0.34, 0.55), rng.uniform(0.18, 0.34)
    pen = round(look.pen * 1.2)
    if mood == "sad":
        look.draw.arc(look.box(0, 0.75, wide * 0.9, deep), 200, 340, look.ink, pen)
    elif rng.random() < 0.5:
        look.draw.chord(look.box(0, 0.4, wide, deep * 1.4), 8, 172, "white", look.ink, pen)
    else:
        look.draw.arc(look.box(0, 0.38, wide, deep * 1.3), 15, 165, look.ink, pen)


def _skin(rng: random.Random) -> Color:
    light = rng.uniform(0.35, 0.98)
    return _rgb(rng.uniform(0.04, 0.1), rng.uniform(0.25, 0.55), light)


def _color(
    rng: random.Random, saturation: tuple[float, float], value: tuple[float, float]
) -> Color:
    return _rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))


def _rgb(hue: float, saturation: float, value: float) -> Color:
    r, g, b = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(r * 255), round(g * 255), round(b * 255)


def draw_folder(folder: Path, count: int, seed: int, *, flat: bool = False) -> list[Path]:
    """`count` faces of each mood as JPEG files; a file that is there already is kept."""
    paths = []
    for mood in MOODS:
        rng = random.Random(f"{mood}-{seed}")
        home = folder if flat else folder / mood
        home.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            face = draw_face(rng, mood)
            path = home / f"drawn-{mood}-{seed}-{number:04}.jpg"
            if not path.exists():
                face.save(path, quality=88)
            paths.append(path)
    return paths


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=10, help="faces of each mood")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--flat", action="store_true", help="no folder per mood")
    args = parser.parse_args()
    paths = draw_folder(args.folder, args.count, args.seed, flat=args.flat)
    print(f"{len(paths)} drawn faces in {args.folder}")  # noqa: T201


if __name__ == "__main__":
    main()
