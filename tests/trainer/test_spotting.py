from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.trainer.people import people
from trainer import backend, bundle
from trainer.graph import Graph
from trainer.lite import Lite
from trainer.spotting import Spots, Spotter
from trainer.views import Letterboxed, letterboxed

backend.start()

PLACES = [(60 + n % 6 * 190, 60 + n // 6 * 150, 48) for n in range(30)]
"""In 1200 x 900 pixels."""


@pytest.fixture(scope="module")
def spotter() -> Spotter:
    return bundle.spotter()


def view(side: int, *places: tuple[int, int, int]) -> Letterboxed:
    return letterboxed(people((1200, 900), *places), side)


def near(spots: Spots, place: tuple[int, int, int]) -> np.ndarray:
    x, y, side = place
    middle = np.array([x + 0.5 * side, y + 0.58 * side])
    return np.abs(spots.places - middle).max(axis=1) < side / 4


@pytest.mark.parametrize("count", [0, 1, 12, 30])
def test_there_is_a_spot_where_a_tiny_face_is(spotter: Spotter, count: int) -> None:
    [spots] = spotter.find([view(512, *PLACES[:count])], 0.0)
    assert len(spots) == count
    assert all(near(spots, place).sum() == 1 for place in PLACES[:count])
    assert (np.diff(spots.logits) <= 0).all()


@pytest.mark.parametrize("side", [48, 72, 96])
def test_a_spot_says_how_large_the_face_is(spotter: Spotter, side: int) -> None:
    places = [(x, y, side) for x, y, _ in PLACES]
    [spots] = spotter.find([view(512, *places)], 0.0)
    assert len(spots) >= 28
    assert np.median(spots.sides) == pytest.approx(0.69 * side, rel=0.25)


def test_a_smaller_view_tells_a_crowd_from_a_few(spotter: Spotter) -> None:
    few, many = spotter.find([view(256, *PLACES[:n]) for n in (3, 30)], 1.0)
    assert len(few) <= 3
    assert len(many) >= 10


def test_in_quarters_each_face_is_a_spot(spotter: Spotter) -> None:
    photo = people((1200, 900), *PLACES)
    spots = spotter.find_in_quarters(photo, 512, 0.0)
    assert [near(spots, place).sum() for place in PLACES] == [1] * len(PLACES)
    assert len(spots) == len(PLACES)
    assert (np.diff(spots.logits) <= 0).all()


@pytest.mark.parametrize("at", range(540, 620, 7))
def test_none_is_lost_between_quarters(spotter: Spotter, at: int) -> None:
    places = [(at, 60, 48), (60, at - 150, 48), (at, at - 150, 48)]
    spots = spotter.find_in_quarters(people((1200, 900), *places), 512, 0.0)
    assert all(near(spots, place).any() for place in places)


def test_of_small_faces_side_by_side_quarters_show_more(spotter: Spotter) -> None:
    pairs = [(x + n * 34, y, 34) for x, y, _ in PLACES[::3] for n in range(2)]
    photo = people((1200, 900), *pairs)
    [spots] = spotter.find([letterboxed(photo, 512)], 0.0)
    assert len(spots) <= len(pairs) / 2
    assert len(spotter.find_in_quarters(photo, 512, 0.0)) > 0.9 * len(pairs)


@pytest.mark.parametrize(
    "empty",
    [
        Image.new("RGB", (1, 1)),
        Image.new("RGB", (2000, 1), "white"),
        Image.linear_gradient("L").convert("RGB"),
        people((640, 480)),
    ],
    ids=["pixel", "thread", "gradient", "flat"],
)
def test_where_there_is_nothing_there_is_no_crowd(spotter: Spotter, empty: Image.Image) -> None:
    [spots] = spotter.find([letterboxed(empty, 512)], 0.0)
    assert len(spots) < 12


def test_what_is_seen_does_not_depend_on_the_company(spotter: Spotter) -> None:
    tall = letterboxed(people((600, 1200), *PLACES[:2]), 512)
    views = [view(512, *PLACES), tall, view(512), view(512, *PLACES[:9])]
    together = spotter.find(views, 0.0)
    assert [len(spots) for spots in together] == [30, 2, 0, 9]
    for one, spots in zip(views, together, strict=True):
        [alone] = spotter.find([one], 0.0)
        np.testing.assert_allclose(alone.places, spots.places, atol=0.1)
        np.testing.assert_allclose(alone.sides, spots.sides, atol=0.1)
        np.testing.assert_allclose(alone.logits, spots.logits, atol=0.01)
    assert spotter.find([], 0.0) == []


def test_both_networks_say_the_same(spotter: Spotter) -> None:
    pixels = view(512, *PLACES).pixels[None]
    network = spotter.network
    [keras], [lite] = Graph(network.model)(pixels), Lite(network.lite)(pixels)
    np.testing.assert_allclose(keras, lite, atol=0.05)
