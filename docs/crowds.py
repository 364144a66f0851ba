"""Compose photos of crowds from other photos, and measure how many of their faces are found.

python docs/crowds.py HEADS… --photos PHOTOS

HEADS are folders of images from which heads are cut, PHOTOS of what is to be seen behind them. Half
of the people and of the photos serve to train (docs/train_spotter.py), the other half to measure.
"""

from __future__ import annotations

import io
import math
import random
import re
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from trainer import bundle
from trainer.crowds import LARGER
from trainer.detection import Detector, Found, merge, overlaps
from trainer.errors import ImageError
from trainer.faces import FaceLimits
from trainer.finding import FaceFinder
from trainer.image import DecodedImage, InputSpec, View, decode
from trainer.judging import FaceJudge

FACES = 30
"""In a photo that is measured, if there is room for so many."""

BEHIND = 0.1
"""Largest face behind them, in sides of the photo, the longer: who has found a larger one need not
look for smaller ones."""

SIDES = (24, 28, 32, 40, 56, 80)
"""Of the faces that are measured, in pixels: at least that, and at most SPREAD times as much."""
SPREAD = 1.15

SIZES = ((1200, 900), (1152, 864), (1000, 750), (1024, 768), (1000, 1000), (900, 1200), (1280, 720))
"""Width and height of the composed photos, in pixels."""

ACROSS, APART = 6, (1.0, 1.3, 2.0)
"""How many are in a row where they lie in rows, and how far apart, in sides of the largest head."""

MARGIN, ABOVE = 0.35, 0.5
"""What is cut around the box of a face, in its sides, and what above it."""

LARGEST_HEAD = 160
"""Pixels of a head that is kept, which will be pasted much smaller."""

SHARP = 36
"""Least pixels of a face that is worth cutting out."""

SURE = 0.75
"""The detector's score of a face that is worth cutting out."""

POSSIBLE = 0.3
"""That of what may be a face: a head that is cut out shows one of these."""

HEADS = 1000
"""Most heads that are taken from a folder."""

ENLARGED = 2.0
"""How many times larger a photo may become behind a crowd."""

FOUND = 0.3
"""Intersection over union of a face's box with what was found, from which that is the face."""

TRIES = 4
"""How often a photo is judged; the fastest counts. The first time prepares for its shape."""

WHOLE = InputSpec(96, 96, 3)
"""What is asked of the whole image, which does not matter here."""

Pixels = NDArray[np.uint8]
Boxes = NDArray[np.float32]


@dataclass(frozen=True)
class Head:
    """A head, uint8 (h, w, 3), and the box of its face in it, float32 (4,)."""

    pixels: Pixels
    box: Boxes


@dataclass(frozen=True)
class Scene:
    """A photo, uint8 (h, w, 3), and the faces in it, sure ones and others."""

    photo: Pixels
    faces: Found

    @property
    def largest(self) -> float:
        """The side of the largest face that is sure, in those of the photo, the longer."""
        sure = self.faces[self.faces.sure(SURE)]
        return float(sure.sides.max(initial=0)) / float(max(self.photo.shape))


@dataclass(frozen=True)
class Crowd:
    """A composed photo, and the boxes of the faces pasted in and of those there before: (n, 4)."""

    image: Image.Image
    faces: Boxes
    others: Boxes

    def decoded(self, quality: int, view: View) -> DecodedImage:
        """As a JPEG file is decoded."""
        file = io.BytesIO()
        self.image.save(file, "JPEG", quality=quality)
        return decode(file.getvalue(), view)


