from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.trainer.people import Place, assert_found, drawn, faces_of, noise, people
from trainer import backend
from trainer.detection import Detector, joined_grids, merge
from trainer.graph import Graph
from trainer.lite import Lite

backend.start()

import tensorflow as tf  # noqa: E402

ROOT = Path(__file__).parents[2]
ORIGINAL = ROOT / "docs" / "blazeface" / "face_detection_short_range.tflite"
SCORE = 0.6


def outputs_of_the_original(pixels: np.ndarray) -> list[np.ndarray]:
    """Points and logits of one square, as MediaPipe's own file gives them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated", UserWarning)
        runner = tf.lite.Interpreter(str(ORIGINAL))
    runner.allocate_tensors()
    runner.set_tensor(runner.get_input_details()[0]["index"], pixels[None] / np.float32(127.5) - 1)
    runner.invoke()
    return [runner.get_tensor(output["index"])[0] for output in runner.get_output_details()]


@pytest.mark.parametrize("kind", ["keras", "lite"])
def test_the_converted_network_gives_what_the_original_gives(detector: Detector, kind: str) -> None:
    network = detector.network
    runner = Graph(network.model) if kind == "keras" else Lite(network.lite)
    squares = np.stack([*(np.asarray(drawn(seed, 128)) for seed in range(4)), noise(128, 128, 3)])
    points, logits = joined_grids(runner(squares))
    for i, pixels in enumerate(squares):
        want_points, want_logits = outputs_of_the_original(pixels)
        np.testing.assert_allclose(points[i].reshape(want_points.shape), want_points, atol=0.01)
        np.testing.assert_allclose(logits[i, :, None], want_logits, atol=0.01)


GROUP = [(50, 40, 300), (600, 60, 240), (120, 450, 280), (650, 480, 250)]
"""In a photo of 1000 x 800 pixels."""

SMALL = [(20, 20, 60), (200, 60, 60), (400, 30, 60), (100, 250, 60), (300, 300, 60)]
"""In a photo of 500 x 400 pixels."""


@pytest.mark.parametrize(
    ("side", "size", "places"),
    [
        (256, (1000, 800), GROUP),
        (512, (500, 400), SMALL),
        (1024, (500, 400), [(20, 20, 30), (200, 60, 30), (400, 30, 30), (100, 250, 30)]),
        (128, (400, 800), [(50, 100, 300)]),
        (128, (800, 300), [(400, 20, 260)]),
        (128, (240, 240), [(0, 0, 240)]),
        (128, (2400, 1600), [(200, 300, 900), (1400, 200, 800)]),
    ],
    ids=["group", "small", "smaller", "portrait", "landscape", "filling", "large"],
)
def test_faces_are_found_where_they_were_drawn(
    detector: Detector, side: int, size: tuple[int, int], places: list[Place]
) -> None:
    [found] = detector.find([people(size, *places)], side, SCORE)
    assert_found(found, *places)
    assert (np.diff(found.scores) <= 0).all()
    assert found.scores.min() >= SCORE


def test_a_face_that_is_too_small_for_a_view_is_seen_in_a_closer_one(detector: Detector) -> None:
    image = people((500, 400), *SMALL)
    assert [len(detector.find([image], side, SCORE)[0]) for side in (128, 256)] == [0, 5]


@pytest.mark.parametrize("side", [128, 256, 512])
@pytest.mark.parametrize(
    "empty",
    [
        Image.new("RGB", (1, 1)),
        Image.new("RGB", (2000, 1), "white"),
        Image.fromarray(noise(2000, 1, 3)),
        Image.fromarray(noise(300, 200, 3)),
        Image.linear_gradient("L").convert("RGB"),
        people((640, 480)),
    ],
    ids=["pixel", "wide thread", "high thread", "noise", "gradient", "flat"],
)
def test_where_there_is_no_face_none_is_found(
    detector: Detector, empty: Image.Image, side: int
) -> None:
    [found] = detector.find([empty], side, SCORE)
    assert len(found) == 0
    assert (found.boxes.shape, found.eyes.shape) == ((0, 4), (0, 2, 2))


def test_what_is_found_does_not_depend_on_the_company_in_the_batch(detector: Detector) -> None:
    photos = [
        people((300 + 10 * i, 300), *[(20, 10, 200)] * (i % 3 > 0))
        if i % 2
        else Image.fromarray(noise(200, 300, 3))
        for i in range(18)
    ]
    together = detector.find(photos, 128, SCORE)
    assert [len(found) for found in together] == [int(i % 2 and i % 3 > 0) for i in range(18)]
    for image, found in zip(photos, together, strict=True):
        [alone] = detector.find([image], 128, SCORE)
        np.testing.assert_allclose(alone.boxes, found.boxes, atol=0.01)
        np.testing.assert_allclose(alone.eyes, found.eyes, atol=0.01)
        np.testing.assert_allclose(alone.scores, found.scores, atol=1e-4)
    assert detector.find([], 128, SCORE) == []


def test_a_higher_score_leaves_the_surest(detector: Detector) -> None:
    image = people((1000, 800), *GROUP)
    [all_of_them] = detector.find([image], 256, SCORE)
    between = float(all_of_them.scores[1:3].mean())
    [surest] = detector.find([image], 256, between)
    assert len(surest) == 2
    assert surest.scores == pytest.approx(all_of_them.scores[:2])
    [none] = detector.find([image], 256, 1.0)
    assert len(none) == 0


def test_most_drawn_faces_are_found_once(detector: Detector) -> None:
    faces = [drawn(seed, 96) for seed in range(100, 164)]
    counts = [len(found) for found in detector.find(faces, 128, SCORE)]
    assert counts.count(1) >= 60
    assert max(counts) == 1


def test_what_two_views_have_found_of_a_face_becomes_one() -> None:
    one = faces_of((10, 10, 40, 0.6), (100, 20, 50, 0.9))
    other = faces_of((14, 10, 40, 0.3), (200, 200, 30, 0.7))
    got = merge([one, other])
    assert got.scores == pytest.approx([0.9, 0.7, 0.6])
    want = [[100, 20, 150, 70], [200, 200, 230, 230], [34 / 3, 10, 154 / 3, 50]]
    assert got.boxes == pytest.approx(np.array(want))
    eyes = [[34 / 3 + 0.35 * 40, 26], [34 / 3 + 0.65 * 40, 26]]
    assert got.eyes[2] == pytest.approx(np.array(eyes))


def test_faces_side_by_side_stay_two() -> None:
    pair = faces_of((10, 10, 40, 0.9), (35, 10, 40, 0.8))
    assert len(merge([pair])) == len(merge([pair[:1], pair[1:]])) == 2


def test_of_nothing_found_nothing_is_made() -> None:
    nobody, somebody = faces_of(), faces_of((10, 10, 40, 0.9))
    assert len(merge([nobody, nobody])) == 0
    for views in ([nobody, somebody], [somebody, nobody]):
        assert merge(views).boxes.tolist() == [[10, 10, 50, 50]]


def test_in_a_larger_photo_faces_are_larger() -> None:
    got = faces_of((10, 20, 40, 0.9)).scaled(2.5)
    assert got.boxes.tolist() == [[25, 50, 125, 150]]
    assert got.eyes == pytest.approx(np.array([[[60, 90], [90, 90]]]))
    assert (got.sides.tolist(), got.scores.tolist()) == ([100], [np.float32(0.9)])
