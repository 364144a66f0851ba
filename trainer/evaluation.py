"""How good a model is: metrics, calibration and pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.stats import rankdata
from sklearn import metrics

from trainer.bundle import Answer, Bundle
from trainer.dataset import CLASSES, Example, decoded_batches, find_examples
from trainer.errors import DataError
from trainer.faces import JudgedFace
from trainer.logits import with_temperature

CALIBRATION_BINS = 15
BOOTSTRAPS = 500


@dataclass(frozen=True)
class Metrics:
    """The usual figures, with sad as the positive class; all but the counts in [0, 1].

    `auc`: area under the ROC curve. `ece`: expected calibration error of the predicted label's
    probability in 15 equal bins (Guo et al. 2017). `confusion[i][j]`: images of class i that were
    called class j, in the order happy, sad.
    """

    images: int
    accuracy: float
    balanced_accuracy: float
    precision: float
    recall: float
    f1: float
    auc: float
    ece: float
    confusion: list[list[int]]


@dataclass(frozen=True)
class Judged:
    """What a model says of labelled images.

    `labels`: int64 (n,), 0 happy and 1 sad. `raw` and `p_sad`: (n,), probabilities of sad as the
    networks give them, and calibrated. `faces`: those that counted in each image, if any did.
    """

    paths: Sequence[Path]
    labels: NDArray[np.int64]
    raw: NDArray[np.float32]
    p_sad: NDArray[np.float32]
    faces: Sequence[Sequence[JudgedFace]] = ()


@dataclass(frozen=True)
class Decision:
    """What an image was called and is, as class names; `probability`: of what it was called."""

    path: Path
    called: str
    truth: str
    probability: float
    faces: Sequence[JudgedFace] = ()

    @property
    def right(self) -> bool:
        """Whether it is what it was called."""
        return self.called == self.truth


@dataclass(frozen=True)
class Bin:
    """Predictions of about the same confidence: its mean, the share that is right, and of all."""

    confidence: float
    accuracy: float
    share: float


@dataclass(frozen=True)
class Evaluation:
    """The judged images of a folder, how many could not be decoded, and images per second."""

    judged: Judged
    skipped: int
    per_second: float


def measure(
    labels: NDArray[np.int64], p_sad: NDArray[np.floating], threshold: float = 0.5
) -> Metrics:
    """The figures of calibrated probabilities (n,) against labels (n,), 0 happy and 1 sad.

    Raises:
        DataError: one of the classes is absent.
    """
    if len(set(labels)) < len(CLASSES):
        raise DataError("There must be readable images of both classes to measure on.")
    kinds = np.bincount(2 * labels + (p_sad >= threshold), minlength=4)
    happy, false_sad, false_happy, sad = kinds.tolist()
    recall = sad / (sad + false_happy)
    return Metrics(
        images=len(labels),
        accuracy=(happy + sad) / len(labels),
        balanced_accuracy=(happy / (happy + false_sad) + recall) / 2,
        precision=sad / max(1, sad + false_sad),
        recall=recall,
        f1=2 * sad / (2 * sad + false_sad + false_happy),
        auc=_auc(labels, p_sad),
        ece=calibration_error(labels, p_sad, threshold),
        confusion=[[happy, false_sad], [false_happy, sad]],
    )


def _auc(labels: NDArray[np.int64], p_sad: NDArray[np.floating]) -> float:
    """The area under the ROC curve, by the rank sum (Mann and Whitney 1947).

    The same as scikit-learn's, and fast enough to be asked for each bootstrap sample.
    """
    sad = labels == 1
    count = int(sad.sum())
    above = float(rankdata(p_sad)[sad].sum()) - count * (count + 1) / 2
    return above / (count * (len(labels) - count))


def decisions(judged: Judged, threshold: float) -> list[Decision]:
    """What the model decided of every image, the surest first."""
    called = (judged.p_sad >= threshold).astype(int)
    sure = np.where(called == 1, judged.p_sad, 1 - judged.p_sad)
    return [
        Decision(
            judged.paths[i],
            CLASSES[called[i]],
            CLASSES[judged.labels[i]],
            float(sure[i]),
            judged.faces[i] if judged.faces else (),
        )
        for i in np.argsort(-sure, kind="stable")
    ]


def bins_of(
    labels: NDArray[np.int64], p_sad: NDArray[np.floating], threshold: float = 0.5
) -> list[Bin]:
    """The predictions in CALIBRATION_BINS equal bins of the label's probability; empty ones not."""
    called = p_sad >= threshold
    confidence = np.where(called, p_sad, 1 - p_sad)
    right = called == (labels == 1)
    numbers = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    chosen = [numbers == number for number in np.unique(numbers)]
    return [
        Bin(float(confidence[c].mean()), float(right[c].mean()), float(c.mean())) for c in chosen
    ]