class Composer:
    """Composes crowds of the people and photos of one half."""

    def __init__(
        self,
        people: Sequence[Path],
        photos: Path,
        *,
        measuring: bool,
        detector: Detector,
        largest: float = math.inf,
    ) -> None:
        """`people`: folders of which the same number of crowds is composed.

        `largest`: a face that may be behind them, in sides of the photo there, the longer.
        """
        self._heads = [
            list(islice(_heads(folder, measuring, detector), HEADS)) for folder in people
        ]
        least = min(max(size) for size in SIZES) / ENLARGED
        self._backgrounds = [
            behind
            for behind in scenes(photos, least, measuring=measuring, detector=detector)
            if behind.largest <= largest
        ]

    def compose(
        self, rng: random.Random, side: float, count: int, *, of: int | None = None, things: int = 0
    ) -> Crowd:
        """`count` faces of `side` pixels, of people of one folder, and `things` that are none."""
        size = rng.choice(SIZES)
        image, others = self._behind(rng, size)
        heads = self._heads[rng.randrange(len(self._heads)) if of is None else of]
        pasted = [_shrunk(rng, rng.choice(heads), side) for _ in range(count)]
        pasted += [(self._thing(rng, side), None) for _ in range(things)]
        rng.shuffle(pasted)
        faces: list[Boxes] = []
        places = _places(rng, size, [picture for picture, _ in pasted])
        for (picture, box), (x, y) in zip(pasted, places, strict=False):
            image.paste(picture, (x, y), picture.getchannel("A"))
            if box is not None:
                faces.append(box + np.array([x, y, x, y], np.float32))
        return Crowd(image, np.array(faces, np.float32).reshape(-1, 4), others)

    def lay_out(self, rng: random.Random, side: float, count: int, *, of: int) -> Crowd:
        """As many faces of `side` pixels, of people of one folder, in rows on one colour."""
        heads = [_resized(rng, rng.choice(self._heads[of]), side) for _ in range(count)]
        largest = max(length for picture, _ in heads for length in picture.size)
        cell = round(largest * rng.choice(APART))
        image = Image.new("RGB", (cell * ACROSS, cell * math.ceil(count / ACROSS)), _colour(rng))
        faces: list[Boxes] = []
        for n, (picture, box) in enumerate(heads):
            x, y = n % ACROSS * cell, n // ACROSS * cell
            image.paste(picture, (x, y))
            faces.append(box + np.array([x, y, x, y], np.float32))
        return Crowd(image, np.array(faces, np.float32), np.empty((0, 4), np.float32))

    def _behind(self, rng: random.Random, size: tuple[int, int]) -> tuple[Image.Image, Boxes]:
        """Part of a photo, or one colour."""
        if rng.random() < 0.15:
            return Image.new("RGB", size, _colour(rng)), np.empty((0, 4), np.float32)
        behind = rng.choice(self._backgrounds)
        height, width = behind.photo.shape[:2]
        scale = max(size[0] / width, size[1] / height)
        part = min(size[0] / scale, width), min(size[1] / scale, height)
        x, y = rng.uniform(0, width - part[0]), rng.uniform(0, height - part[1])
        box = (x, y, x + part[0], y + part[1])
        image = Image.fromarray(behind.photo).resize(size, Image.Resampling.LANCZOS, box)
        return image, (behind.faces.boxes - np.array([x, y, x, y], np.float32)) * np.float32(scale)

    def _thing(self, rng: random.Random, side: float) -> Image.Image:
        """Part of another photo, in the shape of a head."""
        photo = rng.choice(self._backgrounds).photo
        to = round(side * rng.uniform(1.2, 2))
        source = min(to * rng.uniform(1, 8), *photo.shape[:2])
        x, y = (rng.uniform(0, length - source) for length in (photo.shape[1], photo.shape[0]))
        box = (x, y, x + source, y + source)
        thing = Image.fromarray(photo).resize((to, to), Image.Resampling.LANCZOS, box)
        return _feathered(rng, thing, side)


def is_for_measuring(path: Path) -> bool:
    """Which half a file belongs to; all images of a person, PERSON_NUMBER, are in one."""
    of_person = re.match(r"(?!Training_)(.+)_\d+$", path.stem)
    return zlib.crc32((of_person[1] if of_person else path.stem).encode()) % 2 == 1


