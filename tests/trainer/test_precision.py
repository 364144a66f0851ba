from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from trainer import backend
from trainer.graph import Graph
from trainer.precision import Faster, lowered

backend.start()

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402

SHAPE = (2, 2, 1)


class Clock:
    """Goes on only while something is computed."""

    now = 0.0


class Taking(layers.Layer):
    """Takes so many seconds for a batch, and always says the same."""

    def __init__(self, clock: Clock, seconds: float, answer: float) -> None:
        super().__init__()
        self.clock, self.seconds, self.answer = clock, seconds, answer

    def call(self, images: Any) -> Any:
        return tf.ensure_shape(tf.numpy_function(self._compute, [images], tf.float32), (None, 1))

    def _compute(self, images: Any) -> Any:
        self.clock.now += self.seconds
        return np.full((len(images), 1), self.answer, np.float32)

    def compute_output_spec(self, images: Any) -> Any:
        return keras.KerasTensor((None, 1), "float32")


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
    image = keras.Input(SHAPE, dtype="uint8")
    exact, lower = (
        Graph(keras.Model(image, Taking(clock, *what)(image)))
        for what in ((1.0, 0.7), (seconds, answer))
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
