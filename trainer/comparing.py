"""Is a model better than the one before it? By labelled images that neither has learnt from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainer.bundle import Bundle, BundleInfo
from trainer.dataset import find_examples

if TYPE_CHECKING:
    from trainer.evaluation import Judged

HELD_OUT = "held_out"
"""Where the metrics of a bundle that was made from another one tell how they compare.

`before` is the hash of that one; the rest are a `Comparison` each, by the name of the images:
`all`, `corrections` and, where it was there, `original`.
"""


@dataclass(frozen=True)
class Comparison:
    """In how many of the same `images` the model before is right, and the one after."""

    images: int
    right_before: int
    right_after: int

    @property
    def is_worse(self) -> bool:
        """Whether the one after is."""
        return self.right_after < self.right_before


def right_in(judged: Judged, threshold: float) -> NDArray[np.bool_]:
    """In which of the images (n,) a model is right."""
    right: NDArray[np.bool_] = (judged.p_sad >= threshold) == (judged.labels == 1)
    return right


def recorded(info: BundleInfo, before: str) -> Comparison | None:
    """What a bundle says of itself and the bundle with the hash `before`, from which it was made.

    None if it says nothing of that one.
    """
    held_out = info.metrics.get(HELD_OUT)
    if held_out is None or held_out["before"] != before:
        return None
    return Comparison(**held_out["all"])


def compare(
    before: Bundle,
    after: Bundle,
    data: Path,
    *,
    workers: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Comparison:
    """Let both judge the readable images of the folder-per-class data set `data`.

    Raises:
        DataError: the folder is no such data set.
    """
    from trainer.evaluation import judge

    examples = find_examples(data)
    right = []
    for bundle in (before, after):
        judged = judge(bundle, examples, workers=workers, progress=progress)
        right.append(int(right_in(judged, bundle.info.threshold).sum()))
    return Comparison(len(judged.paths), *right)
