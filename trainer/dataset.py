"""A folder per class -> clean, de-duplicated, decoded examples, split without leakage."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.errors import DataError, ImageError
from trainer.image import DecodedImage, InputSpec, decode

CLASSES = ("happy", "sad")
"""Class folders in index order: a network's output is the probability of the last."""

SPLITS = ("train", "validation", "test")

FEWEST_PER_CLASS = 10
"""Fewer good images of a class cannot be split into three parts that say anything."""

CHUNK = 256
"""Images decoded ahead at a time, so that memory does not grow with the data set."""


@dataclass(frozen=True)
class Example:
    """One labelled image file; `source` numbers the data folder that it came from."""

    path: Path
    label: int
    source: int


@dataclass(frozen=True)
class Skipped:
    """An image that is not used, and why: an `ImageError` code, `duplicate` or `conflict`."""

    path: Path
    code: str
    detail: str


@dataclass(frozen=True)
class Read:
    """The content hash (hex) of an example's file and what decoding it gave."""

    sha256: str
    outcome: DecodedImage | ImageError


@dataclass(frozen=True)
class CleanData:
    """The good images of a data set, each content once.

    `pixels`: uint8 (n, height, width, channels), backed by a file, so that it may be larger than
    memory. `labels`: int64 (n,), an index into CLASSES. `sources`: int64 (n,).
    """

    paths: list[Path]
    sha256s: list[str]
    labels: NDArray[np.int64]
    sources: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    skipped: list[Skipped]


def find_examples(folder: Path, source: int = 0) -> list[Example]:
    """Every file below the class folders of `folder`, in a fixed order.

    Raises:
        DataError: the folder or one of its class folders is missing or empty.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.")
    wanted = " and ".join(f"{name}/" for name in CLASSES)
    for name in CLASSES:
        if not (folder / name).is_dir():
            raise DataError(f"{folder} must hold the folders {wanted}; {name}/ is missing.")
    examples = []
    for label, name in enumerate(CLASSES):
        files = sorted(path for path in (folder / name).rglob("*") if _is_candidate(path))
        if not files:
            raise DataError(f"{folder / name} holds no files.")
        examples += [Example(path, label, source) for path in files]
    return examples


def _is_candidate(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def read_all(
    examples: Sequence[Example], spec: InputSpec, workers: int
) -> Iterator[tuple[Example, Read]]:
    """Read and decode the examples in order, `workers` at a time."""
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(examples), CHUNK):
            chunk = examples[start : start + CHUNK]
            yield from zip(chunk, pool.map(lambda e: _read(e.path, spec), chunk), strict=True)


def _read(path: Path, spec: InputSpec) -> Read:
    try:
        data = path.read_bytes()
    except OSError as error:
        return Read("", ImageError("unreadable", f"The file cannot be read: {error.strerror}."))
    digest = hashlib.sha256(data).hexdigest()
    try:
        return Read(digest, decode(data, spec))
    except ImageError as error:
        return Read(digest, error)


def clean(
    examples: Sequence[Example],
    spec: InputSpec,
    store: Path,
    *,
    workers: int,
    progress: Callable[[int], None] = lambda done: None,
) -> CleanData:
    """Decode every example once into the file `store`, and keep each content once.

    Undecodable files are skipped; of equal files the first is kept; equal files with different
    labels are all skipped, since nobody knows which label is right.

    Raises:
        DataError: too few good images of a class are left.
    """
    pixels = np.lib.format.open_memmap(
        store, mode="w+", dtype=np.uint8, shape=(len(examples), *spec.shape)
    )
    skipped: list[Skipped] = []
    good: dict[str, list[tuple[int, Example]]] = defaultdict(list)
    for i, (example, read) in enumerate(read_all(examples, spec, workers)):
        if isinstance(read.outcome, ImageError):
            skipped.append(Skipped(example.path, read.outcome.code, str(read.outcome)))
        else:
            pixels[i] = read.outcome.pixels
            good[read.sha256].append((i, example))
        progress(1)
    kept: list[tuple[int, str, Example]] = []
    for digest, same in good.items():
        skipped += _repetitions(same)
        if len({example.label for _, example in same}) == 1:
            kept.append((same[0][0], digest, same[0][1]))
    _require_enough(Counter(example.label for _, _, example in kept))
    return CleanData(
        paths=[example.path for _, _, example in kept],
        sha256s=[digest for _, digest, _ in kept],
        labels=np.array([example.label for _, _, example in kept], dtype=np.int64),
        sources=np.array([example.source for _, _, example in kept], dtype=np.int64),
        pixels=_rows(pixels, [i for i, _, _ in kept]),
        skipped=skipped,
    )


def _rows(pixels: NDArray[np.uint8], kept: Sequence[int]) -> NDArray[np.uint8]:
    """Close the gaps in place: a copy of the selection would not fit where the data does not."""
    for to, at in enumerate(kept):
        if to != at:
            pixels[to] = pixels[at]
    return pixels[: len(kept)]


def _repetitions(same: Sequence[tuple[int, Example]]) -> Iterator[Skipped]:
    first = same[0][1]
    if len({example.label for _, example in same}) > 1:
        for _, example in same:
            yield Skipped(example.path, "conflict", "The same image lies in both classes.")
        return
    for _, example in same[1:]:
        yield Skipped(example.path, "duplicate", f"The same image as {first.path}.")


def _require_enough(counts: Counter[int]) -> None:
    for label, name in enumerate(CLASSES):
        if counts[label] < FEWEST_PER_CLASS:
            raise DataError(
                f"Only {counts[label]} good images of class {name} are left; "
                f"training needs at least {FEWEST_PER_CLASS}, better hundreds."
            )


def split(
    data: CleanData, shares: tuple[float, float, float], group_by: re.Pattern[str] | None = None
) -> dict[str, NDArray[np.int64]]:
    """Indices of the training, validation and test examples, in about these `shares` (sum 1).

    The side of an image follows from the hash of its content alone, so it stays on its side
    whatever the order, the machine or what is added later. With `group_by`, images whose file
    names match share the side of their group: the text matched by the expression's first group.

    Raises:
        DataError: a split got no image of one of the classes.
    """
    bounds = (shares[0], shares[0] + shares[1])
    sides = np.array(
        [
            np.searchsorted(bounds, _position(_group(path, digest, group_by)), side="right")
            for path, digest in zip(data.paths, data.sha256s, strict=True)
        ]
    )
    parts = {name: np.flatnonzero(sides == side) for side, name in enumerate(SPLITS)}
    for name, part in parts.items():
        if len(set(data.labels[part])) < len(CLASSES):
            raise DataError(
                f"The {name} part of the split has images of one class at most; "
                "give more images or other shares."
            )
    return parts


def _group(path: Path, digest: str, group_by: re.Pattern[str] | None) -> str:
    match = group_by.search(path.name) if group_by else None
    return match.group(1) if match else digest


def _position(key: str) -> float:
    """A place in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


def fingerprint(data: CleanData, part: NDArray[np.int64]) -> str:
    """A hash of which images with which labels these are, whatever their order or names."""
    rows = sorted(f"{data.sha256s[i]} {CLASSES[data.labels[i]]}" for i in part)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()