def _heads(folder: Path, measuring: bool, detector: Detector) -> Iterator[Head]:
    for photo in _photos(folder, measuring, 400):
        for box in _faces(detector, photo, (128, 256), SURE).boxes:
            side = float((box[2:] - box[:2]).max())
            if side < SHARP:
                continue
            head = _cut(photo, box, side)
            if len(_faces(detector, head.pixels, (64, 128), POSSIBLE)) == 1:
                yield head


def _cut(photo: Pixels, box: Boxes, side: float) -> Head:
    height, width = photo.shape[:2]
    around = box + np.array([-MARGIN, -ABOVE, MARGIN, MARGIN]) * side
    corners = np.round(np.clip(around, 0, [width, height, width, height])).astype(int)
    left, top, right, bottom = corners.tolist()
    part = Image.fromarray(photo[top:bottom, left:right])
    moved = box - np.array([left, top, left, top], np.float32)
    scale = min(1.0, LARGEST_HEAD / max(part.size))
    small = part.resize((max(1, round(part.width * scale)), max(1, round(part.height * scale))))
    return Head(np.asarray(small), np.asarray(moved * scale, np.float32))


def scenes(folder: Path, least: float, *, measuring: bool, detector: Detector) -> Iterator[Scene]:
    """The photos of one half with `least` pixels on the longer side, and what may be faces."""
    for photo in _photos(folder, measuring, LARGER):
        if max(photo.shape) >= least:
            sides = [side for side in (128, 256, 512, 1024) if side < 2 * max(photo.shape)]
            yield Scene(photo, _faces(detector, photo, sides, POSSIBLE))


