from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.trainer.people import assert_found, drawn, people
from tests.trainer.small import seen
from tests.trainer.watching import (
    FOUR,
    PORTRAIT,
    SPEC,
    VIEW,
    Watched,
    find,
    in_the_original,
)
from trainer.crops import crops
from trainer.detection import Detector, Found
from trainer.image import DecodedImage
from trainer.sight import largest_faces


@pytest.fixture(scope="module")
def portrait() -> DecodedImage:
    return seen(people((400, 600), *PORTRAIT), VIEW)


@pytest.fixture(scope="module")
def four() -> DecodedImage:
    return seen(people((1000, 800), *FOUR), VIEW)


@pytest.fixture(scope="module")
def scene() -> DecodedImage:
    return seen(Image.linear_gradient("L"), VIEW)


def test_a_portrait_is_found_at_the_first_look(watched: Watched, portrait: DecodedImage) -> None:
    [sight] = find(watched, portrait)
    assert_found(in_the_original(sight), *PORTRAIT)
    assert watched.looks == [(128, 1)]


def test_where_no_face_is_large_the_second_look_finds_smaller_ones(
    watched: Watched, four: DecodedImage
) -> None:
    [sight] = find(watched, four)
    assert_found(in_the_original(sight), *FOUR)
    assert watched.looks == [(128, 1), (256, 1)]


def test_where_there_is_nobody_nobody_looks_closer(watched: Watched, scene: DecodedImage) -> None:
    [sight] = find(watched, scene)
    assert len(sight.faces) == 0
    assert watched.looks == [(128, 1), (256, 1)]
    assert sight.photo == scene.photo  # type: ignore[arg-type]


def test_a_sure_face_alone_is_not_looked_for_company(watched: Watched) -> None:
    for x, side, looks in ((300, 240, 1), (350, 120, 2)):
        watched.looks.clear()
        [sight] = find(watched, seen(people((800, 600), (x, 200, side)), VIEW))
        assert_found(in_the_original(sight), (x, 200, side))
        assert watched.looks == [(128, 1), (256, 1)][:looks]


def test_a_face_that_fills_the_image_counts_without_being_sure(detector: Detector) -> None:
    place = (0, 0, 240)
    [sight] = find(detector, seen(people((240, 240), place), VIEW), score=0.97)
    assert_found(in_the_original(sight), place)
    assert sight.faces.scores[0] < 0.97
    for size in ((640, 240), (480, 480)):
        larger = seen(people(size, (100, 0, 240)), VIEW)
        found = [len(find(detector, larger, score=score)[0].faces) for score in (0.6, 0.97)]
        assert found == [1, 0]


@pytest.mark.parametrize("seed", [3, 4, 8])
def test_a_face_with_nothing_around_it_is_looked_at_with_a_margin(
    watched: Watched, detector: Detector, seed: int
) -> None:
    image = seen(drawn(seed, 400).crop((72, 92, 328, 348)), VIEW)
    assert image.photo is not None
    [unsure] = detector.find([image.photo], 128, 0.3)
    assert unsure.scores.max() < 0.6
    [sight] = find(watched, image)
    assert watched.looks == [(128, 1), (128, 1)]
    [score], [side] = sight.faces.scores, sight.sides
    assert score >= 0.6
    assert 0.85 < side < 1.2
    assert sight.is_crop


def test_a_face_that_is_not_sure_does_not_count_beside_one_that_is(detector: Detector) -> None:
    picture = drawn(3, 500).crop((50, 50, 450, 450))
    picture.paste(drawn(4, 100), (300, 0))
    image = seen(picture, VIEW)
    [both] = find(detector, image)
    scores = both.faces.scores
    assert len(scores) == 2
    [sure] = find(detector, image, score=float(scores.mean()))
    assert len(sure.faces) == 1
    assert not sure.is_crop
    [neither] = find(detector, image, score=0.99)
    assert neither.is_crop


def test_company_in_the_batch_changes_nothing(
    watched: Watched,
    portrait: DecodedImage,
    four: DecodedImage,
    eight: DecodedImage,
    crowd: DecodedImage,
    scene: DecodedImage,
) -> None:
    images = [crowd, scene, portrait, eight, four, portrait, scene, crowd]
    together = find(watched, *images)
    assert watched.looks[:2] == [(128, 8), (256, 6)]
    assert [len(sight.faces) for sight in together] == [24, 0, 1, 8, 4, 1, 0, 24]
    for image, sight in zip(images, together, strict=True):
        [alone] = find(watched, image)
        assert (alone.scale, alone.photo.size) == (sight.scale, sight.photo.size)
        np.testing.assert_allclose(alone.faces.boxes, sight.faces.boxes, atol=0.05)
        np.testing.assert_allclose(alone.faces.eyes, sight.faces.eyes, atol=0.05)
        np.testing.assert_allclose(alone.faces.scores, sight.faces.scores, atol=1e-3)
    assert find(watched) == []


def test_the_largest_face_comes_first_and_so_many_count(
    detector: Detector, crowd: DecodedImage
) -> None:
    [everybody] = find(detector, crowd)
    assert (np.diff(everybody.faces.sides) <= 0).all()
    assert (np.diff(everybody.faces.scores) > 0).any()
    [five] = find(detector, crowd, most=5)
    np.testing.assert_array_equal(five.faces.boxes, everybody.faces.boxes[:5])


def test_the_smallest_face_is_measured_in_the_original(
    detector: Detector, crowd: DecodedImage
) -> None:
    def found(**limits: int) -> Found:
        [sight] = find(detector, crowd, **limits)
        return in_the_original(sight)

    sides = found().sides
    limit = int(np.median(sides))
    assert 60 < limit < 100
    larger = found(smallest=limit)
    assert larger.sides.tolist() == sides[sides >= limit].tolist()
    assert 0 < len(larger) < 24


def test_who_wants_no_faces_does_not_look_for_any(watched: Watched, four: DecodedImage) -> None:
    [sight] = find(watched, four, enabled=False)
    assert (len(sight.faces), sight.rest, watched.looks) == (0, 1.0, [])


def test_of_each_image_the_largest_face_is_shown_and_else_the_whole(
    detector: Detector, scene: DecodedImage
) -> None:
    large = (180, 80, 200)
    images = [scene, seen(people((400, 300), (20, 20, 100), large), VIEW)]
    _, pair = sights = find(detector, *images)
    assert len(pair.faces) == 2
    assert_found(in_the_original(pair)[[0]], large)
    whole, face = largest_faces(images, sights, SPEC)
    assert np.array_equal(whole, scene.pixels)
    assert np.array_equal(face, crops(pair.photo, pair.faces[[0]], SPEC)[0])
