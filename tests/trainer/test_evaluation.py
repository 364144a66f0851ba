from __future__ import annotations

import numpy as np
import pytest

from trainer.errors import DataError
from trainer.evaluation import (
    calibration_error,
    fit_temperature,
    intervals,
    measure,
)
from trainer.logits import with_temperature


def test_figures_of_a_small_example_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 0])
    p_sad = np.array([0.1, 0.2, 0.6, 0.9, 0.8, 0.4, 0.7, 0.3])
    got = measure(labels, p_sad)
    assert got.confusion == [[3, 1], [1, 3]]
    assert got.images == 8
    assert got.accuracy == got.balanced_accuracy == 0.75
    assert got.precision == got.recall == got.f1 == 0.75
    assert got.auc == pytest.approx(15 / 16)


def test_threshold_moves_the_labels() -> None:
    labels = np.array([0, 1])
    assert measure(labels, np.array([0.1, 0.4]), threshold=0.3).accuracy == 1.0
    assert measure(labels, np.array([0.1, 0.4]), threshold=0.5).accuracy == 0.5


def test_one_class_alone_cannot_be_measured() -> None:
    with pytest.raises(DataError, match="both classes"):
        measure(np.zeros(5, int), np.full(5, 0.2))


def test_calibration_error_of_honest_and_of_boasting_probabilities() -> None:
    rng = np.random.default_rng(1)
    p = rng.uniform(size=20_000)
    labels = (rng.uniform(size=p.size) < p).astype(int)
    assert calibration_error(labels, p) < 0.02
    boasting = np.where(p > 0.5, 0.99, 0.01)
    assert calibration_error(labels, boasting) > 0.2


def test_intervals_hold_the_figure_and_shrink_with_more_images() -> None:
    rng = np.random.default_rng(3)

    def width(images: int) -> float:
        labels = rng.integers(0, 2, images)
        p_sad = np.clip(labels * 0.4 + rng.uniform(0, 0.6, images), 0, 1)
        low, high = intervals(labels, p_sad)["accuracy"]
        assert low <= measure(labels, p_sad).accuracy <= high
        assert intervals(labels, p_sad)["accuracy"] == (low, high)
        return high - low

    assert width(2000) < width(100)


def test_temperature_undoes_overconfidence() -> None:
    rng = np.random.default_rng(2)
    honest = rng.uniform(0.05, 0.95, size=20_000)
    labels = (rng.uniform(size=honest.size) < honest).astype(int)
    boasting = with_temperature(honest, 1 / 3)
    assert fit_temperature(labels, boasting) == pytest.approx(3, rel=0.1)


def test_temperature_keeps_the_order_and_the_bounds() -> None:
    p = np.array([0.0, 0.2, 0.5, 1.0])
    got = with_temperature(p, 2.0)
    assert np.all(np.diff(got) > 0)
    assert got[2] == pytest.approx(0.5)
    assert 0 < got[0] < got[-1] < 1
