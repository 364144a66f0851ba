from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import jpeg
from trainer import backend
from trainer.bundle import Bundle, Predictor
from trainer.evaluation import Judged
from trainer.report import render

backend.start()

import keras  # noqa: E402
from keras import layers  # noqa: E402


@pytest.fixture
def judged(tmp_path: Path) -> Judged:
    paths = [tmp_path / f"{number}.jpg" for number in range(6)]
    for number, path in enumerate(paths):
        path.write_bytes(jpeg("sad" if number >= 3 else "happy", number))
    p_sad = np.array([0.1, 0.2, 0.9, 0.8, 0.7, 0.4], np.float32)
    return Judged(paths=paths, labels=np.array([0, 0, 0, 1, 1, 1]), raw=p_sad, p_sad=p_sad)


@pytest.fixture(scope="module")
def flat(shipped: Bundle) -> Bundle:
    """A network that does not look at places, so that it has no maps; and an odd command."""
    model = keras.Sequential(
        [
            keras.Input(shipped.info.input.shape, dtype="uint8"),
            layers.Flatten(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    return Bundle(replace(shipped.info, command="moodsort train a & b"), "", Predictor(model))


def explained(page: str) -> list[str]:
    return re.findall(r"<h[23]>(.*?)</h", page.partition("<h2>What decided</h2>")[2])


def test_a_report_shows_the_mistakes_and_escapes_what_it_is_told(
    flat: Bundle, judged: Judged
) -> None:
    page = render("<Model>", flat, {"test": judged})
    assert "<h1>&lt;Model&gt;</h1>" in page
    assert "a &amp; b" in page
    assert "The most confident of 2 mistakes" in page
    assert "0.667" in page
    perfect = replace(judged, p_sad=np.array([0.1, 0.2, 0.3, 0.9, 0.8, 0.7], np.float32))
    assert "There are no mistakes." in render("Model", flat, {"test": perfect})


def test_a_report_shows_what_decided(shipped: Bundle, judged: Judged) -> None:
    page = render("Model", shipped, {"test": judged})
    want = ["The surest rightly called happy", "The surest rightly called sad"]
    assert explained(page) == [*want, "The surest called wrongly"]


def test_a_report_leaves_out_what_is_gone_or_broken(shipped: Bundle, judged: Judged) -> None:
    for path in judged.paths[:2]:
        path.unlink()
    for path in judged.paths[3:5]:
        path.write_bytes(b"no image")
    page = render("Model", shipped, {"test": judged})
    assert explained(page) == ["The surest called wrongly"]
    for path in judged.paths:
        path.unlink(missing_ok=True)
    assert "What decided" not in render("Model", shipped, {"test": judged})


def test_a_report_on_a_network_without_maps(flat: Bundle, judged: Judged) -> None:
    assert "What decided" not in render("Model", flat, {"test": judged})
