"""Learn from what trained models say, beside the labels (Hinton et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.bundle import Bundle
from trainer.cleaning import CleanData
from trainer.errors import DataError
from trainer.logits import probability

TAUGHT = 0.7
"""How much of a target is at most what the teachers say; the rest is the label."""

BATCH = 1024


def soften(data: CleanData, teachers: Sequence[Bundle]) -> NDArray[np.float32]:
    """What is to be learnt, float32 (n,): the probability of sad of every example.

    Without teachers that is the label. The teachers' logits are averaged, each over an image and
    its mirror image. They are trusted in each source as far as they are better than chance there:
    a teacher of photos may know nothing of drawings.

    Raises:
        DataError: a teacher takes other images than the network that is to be trained.
    """
    labels = data.labels.astype(np.float32)
    if not teachers:
        return labels
    shape = data.pixels.shape[1:]
    for teacher in teachers:
        if teacher.main.spec.shape != shape:
            raise DataError(
                f"The teacher {teacher.info.name} takes images of {teacher.main.spec.shape} "
                f"(height, width, channels), the network those of {shape}."
            )
    chunks = range(0, len(labels), BATCH)
    said = np.concatenate([_said(data.pixels[i : i + BATCH], teachers) for i in chunks])
    sources = np.array([example.source for example in data.examples])
    targets = labels.copy()
    for source in np.unique(sources):
        rows = sources == source
        trust = _trust(labels[rows], said[rows])
        targets[rows] = (1 - trust) * labels[rows] + trust * said[rows]
    return targets


def _said(pixels: NDArray[np.uint8], teachers: Sequence[Bundle]) -> NDArray[np.float32]:
    views = (pixels, pixels[:, :, ::-1])
    networks = [teacher.main for teacher in teachers]
    logits = [n.logits(view) / n.temperature for n in networks for view in views]
    return probability(np.mean(logits, axis=0))


def _trust(labels: NDArray[np.float32], said: NDArray[np.float32]) -> float:
    of_sad, of_happy = said[labels == 1], said[labels == 0]
    if not (len(of_sad) and len(of_happy)):
        return 0.0
    right = float((np.mean(of_sad > 0.5) + np.mean(of_happy <= 0.5)) / 2)
    return TAUGHT * max(0.0, 2 * right - 1)
