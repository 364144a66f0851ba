"""Labelled files -> good images, each content once; and what is wrong with the others."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.cluster.hierarchy import DisjointSet

from trainer.dataset import BATCH, CLASSES, Example, read_all, strictness
from trainer.errors import DataError, ImageError, TrainerError
from trainer.finding import FaceFinder
from trainer.image import DecodedImage, InputSpec, View
from trainer.sight import largest_faces

SMALLEST_SIDE = 16
"""Pixels; on less nobody sees a face."""

NEAR_BITS = 4
NEAR_CORRELATION = 0.95
"""Pictures are nearly the same if their perceptual hashes (64 bits) differ in no more bits and
their pixels correlate no less.

Measured at 48x48 gray: 49 pairs of 238 web photos, all of them the same pictures, correlate with
0.965 or more; 23 pairs of 600 drawn faces, all of them different, with 0.903 or less.
"""

BAND_BITS = 13
"""64 bits in NEAR_BITS + 1 bands: hashes that are near agree in at least one whole band."""

FEWEST_PER_CLASS = 10
"""Fewer good images of a class cannot be divided into three parts that say anything."""


@dataclass(frozen=True)
class Flagged:
    """A file with a flaw.

    `code`: an `ImageError` code, `unreadable`, `too_small`, `conflict` (the same content in both
    classes), `near_conflict` (nearly), `duplicate` or `near_duplicate`. `like`: the other file.
    """

    example: Example
    code: str
    detail: str
    like: Path | None = None


@dataclass(frozen=True)
class CleanData:
    """The good images of a data set, each content once.

    `pixels`: uint8 (n, height, width, channels), backed by a file, so that it may be larger than
    memory. `labels` and `groups`: int64 (n,); a label is an index into CLASSES, near duplicates
    have the same group. `flagged`: what is left out, and, though kept, near duplicates.
    """

    examples: list[Example]
    sha256s: list[str]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    flagged: list[Flagged]


@dataclass(frozen=True)
class _Good:
    """A decoded image, which row of the pixels it has, and its size in pixels."""

    example: Example
    sha256: str
    row: int
    area: int


def clean(
    examples: Sequence[Example],
    spec: InputSpec,
    store: Path,
    *,
    workers: int,
    progress: Callable[[int], None] = lambda done: None,
    finder: FaceFinder | None = None,
) -> CleanData:
    """Decode every example once into the file `store`, and keep each content once.

    With a `finder`, what is kept of an image is its largest face, where it finds one.

    Left out are files that cannot be decoded, tiny images, repetitions of the same content, and
    all files of a content that has both labels, since nobody knows which one is right. Near
    duplicates stay, and are told by their group.

    Raises:
        TrainerError: `store` cannot be written.
    """
    pixels = _room_for((max(1, len(examples)), *spec.shape), store)
    flagged: list[Flagged] = []
    same: dict[str, list[_Good]] = defaultdict(list)
    keep = _Keeper(pixels, spec, finder)
    read_ahead = read_all(examples, View(spec, finder.photo_side if finder else None), workers)
    for row, (example, read) in enumerate(read_ahead):
        progress(1)
        image = read.outcome
        if isinstance(image, ImageError):
            flagged.append(Flagged(example, image.code, str(image)))
        elif min(image.width, image.height) < SMALLEST_SIDE:
            size = f"{image.width} x {image.height} pixels are too few."
            flagged.append(Flagged(example, "too_small", size))
        else:
            keep.add(row, image)
            good = _Good(example, read.sha256, row, image.width * image.height)
            same[read.sha256].append(good)
    keep.flush()
    kept = [good for copies in same.values() for good in _first(copies, flagged)]
    kept.sort(key=lambda good: good.row)
    rows = _close_gaps(pixels, [good.row for good in kept])
    groups = _near(rows)
    flagged += _near_flags(kept, groups)
    return CleanData(
        examples=[good.example for good in kept],
        sha256s=[good.sha256 for good in kept],
        labels=np.array([good.example.label for good in kept], dtype=np.int64),
        groups=groups,
        pixels=rows,
        flagged=flagged,
    )


class _Keeper:
    """Puts decoded images into rows of `pixels`, as a network is to see them."""

    def __init__(
        self, pixels: NDArray[np.uint8], spec: InputSpec, finder: FaceFinder | None
    ) -> None:
        self._pixels, self._spec, self._finder = pixels, spec, finder
        self._waiting: dict[int, DecodedImage] = {}

    def add(self, row: int, image: DecodedImage) -> None:
        """Put it there, or note it until there is a batch to find faces in."""
        if not self._finder:
            self._pixels[row] = image.pixels
            return
        self._waiting[row] = image
        if len(self._waiting) == BATCH:
            self.flush()

    def flush(self) -> None:
        """Put what is noted."""
        if self._finder and self._waiting:
            images = list(self._waiting.values())
            found = self._finder.find(images)
            self._pixels[list(self._waiting)] = largest_faces(images, found, self._spec)
            self._waiting.clear()


def _room_for(shape: tuple[int, ...], store: Path) -> NDArray[np.uint8]:
    """Pixels that live in the new file `store`."""
    try:
        pixels: NDArray[np.uint8] = np.lib.format.open_memmap(
            store, mode="w+", dtype=np.uint8, shape=shape
        )
        if hasattr(os, "posix_fallocate"):
            # A full disk must be an error now, rather than a crash when a page is written.
            with open(store, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, store.stat().st_size)
    except OSError as error:
        megabytes = math.prod(shape) / 1e6
        raise TrainerError(
            f"{store.parent} has no room for the decoded images, {megabytes:.0f} MB: "
            f"{error.strerror}."
        ) from None
    return pixels


def require_enough(data: CleanData) -> None:
    """Refuse to train on next to nothing.

    Raises:
        DataError: too few good images of a class are left.
    """
    counts = Counter(data.labels.tolist())
    for label, name in enumerate(CLASSES):
        if counts[label] < FEWEST_PER_CLASS:
            raise DataError(
                f"Only {counts[label]} good images of class {name} are left; "
                f"training needs at least {FEWEST_PER_CLASS}, better hundreds."
            )


def set_aside(flagged: Sequence[Flagged], data: Path, to: Path) -> int:
    """Move flagged files from the data set `data` to TO/CODE/…, keeping their folders.

    Returns how many were moved. Nothing is deleted or replaced.

    Raises:
        DataError: a file cannot be moved; those before it are.
    """
    moved = 0
    for flaw in flagged:
        source = flaw.example.path
        target = _free(to / flaw.code / source.relative_to(data))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
        except OSError as error:
            raise DataError(f"{source} cannot be moved to {target}: {error.strerror}.") from None
        moved += 1
    return moved


def _free(path: Path) -> Path:
    numbered = (path.with_stem(f"{path.stem}-{n}") for n in count(2))
    return next(p for p in chain([path], numbered) if not os.path.lexists(p))


def _first(copies: Sequence[_Good], flagged: list[Flagged]) -> list[_Good]:
    """Of files with the same content the one to keep, or none where their labels differ."""
    first = max(copies, key=lambda good: (strictness(good.example), -good.row))
    if len({good.example.label for good in copies}) > 1:
        for good in copies:
            other = next(o for o in copies if o.example.label != good.example.label)
            flagged.append(_flag(good, "conflict", other, "The same image has the other label"))
        return []
    flagged += [
        _flag(good, "duplicate", first, "The same image") for good in copies if good is not first
    ]
    return [first]


def _near_flags(kept: Sequence[_Good], groups: NDArray[np.int64]) -> Iterator[Flagged]:
    members: dict[int, list[_Good]] = defaultdict(list)
    for good, group in zip(kept, groups.tolist(), strict=True):
        members[group].append(good)
    for near in members.values():
        largest = max(near, key=lambda good: (good.area, -good.row))
        for good in near:
            other = next((o for o in near if o.example.label != good.example.label), None)
            if other is not None:
                yield _flag(good, "near_conflict", other, "Nearly the same has the other label")
            elif good is not largest:
                yield _flag(good, "near_duplicate", largest, "Nearly the same image")


def _flag(good: _Good, code: str, other: _Good, about: str) -> Flagged:
    path = other.example.path
    return Flagged(good.example, code, f"{about}: {path}.", path)


def _close_gaps(pixels: NDArray[np.uint8], kept: Sequence[int]) -> NDArray[np.uint8]:
    """In place: a copy of the selection would not fit where the data does not."""
    for to, at in enumerate(kept):
        if to != at:
            pixels[to] = pixels[at]
    return pixels[: len(kept)]


def _perceptual_hashes(pixels: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """64 bits an image that change little when it is scaled, re-encoded or lightened."""
    hashes = np.empty(len(pixels), np.uint64)
    for i, image in enumerate(pixels):
        picture = Image.fromarray(image.squeeze())
        bits = imagehash.phash(picture).hash
        hashes[i] = np.packbits(bits).view(">u8")[0]
    return hashes


def _near(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """A number an image, the same for those that are near each other, if by way of a third."""
    sets = DisjointSet(range(len(pixels)))
    for one, other in _pairs_with_near_hashes(_perceptual_hashes(pixels)):
        # Those that are known to belong together need no look: frames of a film make many pairs.
        known = sets.connected(one, other)
        if not known and _correlation(pixels[one], pixels[other]) >= NEAR_CORRELATION:
            sets.merge(one, other)
    return np.array([sets[i] for i in range(len(pixels))], np.int64)


def _pairs_with_near_hashes(hashes: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Pairs of rows, some of them more than once; without looking at all n * n."""
    for start in range(0, 64, BAND_BITS):
        band = (hashes >> np.uint64(start)) & np.uint64((1 << BAND_BITS) - 1)
        order = np.argsort(band, kind="stable")
        for run in np.split(order, np.flatnonzero(np.diff(band[order])) + 1):
            for place, one in enumerate(run.tolist()[:-1], start=1):
                others = run[place:]
                near = np.bitwise_count(hashes[one] ^ hashes[others]) <= NEAR_BITS
                for other in others[near].tolist():
                    yield one, other


def _correlation(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Of the pixels of two images, -1 to 1; flat ones are all alike."""
    if one.std() == 0 or other.std() == 0:
        return 1.0
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
