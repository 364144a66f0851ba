from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from PIL import ExifTags, Image
from trainer.sight import Sight, largest_faces

from tests.helpers import encoded
from tests.trainer.people import Place, assert_found, drawn, noise, people
from tests.trainer.small import seen
from trainer import bundle
from trainer.crops import crops
from trainer.detection import Detector, Found
from trainer.faces import FaceLimits
from trainer.finding import SUSPECTED, FaceFinder
from trainer.image import DecodedImage, InputSpec, View, decode, larger_photo
from trainer.views import Letterboxed

SPEC = InputSpec(48, 48, 1)
VIEW = View(SPEC, FaceFinder.photo_side)


class Watched(Detector):
    """A detector, and the side of each view that was looked at, with the number of photos."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.looks: list[tuple[int, int]] = []

    def look(self, views: Sequence[Letterboxed], score: float) -> list[Found]:
        if views:
            self.looks.append((max(views[0].pixels.shape), len(views)))
        return self._detector.look(views, score)


@pytest.fixture
def watched(detector: Detector) -> Watched:
    return Watched(detector)


def find(detector: Detector, *images: DecodedImage, **limits: float) -> list[Sight]:
    finder = FaceFinder(detector, FaceLimits(**limits), bundle.spotter())  # type: ignore[arg-type]
    return finder.find(images)


def in_the_original(sight: Sight) -> Found:
    """The faces in pixels of the whole upright image."""
    return sight.faces.scaled(sight.scale)


def rows_of(count: int, across: int, step: tuple[int, int], side: int) -> list[Place]:
    return [(20 + n % across * step[0], 20 + n // across * step[1], side) for n in range(count)]


PORTRAIT = [(20, 100, 360)]
"""In 400 x 600 pixels."""

FOUR = [(50, 40, 300), (600, 60, 240), (120, 450, 280), (650, 480, 250)]
"""In 1000 x 800 pixels."""

EIGHT = rows_of(8, 4, (190, 250), 60)
"""In 800 x 600 pixels, with heads of 40."""

CROWD = rows_of(24, 6, (260, 290), 120)
"""In 1600 x 1200 pixels."""


TINY = rows_of(30, 6, (195, 170), 48)
"""In 1200 x 900 pixels, with heads of 33."""


@pytest.fixture(scope="module")
def portrait() -> DecodedImage:
    return seen(people((400, 600), *PORTRAIT), VIEW)


@pytest.fixture(scope="module")
def four() -> DecodedImage:
    return seen(people((1000, 800), *FOUR), VIEW)


@pytest.fixture(scope="module")
def eight() -> DecodedImage:
    return seen(people((800, 600), *EIGHT), VIEW)


@pytest.fixture(scope="module")
def crowd() -> DecodedImage:
    return seen(people((1600, 1200), *CROWD), VIEW)


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
    assert np.array_equal(sight.photo, scene.photo)  # type: ignore[arg-type]


def test_hints_of_small_faces_are_worth_a_closer_look(
    watched: Watched, eight: DecodedImage
) -> None:
    [sight] = find(watched, eight)
    assert_found(in_the_original(sight), *EIGHT)
    assert watched.looks == [(128, 1), (256, 1), (512, 1)]
    [hints] = watched.find([sight.photo], 256, SUSPECTED * FaceLimits().score)
    assert 0 < len(hints) < 8
    assert hints.scores.max() < FaceLimits().score


def test_a_sure_face_alone_is_not_looked_for_company(watched: Watched) -> None:
    for x, side, looks in ((300, 240, 1), (350, 120, 2)):
        watched.looks.clear()
        [sight] = find(watched, seen(people((800, 600), (x, 200, side)), VIEW))
        assert_found(in_the_original(sight), (x, 200, side))
        assert watched.looks == [(128, 1), (256, 1)][:looks]


def test_hints_beside_a_sure_face_are_not_enough(watched: Watched) -> None:
    small = [(420 + n % 3 * 120, 20 + n // 3 * 140, 60) for n in range(6)]
    find(watched, seen(people((800, 600), (40, 200, 200), *small), VIEW))
    assert watched.looks == [(128, 1), (256, 1)]


def test_a_crowd_is_looked_at_in_a_larger_photo(watched: Watched, crowd: DecodedImage) -> None:
    [sight] = find(watched, crowd)
    assert watched.looks == [(128, 1), (256, 1), (512, 1), (96, 5)]
    larger = larger_photo(crowd, 1024)
    assert larger is not None
    assert np.array_equal(sight.photo, larger)
    assert (sight.photo.shape, sight.scale) == ((1200, 1600, 3), 1.0)
    assert_found(in_the_original(sight), *CROWD)
    want = crops(larger, in_the_original(sight), SPEC)
    assert np.abs(sight.crops(SPEC).astype(int) - want).max() <= 1


def test_a_crowd_whose_photo_cannot_be_had_larger_is_looked_at_as_it_is(
    watched: Watched, crowd: DecodedImage
) -> None:
    [sight] = find(watched, replace(crowd, encoded=None))
    assert watched.looks[-1] == (96, 5)
    assert np.array_equal(sight.photo, crowd.photo)  # type: ignore[arg-type]
    assert sight.scale == 1600 / FaceFinder.photo_side
    assert_found(in_the_original(sight), *CROWD)


@pytest.mark.parametrize(
    ("size", "photo", "scale"),
    [((800, 600), (600, 800), 1.0), ((3200, 2400), (1200, 1600), 2.0)],
)
def test_boxes_are_right_however_large_the_photo_of_a_crowd_can_be_had(
    detector: Detector, size: tuple[int, int], photo: tuple[int, int], scale: float
) -> None:
    image = seen(people((1600, 1200), *CROWD).resize(size), VIEW, "JPEG")
    [sight] = find(detector, image)
    assert (sight.photo.shape[:2], sight.scale) == (photo, scale)
    factor = size[0] / 1600
    places = [(int(x * factor), int(y * factor), int(side * factor)) for x, y, side in CROWD]
    assert_found(in_the_original(sight), *places)


def test_a_crowd_in_a_turned_file_is_found_upright(detector: Detector) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stored = people((1600, 1200), *CROWD).transpose(Image.Transpose.ROTATE_90)
    [sight] = find(detector, decode(encoded(stored, "JPEG", exif=exif, quality=92), VIEW))
    assert sight.photo.shape == (1200, 1600, 3)
    assert_found(in_the_original(sight), *CROWD)


@pytest.mark.parametrize("size", [(1200, 900), (900, 1200)])
@pytest.mark.parametrize("step", [1.0, 0.5])
def test_tiny_faces_in_a_crowd_are_found(
    watched: Watched, size: tuple[int, int], step: float
) -> None:
    across = (size[0] - 70) // 5, (size[1] - 70) // 4
    places = [
        (round(20 + n % 6 * across[0] * step), round(20 + n // 6 * across[1] * step), 48)
        for n in range(30)
    ]
    [sight] = find(watched, seen(people(size, *places), VIEW, "JPEG"))
    assert max(sight.photo.shape) == max(size)
    assert_found(in_the_original(sight), *places)
    assert in_the_original(sight).sides.max() < 45
    assert [side for side, _ in watched.looks[-2:]] == [96, 96]


def test_nearly_all_faces_of_24_pixels_are_found(detector: Detector) -> None:
    places = [(x, y, 36) for x, y, _ in TINY]
    [sight] = find(detector, seen(people((1200, 900), *places), VIEW, "JPEG"))
    found = in_the_original(sight)
    assert 27 <= len(found) <= 30
    assert 23 < np.median(found.sides) < 26
    for x, y in (found.boxes[:, :2] + found.boxes[:, 2:]) / 2:
        assert any(left < x < left + 36 and top < y < top + 36 for left, top, _ in places)


def test_tiny_faces_are_found_beside_a_larger_one(detector: Detector) -> None:
    places = [(820, 20, 300), *((20 + n % 6 * 120, 20 + n // 6 * 170, 48) for n in range(30))]
    [sight] = find(detector, seen(people((1200, 900), *places), VIEW, "JPEG"))
    assert_found(in_the_original(sight), *places)


def test_few_tiny_faces_are_no_crowd(watched: Watched) -> None:
    [sight] = find(watched, seen(people((1200, 900), *TINY[:5]), VIEW, "JPEG"))
    assert len(sight.faces) == 0
    assert watched.looks == [(128, 1), (256, 1)]


def test_what_only_looks_like_a_crowd_is_looked_at_in_a_sample(watched: Watched) -> None:
    [sight] = find(watched, seen(Image.fromarray(noise(225, 300, 3)).resize((1200, 900)), VIEW))
    assert len(sight.faces) == 0
    assert watched.looks == [(128, 1), (256, 1), (96, 6)]


def test_in_an_image_that_is_too_small_for_it_nobody_looks_for_a_crowd(watched: Watched) -> None:
    find(watched, seen(people((1200, 900), *TINY).resize((600, 450)), VIEW))
    assert all(side > 96 for side, _ in watched.looks)


def test_who_says_so_does_not_look_for_tiny_faces(detector: Detector) -> None:
    image = seen(people((1200, 900), *TINY), VIEW, "JPEG")
    [sight] = FaceFinder(detector, FaceLimits()).find([image])
    assert len(sight.faces) == 0


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
    assert watched.looks == [(128, 8), (256, 6), (512, 3), (96, 5), (96, 5)]
    assert [len(sight.faces) for sight in together] == [24, 0, 1, 8, 4, 1, 0, 24]
    for image, sight in zip(images, together, strict=True):
        [alone] = find(watched, image)
        assert (alone.scale, alone.photo.shape) == (sight.scale, sight.photo.shape)
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
        [sight] = FaceFinder(detector, FaceLimits(**limits)).find([crowd])  # type: ignore[arg-type]
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
