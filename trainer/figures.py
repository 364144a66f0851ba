"""Pictures of how a model learnt and how it judges, as PNG files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from sklearn import metrics

from trainer.dataset import CLASSES
from trainer.evaluation import Judged, Metrics, bins_of

DPI = 100

SIDE = 144
"""Pixels of either side of an enlarged image."""
GAP = 4
"""White pixels around it."""
HEAT_AT_LEAST, HEAT_AT_MOST = 0.2, 0.65
"""How much of an image the colour covers, where it is coldest and where it is hottest."""


def curves(history: Mapping[str, Sequence[float]]) -> bytes:
    """Loss and accuracy by epoch, of training and validation."""
    figure, (left, right) = _side_by_side()
    for axes, name in ((left, "loss"), (right, "accuracy")):
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            axes.plot(range(1, len(history[key]) + 1), history[key], label=label)
        axes.set(xlabel="epoch", title=name)
        axes.legend()
    return _png(figure)


def confusion(result: Metrics, title: str) -> bytes:
    """How many images of each class were called what."""
    figure = Figure(figsize=(4.5, 4), layout="constrained")
    axes = figure.subplots()
    display = metrics.ConfusionMatrixDisplay(np.array(result.confusion), display_labels=CLASSES)
    display.plot(ax=axes, cmap="Blues", colorbar=False)
    axes.set(title=f"{title}: {result.accuracy:.1%} of {result.images}")
    return _png(figure)


def trade_offs(judged: Judged) -> bytes:
    """The precision-recall and the ROC curve, sad being the positive class."""
    figure, (left, right) = _side_by_side()
    precision, recall, _ = metrics.precision_recall_curve(judged.labels, judged.p_sad)
    left.plot(recall, precision)
    left.set(xlabel="recall of sad", ylabel="precision of sad", title="precision and recall")
    false, true, _ = metrics.roc_curve(judged.labels, judged.p_sad)
    right.plot(false, true)
    right.plot([0, 1], [0, 1], color="gray", linestyle=":")
    right.set(xlabel="happy ones called sad", ylabel="sad ones called sad", title="ROC")
    return _png(figure)


def reliability(judged: Judged, threshold: float) -> bytes:
    """Is 80 % sure right in 80 %? Before and after calibration; and accuracy by threshold."""
    figure, (left, right) = _side_by_side()
    for p, name in ((judged.raw, "as trained"), (judged.p_sad, "calibrated")):
        filled = bins_of(judged.labels, p, threshold)
        left.plot([b.confidence for b in filled], [b.accuracy for b in filled], "o-", label=name)
    left.plot([0.5, 1], [0.5, 1], color="gray", linestyle=":", label="ideal")
    left.set(xlabel="probability of the label", ylabel="share that is right", title="reliability")
    left.legend()
    at = np.linspace(0.02, 0.98, 97)
    right.plot(at, [_balanced(judged.labels, judged.p_sad, t) for t in at])
    right.axvline(threshold, color="gray", linestyle=":", label=f"chosen: {threshold:g}")
    right.set(xlabel="sad from this probability on", title="balanced accuracy by threshold")
    right.legend()
    return _png(figure)


def with_heat(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> Image.Image:
    """An image above itself in gray under its heat, from blue at 0 to red at 1.

    `pixels`: (height, width, channels) as the network sees it; `heat`: (height, width) in [0, 1].
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    # Enlarging by boxes leaves the network's pixels visible.
    seen = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    smooth = Image.fromarray(heat).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    both = Image.new("RGB", (SIDE + 2 * GAP, 2 * (SIDE + GAP)), "white")
    both.paste(seen, (GAP, GAP))
    both.paste(_heated(seen.convert("L"), np.asarray(smooth, np.float32)), (GAP, SIDE + GAP))
    return both


def _heated(gray: Image.Image, heat: NDArray[np.float32]) -> Image.Image:
    colours = Image.fromarray(colormaps["turbo"](heat, bytes=True)).convert("RGB")
    cover = HEAT_AT_LEAST + (HEAT_AT_MOST - HEAT_AT_LEAST) * heat.clip(0, 1)
    mask = Image.fromarray((cover * 255).astype(np.uint8))
    return Image.composite(colours, gray.convert("RGB"), mask)


def _balanced(labels: NDArray[np.int64], p: NDArray[np.floating], threshold: float) -> float:
    called = p >= threshold
    return float((called[labels == 1].mean() + (~called[labels == 0]).mean()) / 2)


def _side_by_side() -> tuple[Figure, Any]:
    figure = Figure(figsize=(10, 4), layout="constrained")
    both = figure.subplots(1, 2)
    for axes in both:
        axes.grid(alpha=0.3)
    return figure, both


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI)
    return out.getvalue()
