"""Is a model better than the one before it? By labelled images that neither has learnt from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainer.bundle import Bundle, BundleInfo
from trainer.dataset import find_examples

HELD_OUT = "held_out"
"""Where the metrics of a bundle that was made from another one have a `Comparison` with it."""


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


def recorded(info: BundleInfo, before: str) -> Comparison | None:
    """What a bundle says of itself and the bundle with the hash `before`, from which it was made.

    None if it says nothing of that one.
    """
    held_out = info.metrics.get(HELD_OUT)
    if held_out is None or held_out["before"] != before:
        return None
    return Comparison(held_out["images"], held_out["right_before"], held_out["right_after"])


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
        called = judged.p_sad >= bundle.info.threshold
        right.append(int((called == judged.labels).sum()))
    return Comparison(len(judged.paths), *right)
