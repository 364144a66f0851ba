"""A folder per class -> labelled files, read and decoded in parallel."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from trainer.errors import DataError, ImageError
from trainer.image import DecodedImage, View, decode

CLASSES = ("happy", "sad")
"""Class folders in index order: a network's output is the probability of the last."""

PARTS = ("train", "validation", "test")
"""What a data set is divided into; also the names of folders that divide it beforehand."""

CORRECTIONS = 0
"""The `source` of corrected examples, where a model learns from such; what is not has others."""

BATCH = 64
"""Images that are judged at a time."""

CHUNK = 64
"""Images decoded ahead at a time, so that memory does not grow with the data set."""


@dataclass(frozen=True)
class Example:
    """One labelled image file.

    `source` numbers the data folder that it came from. `parts`: those of PARTS that it may be put
    in; fewer than all where a folder says so.
    """

    path: Path
    label: int
    source: int
    parts: tuple[str, ...] = PARTS


@dataclass(frozen=True)
class Read:
    """The content hash (hex) of an example's file and what decoding it gave."""

    sha256: str
    outcome: DecodedImage | ImageError


def strictness(example: Example) -> tuple[int, int]:
    """Sorts examples by how much their folders restrict them: those for testing alone are last."""
    return PARTS.index(example.parts[0]), -len(example.parts)


def find_examples(folder: Path, source: int = 0, *, one_class: bool = False) -> list[Example]:
    """Every file below the class folders of `folder`, in a fixed order.

    Where `folder` holds train/ and test/, those hold the class folders, and test/ alone is for
    testing; validation images are taken from train/, if there is no validation/ too. With
    `one_class` the folder holds class folders, of which one suffices.

    Raises:
        DataError: the folder or one of its class folders is missing or empty.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.")
    if one_class and any((folder / name).is_dir() for name in CLASSES):
        return _of_classes(folder, source, PARTS, [n for n in CLASSES if (folder / n).is_dir()])
    train, validation, test = PARTS
    if not ((folder / train).is_dir() and (folder / test).is_dir()):
        return _of_classes(folder, source, PARTS)
    if not (folder / validation).is_dir():
        learnt = _of_classes(folder / train, source, (train, validation))
        return learnt + _of_classes(folder / test, source, (test,))
    return [e for part in PARTS for e in _of_classes(folder / part, source, (part,))]


def _of_classes(
    folder: Path, source: int, parts: tuple[str, ...], names: Sequence[str] = CLASSES
) -> list[Example]:
    wanted = " and ".join(f"{name}/" for name in names)
    for name in names:
        if not (folder / name).is_dir():
            raise DataError(f"{folder} must hold the folders {wanted}; {name}/ is missing.")
    examples = []
    for name in names:
        files = sorted(path for path in (folder / name).rglob("*") if _is_candidate(path))
        if not files:
            raise DataError(f"{folder / name} holds no files.")
        examples += [Example(path, CLASSES.index(name), source, parts) for path in files]
    return examples


def _is_candidate(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def read_all(
    examples: Sequence[Example], view: View, workers: int
) -> Iterator[tuple[Example, Read]]:
    """Read and decode the examples in order, `workers` at a time."""
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(examples), CHUNK):
            chunk = examples[start : start + CHUNK]
            yield from zip(chunk, pool.map(lambda e: _read(e.path, view), chunk), strict=True)


def decoded_batches(
    examples: Sequence[Example],
    view: View,
    workers: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Iterator[tuple[list[Example], list[DecodedImage]]]:
    """Those that can be decoded with their images, up to BATCH at a time."""
    good: list[Example] = []
    images: list[DecodedImage] = []
    for example, read in read_all(examples, view, workers):
        progress(1)
        if isinstance(read.outcome, ImageError):
            continue
        good.append(example)
        images.append(read.outcome)
        if len(images) == BATCH:
            yield good, images
            good, images = [], []
    if images:
        yield good, images


def _read(path: Path, view: View) -> Read:
    try:
        data = path.read_bytes()
    except OSError as error:
        return Read("", ImageError("unreadable", f"The file cannot be read: {error.strerror}."))
    digest = hashlib.sha256(data).hexdigest()
    try:
        return Read(digest, decode(data, view))
    except ImageError as error:
        return Read(digest, error)
