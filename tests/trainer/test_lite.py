from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.trainer.small import SIDE, bright_is_sad
from trainer import backend
from trainer.bundle import Bundle
from trainer.detection import Detector
from trainer.graph import Graph
from trainer.lite import Lite, convert

backend.start()


def noise(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(6).integers(0, 256, (count, *shape), dtype=np.uint8)


def test_it_gives_what_keras_gives() -> None:
    model = bright_is_sad(channels=3)
    lite = Lite(convert(model, (SIDE, SIDE, 3), int8=False))
    assert lite.shape == (SIDE, SIDE, 3)
    pixels = noise(5, SIDE, SIDE, 3)
    [got], [want] = lite(pixels), Graph(model)(pixels)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, atol=1e-3)


def test_what_ships_gives_nearly_what_keras_gives(shipped: Bundle) -> None:
    for predict in (shipped.main, shipped.faces and shipped.faces.predict):
        assert predict
        network = predict.network
        pixels = noise(20, *predict.spec.shape)
        [got], [want] = Lite(network.lite)(pixels), Graph(network.model)(pixels)
        np.testing.assert_allclose(got, want, atol=0.05)


def test_the_wanted_rows_alone_are_looked_at() -> None:
    lite = Lite(convert(bright_is_sad(), (SIDE, SIDE, 1), int8=True))
    pixels = noise(9, SIDE, SIDE, 1)
    pixels[4] = 255
    [all_of_them], [some] = lite(pixels), lite.at(np.array([7, 4, 4]), pixels)
    assert some.tolist() == all_of_them[[7, 4, 4]].tolist()
    assert some[1] > 0.8


@pytest.mark.parametrize("shape", [(96, 128, 3), (768, 704, 3)])
def test_many_threads_may_ask_for_many_shapes(detector: Detector, shape: tuple[int, ...]) -> None:
    lite = Lite(detector.network.lite)
    pixels = noise(4, *shape)
    together = sorted(lite(pixels), key=np.size)
    with ThreadPoolExecutor(4) as pool:
        apart = list(pool.map(lambda i: lite(pixels[i : i + 1]), range(4)))
    for i, outputs in enumerate(apart):
        for got, want in zip(sorted(outputs, key=np.size), together, strict=True):
            assert np.array_equal(got[0], want[i])


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError, match="not a valid"):
        Lite(b"nonsense")
