"""How good a model is: metrics, calibration and pictures."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn import metrics

from trainer.bundle import Bundle, with_temperature
from trainer.dataset import CLASSES, find_examples, read_all
from trainer.errors import DataError, ImageError

BATCH = 64
CALIBRATION_BINS = 15


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
class Evaluation:
    """Metrics on a folder of images, how many could not be decoded, and images per second."""

    metrics: Metrics
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
    called = (p_sad >= threshold).astype(int)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, called, average="binary", zero_division=0.0
    )
    return Metrics(
        images=len(labels),
        accuracy=float(metrics.accuracy_score(labels, called)),
        balanced_accuracy=float(metrics.balanced_accuracy_score(labels, called)),
        precision=float(precision),
        recall=float(recall),
        f1=float(f1),
        auc=float(metrics.roc_auc_score(labels, p_sad)),
        ece=calibration_error(labels, p_sad, threshold),
        confusion=metrics.confusion_matrix(labels, called, labels=[0, 1]).tolist(),
    )


def calibration_error(
    labels: NDArray[np.int64], p_sad: NDArray[np.floating], threshold: float = 0.5
) -> float:
    """The mean gap between confidence and accuracy, weighted by the images in each bin."""
    called = p_sad >= threshold
    confidence = np.where(called, p_sad, 1 - p_sad)
    right = called == (labels == 1)
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = [
        abs(confidence[bins == b].mean() - right[bins == b].mean()) * np.mean(bins == b)
        for b in np.unique(bins)
    ]
    return float(np.sum(gaps))


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
        DataError: the folder is no such data set, or has no decodable image of a class.
    """
    examples = find_examples(folder)
    bundle.warm()
    labels: list[int] = []
    batch: list[NDArray[np.uint8]] = []
    parts: list[NDArray[np.float32]] = []
    begin = time.perf_counter()
    for example, read in read_all(examples, bundle.info.input, workers):
        progress(1)
        if isinstance(read.outcome, ImageError):
            continue
        labels.append(example.label)
        batch.append(read.outcome.pixels)
        if len(batch) == BATCH:
            parts.append(bundle.p_sad(np.stack(batch)))
            batch.clear()
    if batch:
        parts.append(bundle.p_sad(np.stack(batch)))
    seconds = time.perf_counter() - begin
    p_sad = np.concatenate(parts) if parts else np.empty(0, np.float32)
    result = measure(np.array(labels, np.int64), p_sad, bundle.info.threshold)
    return Evaluation(result, len(examples) - len(labels), len(labels) / seconds)


def curves_png(history: Mapping[str, Sequence[float]]) -> bytes:
    """Loss and accuracy by epoch, of training and validation, as a PNG."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            axes.plot(range(1, len(history[key]) + 1), history[key], label=label)
        axes.set(xlabel="epoch", title=name)
        axes.grid(alpha=0.3)
        axes.legend()
    return _png(figure)


def confusion_png(result: Metrics, title: str) -> bytes:
    """The confusion matrix as a PNG."""
    figure = Figure(figsize=(4.5, 4), layout="constrained")
    axes = figure.subplots()
    display = metrics.ConfusionMatrixDisplay(np.array(result.confusion), display_labels=CLASSES)
    display.plot(ax=axes, cmap="Blues", colorbar=False)
    axes.set(title=f"{title}: {result.accuracy:.1%} of {result.images}")
    return _png(figure)


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=100)
    return out.getvalue()
