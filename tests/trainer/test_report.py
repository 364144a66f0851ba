from __future__ import annotations

import base64
import io
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.faces import draw_face
from tests.helpers import encoded, jpeg
from tests.trainer.small import bundle_of
from trainer import backend
from trainer.bundle import Bundle
from trainer.dataset import Example
from trainer.evaluation import Judged, judge
from trainer.fusion import Fusion
from trainer.judging import Predictor
from trainer.report import render
from trainer.stored import StoredNetwork

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
            keras.Input(shipped.info.main.input.shape, dtype="uint8"),
            layers.Flatten(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    bundle = bundle_of(shipped, whole=Predictor(StoredNetwork.of(model)))
    return bundle.with_info(replace(bundle.info, command="moodsort train a & b"))


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


def mistakes(page: str) -> np.ndarray:
    """The sheet, int (height, width, 3)."""
    [data] = re.findall(
        r'alt="the most confident mistakes" src="data:image/png;base64,(.*?)"', page
    )
    with Image.open(io.BytesIO(base64.b64decode(data))) as sheet:
        return np.asarray(sheet.convert("RGB"), int)


def edges_of_frames(page: str) -> Sequence[int]:
    """Left, top, right and bottom of what is framed in the first mistake, 120 pixels wide."""
    red = (mistakes(page)[:120, :120] == [255, 0, 0]).all(axis=2)
    rows, columns = (np.flatnonzero(red.any(axis=axis)).tolist() for axis in (1, 0))
    return columns[0], rows[0], columns[-1], rows[-1]


def test_faces_that_counted_are_framed_in_the_mistakes(shipped: Bundle, tmp_path: Path) -> None:
    photo = Image.new("RGB", (480, 240), "gray")
    photo.paste(draw_face(random.Random(1), "sad", (200, 200)), (260, 20))
    (tmp_path / "wrong.png").write_bytes(encoded(photo, "PNG"))
    (tmp_path / "right.jpg").write_bytes(jpeg("sad", 1))
    examples = [Example(tmp_path / "wrong.png", 0, 0), Example(tmp_path / "right.jpg", 1, 0)]
    judged = judge(shipped, examples, workers=1)
    [face], _ = judged.faces
    page = render("Model", shipped, {"test": judged})
    assert "Framed: the faces that counted." in page
    box = face.box
    want = (box.x / 4, box.y / 2, (box.x + box.width) / 4, (box.y + box.height) / 2)
    assert edges_of_frames(page) == pytest.approx(want, abs=1)
    assert "Framed" not in render("Model", shipped, {"test": replace(judged, faces=())})


def test_a_report_tells_what_both_stages_are(
    faces_alone: Bundle, flat: Bundle, judged: Judged
) -> None:
    assert "judges whole images" not in render("Model", faces_alone, {"test": judged})
    assert "judges faces" not in render("Model", flat, {"test": judged})
    both = bundle_of(
        flat, faces=faces_alone.faces, whole=flat.whole, fusion=Fusion(0.7, 0.25, -0.5)
    )
    page = render("Model", both, {"test": judged})
    assert "judges faces" in page
    assert "judges whole images" in page
    assert "0.70 x logit of the faces + 0.25 x logit of the whole -0.50" in page