def calibration_error(
    labels: NDArray[np.int64], p_sad: NDArray[np.floating], threshold: float = 0.5
) -> float:
    """The mean gap between confidence and accuracy, weighted by the images in each bin."""
    filled = bins_of(labels, p_sad, threshold)
    return sum(abs(b.confidence - b.accuracy) * b.share for b in filled)


def intervals(
    labels: NDArray[np.int64], p_sad: NDArray[np.floating], threshold: float = 0.5
) -> dict[str, tuple[float, float]]:
    """By name of the figure, between which values 95 % of bootstrap samples have it.

    The samples are always the same for the same data (Efron 1979, the percentile method), and are
    drawn from each class by itself.
    """
    rng = np.random.default_rng(0)
    of_class = [np.flatnonzero(labels == label) for label in range(len(CLASSES))]
    samples = []
    for _ in range(BOOTSTRAPS):
        drawn = np.concatenate([rng.choice(rows, len(rows)) for rows in of_class])
        samples.append(asdict(measure(labels[drawn], p_sad[drawn], threshold)))
    return {
        name: (float(low), float(high))
        for name in samples[0]
        if name not in ("images", "confusion")
        for low, high in [np.percentile([sample[name] for sample in samples], [2.5, 97.5])]
    }


def fit_temperature(labels: NDArray[np.int64], p_sad: NDArray[np.floating]) -> float:
    """The temperature (Guo et al. 2017) that makes raw probabilities likeliest; 0.05 to 20."""

    def loss(log_temperature: float) -> float:
        p = with_temperature(p_sad, float(np.exp(log_temperature)))
        return float(metrics.log_loss(labels, p.astype(np.float64), labels=[0, 1]))

    bounds = (np.log(0.05), np.log(20.0))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def evaluate(
    bundle: Bundle,
    folder: Path,
    *,
    workers: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Evaluation:
    """Judge `bundle` on all decodable images of the folder-per-class data set `folder`.

    Raises:
        DataError: the folder is no such data set.
    """
    examples = find_examples(folder)
    bundle.warm()
    begin = time.perf_counter()
    judged = judge(bundle, examples, workers=workers, progress=progress)
    count = len(judged.paths)
    return Evaluation(
        judged,
        skipped=len(examples) - count,
        per_second=count / (time.perf_counter() - begin),
    )


def judge(
    bundle: Bundle,
    examples: Sequence[Example],
    *,
    workers: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Judged:
    """What `bundle` says of those examples that can be decoded."""
    judged: list[Example] = []
    answers: list[Answer] = []
    for good, images in decoded_batches(examples, bundle.info.view, workers, progress):
        judged += good
        answers += bundle.answers(images)
    return Judged(
        paths=[example.path for example in judged],
        labels=np.array([example.label for example in judged], np.int64),
        raw=np.array([answer.uncalibrated for answer in answers], np.float32),
        p_sad=np.array([answer.p_sad for answer in answers], np.float32),
        faces=[answer.faces for answer in answers],
    )
