"""Clean data -> training, validation and test images, without leakage."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Hashable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet

from trainer.cleaning import CleanData
from trainer.dataset import CLASSES, PARTS, strictness
from trainer.errors import DataError


def split(
    data: CleanData, shares: tuple[float, float, float], group_by: re.Pattern[str] | None = None
) -> dict[str, NDArray[np.int64]]:
    """Indices of the training, validation and test examples, in about these `shares` (sum 1).

    The part of an image follows from the hash of its content, so that it stays in its part whatever
    the order, the machine or what is added later. Near duplicates share the part of the first of
    them by hash; only a new one that comes before it can take them to another. With `group_by`, so
    do images whose file names match and have the same text in the expression's first group.

    Where folders say which part files belong to, they are followed; an image that belongs
    together with a test image of such a folder, but must not be tested on, is in no part.

    Raises:
        DataError: a part got no image of one of the classes.
    """
    share = dict(zip(PARTS, shares, strict=True))
    parts: dict[str, list[int]] = {name: [] for name in PARTS}
    for members in belonging_together(data, group_by):
        strictest = max((data.examples[i] for i in members), key=strictness)
        key = min(_key(data, i, group_by) for i in members)
        name = _draw({part: share[part] for part in strictest.parts}, _position(key))
        parts[name] += [i for i in members if name in data.examples[i].parts]
    indices = {name: np.array(sorted(part), np.int64) for name, part in parts.items()}
    _require_both_classes(data, indices)
    return indices


def _require_both_classes(data: CleanData, parts: Mapping[str, NDArray[np.int64]]) -> None:
    for name, part in parts.items():
        if len(set(data.labels[part].tolist())) < len(CLASSES):
            raise DataError(
                f"The {name} part of the split has images of one class at most; "
                "give more images or other shares."
            )


def _draw(shares: Mapping[str, float], position: float) -> str:
    """The part whose stretch of [0, 1) the position is in."""
    bounds = np.cumsum(list(shares.values())) / sum(shares.values())
    return list(shares)[int(np.searchsorted(bounds[:-1], position, side="right"))]


def fingerprint(data: CleanData, part: NDArray[np.int64]) -> str:
    """A hash of which images with which labels these are, whatever their order or names."""
    rows = sorted(f"{data.sha256s[i]} {CLASSES[data.labels[i]]}" for i in part)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def belonging_together(data: CleanData, group_by: re.Pattern[str] | None) -> Iterable[set[int]]:
    """Sets of examples that must not be parted: near duplicates, and groups of names (`split`)."""
    sets = DisjointSet(range(len(data.examples)))
    first: dict[Hashable, int] = {}
    for i, group in enumerate(data.groups.tolist()):
        for mark in (group, _key(data, i, group_by)):
            sets.merge(i, first.setdefault(mark, i))
    subsets: list[set[int]] = sets.subsets()
    return subsets


def _key(data: CleanData, i: int, group_by: re.Pattern[str] | None) -> str:
    """The name of an example's group, or else the hash of its content."""
    match = group_by.search(data.examples[i].path.name) if group_by else None
    return (match and match.group(1)) or data.sha256s[i]


def _position(key: str) -> float:
    """A place in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(os.fsencode(key)).digest()[:8], "big") / 2**64
