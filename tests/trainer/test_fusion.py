from __future__ import annotations

import numpy as np
import pytest

from trainer.fusion import Fusion, fit, of_faces


def labelled(
    faces: float, whole: float, bias: float, count: int = 8000
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Logits of faces and of wholes, rests, and labels that are drawn as their fusion says.

    Half of the images are of nothing but a face, and say nothing of the weights.
    """
    rng = np.random.default_rng(6)
    logits, rest = rng.normal(0, 2, (2, count)), rng.integers(0, 2, count).astype(float)
    truth = [Fusion(faces, whole, bias)(*terms) for terms in zip(*logits, rest, strict=True)]
    truth = np.array(truth)
    return *logits, rest, (rng.uniform(size=count) < 1 / (1 + np.exp(-truth))).astype(np.int64)


@pytest.mark.parametrize("weights", [(1.0, 0.5, 0.0), (0.3, 0.9, -0.7), (1.2, 0.0, 0.4)])
def test_the_weights_that_made_the_labels_are_found(weights: tuple[float, float, float]) -> None:
    got = fit(*labelled(*weights))
    assert (got.faces, got.whole, got.bias) == pytest.approx(weights, abs=0.15)


def test_a_fusion_is_better_than_each_alone() -> None:
    faces, whole, rest, labels = labelled(0.8, 1.2, 0.0)
    both = fit(faces, whole, rest, labels)
    fused = np.array([both(*terms) for terms in zip(faces, whole, rest, strict=True)])
    right = [np.mean((logits > 0) == labels) for logits in (faces, whole, fused)]
    assert right[2] > max(right[:2]) + 0.03


def test_the_whole_counts_as_much_as_the_faces_leave_of_it() -> None:
    fusion = Fusion(0.5, 2.0, -1.0)
    assert fusion(4.0, 3.0, 1.0) == 0.5 * 4 + 2 * 3 - 1
    assert fusion(4.0, 3.0, 0.25) == 0.75 * 4 + 0.25 * (0.5 * 4 + 2 * 3 - 1)
    assert fusion(4.0, 3.0, 0.0) == 4.0


@pytest.mark.parametrize("labels", [[], [1], [0, 0, 0]])
def test_without_faces_of_both_classes_faces_and_whole_count_alike(labels: list[int]) -> None:
    logits = np.linspace(-1, 1, len(labels))
    fusion = fit(logits, -logits, np.full(len(labels), 0.5), np.array(labels, np.int64))
    assert fusion == Fusion(1.0, 1.0, 0.0)


def test_faces_weigh_as_they_are_large() -> None:
    sides = np.array([300, 100], np.float32)
    assert of_faces(np.array([2.0, -2.0]), sides) == pytest.approx(1.0)
    assert of_faces(np.array([-3.0]), sides[:1]) == -3.0
