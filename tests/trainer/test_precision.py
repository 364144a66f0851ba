from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.trainer.answering import SHAPE, Answer, answering
from trainer import backend
from trainer.graph import Graph
from trainer.precision import Faster, lowered

backend.start()

import keras  # noqa: E402
from keras import layers  # noqa: E402


class Clock:
    """Goes on only while something is computed."""

    now = 0.0

    def answer(self, seconds: float, answer: float) -> Answer:
        """Takes so many seconds for a batch, and always says the same."""

        def compute(images: NDArray[np.uint8]) -> NDArray[np.float32]:
            self.now += seconds
            return np.full((len(images), 1), answer, np.float32)

        return compute


@pytest.mark.parametrize(
    ("seconds", "answer", "is_used"),
    [
        (0.5, 0.705, True),
        (1.0, 0.705, False),
        (2.0, 0.705, False),
        (0.5, 0.75, False),
        (0.5, math.nan, False),
    ],
)
def test_the_lower_precision_is_used_if_it_is_faster_and_agrees(
    seconds: float, answer: float, is_used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("trainer.graph.time.perf_counter", lambda: clock.now)
    exact, lower = (
        Graph(answering(clock.answer(*what))) for what in ((1.0, 0.7), (seconds, answer))
    )
    faster = Faster(exact, lower)
    pixels = np.zeros((3, *SHAPE), np.uint8)
    [before] = faster(pixels)
    assert before[:, 0].tolist() == pytest.approx([0.7] * 3)  # It is not warm yet.
    faster.warm(*SHAPE)
    [after] = faster(pixels)
    assert after[:, 0].tolist() == pytest.approx([answer if is_used else 0.7] * 3)
    assert faster.most == 1024


def test_all_but_the_end_of_a_network_computes_in_the_lower_precision() -> None:
    model = keras.Sequential(
        [
            layers.Input((8, 8, 1), dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    lower = lowered(model, "mixed_bfloat16")
    assert [layer.compute_dtype for layer in lower.layers] == ["bfloat16"] * 3 + ["float32"]
    pixels = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), np.uint8)
    [exact], [half] = Graph(model)(pixels), Graph(lower)(pixels)
    assert np.abs(half - exact).max() < 0.01
    assert (half != exact).any()
