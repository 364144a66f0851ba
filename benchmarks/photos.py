"""JPEG photos to measure with: given ones, or drawn ones of about the same cost."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from PIL import Image

from tests.faces import MOODS, draw_face

SIZE = (1200, 800)
"""About a megapixel."""
QUALITY = 88
"""With the noise below, that makes about 110 kB."""
DRAWN = 60
LEAST_BYTES = 10_000
"""A smaller file is no photo."""


def photos(folder: Path | None, drawn: Path) -> list[Path]:
    """The JPEG photos below `folder`; without one, DRAWN photos that are drawn into `drawn`."""
    if folder is None:
        return [_draw(drawn / f"{seed}.jpg", seed) for seed in range(DRAWN)]
    suffixes = (".jpg", ".jpeg")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
    return [path for path in files if path.stat().st_size > LEAST_BYTES]


def crop(path: Path, seed: int) -> Path:
    """A face of 48 pixels, as small as files are that people sort by the hundred thousand."""
    face = draw_face(random.Random(seed), MOODS[seed % 2], (48, 48))
    face.convert("L").save(path, "JPEG", quality=90)
    return path


def _draw(path: Path, seed: int) -> Path:
    """Up to four faces before something that is as hard to decode as a real background."""
    rng = random.Random(seed)
    image = Image.fromarray(_background(seed))
    for number in range(rng.randint(0, 4)):
        side = rng.randint(100, 320)
        place = rng.randint(0, SIZE[0] - side), rng.randint(0, SIZE[1] - side)
        image.paste(draw_face(rng, MOODS[number % 2], (side, side)), place)
    image.save(path, "JPEG", quality=QUALITY)
    return path


def _background(seed: int) -> np.ndarray:
    """Noise of all scales, as photos have it: uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    total = np.full((SIZE[1], SIZE[0], 3), 128, np.float32)
    for step in (200, 50, 10, 2):
        cells = rng.normal(0, 8 * np.sqrt(step / 10), (SIZE[1] // step, SIZE[0] // step, 3))
        for channel in range(3):
            plane = Image.fromarray(cells[..., channel].astype(np.float32))
            total[..., channel] += np.asarray(plane.resize(SIZE, Image.Resampling.BICUBIC))
    return total.clip(0, 255).astype(np.uint8)