def _photos(folder: Path, measuring: bool, side: int) -> Iterator[Pixels]:
    """Of the images of one half that can be decoded, in colour."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    random.Random(1).shuffle(paths)  # noqa: S311
    for path in paths:
        if is_for_measuring(path) == measuring:
            try:
                photo = decode(path.read_bytes(), View(WHOLE, side)).photo
            except ImageError:
                continue
            assert photo is not None
            yield np.asarray(photo)


def _faces(detector: Detector, photo: Pixels, sides: Sequence[int], score: float) -> Found:
    image = Image.fromarray(photo)
    return merge([detector.find([image], side, score)[0] for side in sides])


def _colour(rng: random.Random) -> tuple[int, int, int]:
    return rng.randrange(40, 230), rng.randrange(40, 230), rng.randrange(40, 230)


def _shrunk(rng: random.Random, head: Head, side: float) -> tuple[Image.Image, Boxes | None]:
    """As `_resized`, perhaps in a colour, with an edge that fades."""
    picture, box = _resized(rng, head, side)
    if np.ptp(head.pixels.astype(int), axis=2).mean() < 2 and rng.random() < 0.6:
        picture = _tinted(rng, picture)
    return _feathered(rng, picture, side), box


def _resized(rng: random.Random, head: Head, side: float) -> tuple[Image.Image, Boxes]:
    """With a face of that side or somewhat more, and the box of that."""
    face = float((head.box[2:] - head.box[:2]).max())
    scale = side * rng.uniform(1, SPREAD) / face
    width, height = (max(4, round(length * scale)) for length in head.pixels.shape[1::-1])
    picture = Image.fromarray(head.pixels).resize((width, height), Image.Resampling.LANCZOS)
    return picture, head.box * np.float32(scale)


def _tinted(rng: random.Random, gray: Image.Image) -> Image.Image:
    """In a colour such as skin has."""
    tint = [rng.uniform(0.9, 1.1), rng.uniform(0.75, 0.95), rng.uniform(0.6, 0.85)]
    return Image.fromarray((np.asarray(gray) * tint).clip(0, 255).astype(np.uint8))


def _feathered(rng: random.Random, picture: Image.Image, side: float) -> Image.Image:
    """With an edge that fades: an ellipse, or a rectangle."""
    fine = 4
    soft = rng.uniform(0.03, 0.1) * side * fine
    mask = Image.new("L", (picture.width * fine, picture.height * fine))
    draw = ImageDraw.Draw(mask)
    shape = draw.ellipse if rng.random() < 0.75 else draw.rectangle
    shape((soft, soft, mask.width - soft, mask.height - soft), fill=255)
    blurred = mask.filter(ImageFilter.GaussianBlur(0.6 * soft))
    picture.putalpha(blurred.resize(picture.size, Image.Resampling.BOX))
    return picture


def _places(
    rng: random.Random, size: tuple[int, int], pictures: Sequence[Image.Image]
) -> list[tuple[int, int]]:
    """Corners in a grid that covers part of the photo or all of it, moved about in its cells."""
    if not pictures:
        return []
    wide, high = (max(one.size[axis] for one in pictures) for axis in (0, 1))
    columns = min(rng.randint(4, 10), size[0] // wide)
    rows = min(math.ceil(len(pictures) / columns), size[1] // high)
    width, height = rng.uniform(columns * wide, size[0]), rng.uniform(rows * high, size[1])
    left, top = rng.uniform(0, size[0] - width), rng.uniform(0, size[1] - height)
    cell = width / columns, height / rows
    return [
        (
            int(left + column * cell[0] + rng.uniform(0, cell[0] - wide)),
            int(top + row * cell[1] + rng.uniform(0, cell[1] - high)),
        )
        for row in range(rows)
        for column in range(columns)
    ]


@click.command()
@click.argument("heads", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--photos", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--count", default=12, type=click.IntRange(1), help="Crowds of each kind and side.")
def main(heads: Sequence[Path], photos: Path, count: int) -> None:
    """Print the share of the faces of crowds that is found, and what looking closely takes."""
    loaded = bundle.load(bundle.SHIPPED)
    assert loaded.faces
    detector, limits = Detector(bundle.face_finder().network), FaceLimits()
    closely = loaded.faces
    far = FaceJudge(FaceFinder(detector, limits), closely.predict)
    composer = Composer(heads, photos, measuring=True, detector=detector, largest=BEHIND)
    names = " | ".join(folder.name for folder in heads)
    for how, compose in (("in photos", composer.compose), ("in rows", composer.lay_out)):
        click.echo(f"| pixels, {how} | {names} | more ms: mean, most |")
        for side in SIDES:
            measured = [
                _measured(
                    closely,
                    far,
                    partial(compose, side=side, count=FACES, of=of),
                    [random.Random(f"{side} {of} {number}") for number in range(count)],  # noqa: S311
                )
                for of in range(len(heads))
            ]
            shares = " | ".join(f"{share:.3f}" for share, _ in measured)
            more = [1000 * seconds for _, some in measured for seconds in some]
            click.echo(f"| {side} | {shares} | {np.mean(more):.0f}, {max(more):.0f} |")


def _measured(
    closely: FaceJudge,
    far: FaceJudge,
    compose: Callable[[random.Random], Crowd],
    rngs: Sequence[random.Random],
) -> tuple[float, list[float]]:
    """The share of the faces of a crowd of each that is found, and the seconds more for each."""
    found, faces, more = 0, 0, []
    for rng in rngs:
        crowd = compose(rng)
        image = crowd.decoded(rng.randrange(85, 91), View(WHOLE, FaceJudge.photo_side))
        boxes, took = _judged(closely, image)
        found += _found(crowd.faces, boxes)
        faces += len(crowd.faces)
        more.append(took - _judged(far, image)[1])
    return found / faces, more


def _judged(judge: FaceJudge, image: DecodedImage) -> tuple[Boxes, float]:
    """The boxes of the faces that counted, and the seconds of one core that it took."""
    took = math.inf
    for _ in range(TRIES):
        begin = time.thread_time()
        [judged] = judge.judge([image])
        took = min(took, time.thread_time() - begin)
    faces = judged.faces if judged else ()
    corners = [
        (face.box.x, face.box.y, face.box.x + face.box.width, face.box.y + face.box.height)
        for face in faces
    ]
    return np.array(corners, np.float32).reshape(-1, 4), took


def _found(faces: Boxes, boxes: Boxes) -> int:
    """How many of the faces are among the boxes."""
    return int((overlaps(faces, boxes) > FOUND).any(axis=1).sum())


if __name__ == "__main__":
    main()
