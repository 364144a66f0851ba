from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from PIL import ExifTags, Image

from tests.helpers import encoded
from tests.trainer.people import Place, assert_found, faces_of, noise, people
from tests.trainer.small import seen
from tests.trainer.watching import (
    CROWD,
    EIGHT,
    SPEC,
    TINY,
    VIEW,
    Watched,
    find,
    in_the_original,
    rows_of,
)
from trainer import bundle, crowds
from trainer.crops import crops
from trainer.crowds import (
    CERTAIN,
    GLANCE,
    LIKELY,
    MOST,
    POSSIBLE,
    QUARTER,
    SAMPLE,
    SEVERAL,
    VAIN,
    VAIN_AT_LAST,
)
from trainer.detection import Detector, Found, merge
from trainer.faces import FaceLimits
from trainer.finding import FaceFinder
from trainer.image import DecodedImage, decode, larger_photo
from trainer.views import Letterboxed, letterboxed


def test_a_crowd_is_looked_at_in_a_larger_photo(watched: Watched, crowd: DecodedImage) -> None:
    [sight] = find(watched, crowd)
    assert watched.looks == [(128, 1), (256, 1), *[(64, SAMPLE)] * 6]
    larger = larger_photo(crowd, 1024)
    assert larger is not None
    assert sight.photo == larger
    assert (sight.photo.size, sight.scale) == ((1600, 1200), 1.0)
    assert_found(in_the_original(sight), *CROWD)
    want = crops(larger, in_the_original(sight), SPEC)
    assert np.abs(sight.crops(SPEC).astype(int) - want).max() <= 1


def test_a_crowd_whose_photo_cannot_be_had_larger_is_looked_at_as_it_is(
    watched: Watched, crowd: DecodedImage
) -> None:
    [sight] = find(watched, replace(crowd, encoded=None))
    assert watched.looks[2:] == [(64, SAMPLE)] * 6
    assert sight.photo == crowd.photo  # type: ignore[arg-type]
    assert sight.scale == 1600 / FaceFinder.photo_side
    assert_found(in_the_original(sight), *CROWD)


@pytest.mark.parametrize(
    ("size", "photo", "scale"),
    [((800, 600), (800, 600), 1.0), ((3200, 2400), (1600, 1200), 2.0)],
)
def test_boxes_are_right_however_large_the_photo_of_a_crowd_can_be_had(
    detector: Detector, size: tuple[int, int], photo: tuple[int, int], scale: float
) -> None:
    image = seen(people((1600, 1200), *CROWD).resize(size), VIEW, "JPEG")
    [sight] = find(detector, image)
    assert (sight.photo.size, sight.scale) == (photo, scale)
    factor = size[0] / 1600
    places = [(int(x * factor), int(y * factor), int(side * factor)) for x, y, side in CROWD]
    assert_found(in_the_original(sight), *places)


def test_a_crowd_in_a_turned_file_is_found_upright(detector: Detector) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stored = people((1600, 1200), *CROWD).transpose(Image.Transpose.ROTATE_90)
    [sight] = find(detector, decode(encoded(stored, "JPEG", exif=exif, quality=92), VIEW))
    assert sight.photo.size == (1600, 1200)
    assert_found(in_the_original(sight), *CROWD)


def test_a_group_of_small_faces_is_found(watched: Watched, eight: DecodedImage) -> None:
    [sight] = find(watched, eight)
    assert_found(in_the_original(sight), *EIGHT)
    assert watched.looks == [(128, 1), (256, 1), (64, 4), (64, 4), (64, 2)]
    [glance] = watched.find([sight.photo], 256, FaceLimits().score)
    assert len(glance) < 8


def test_small_faces_are_found_beside_a_larger_one(detector: Detector) -> None:
    places = [(40, 200, 200), *((420 + n % 3 * 120, 20 + n // 3 * 140, 60) for n in range(6))]
    [sight] = find(detector, seen(people((800, 600), *places), VIEW))
    assert_found(in_the_original(sight), *places)


@pytest.mark.parametrize(("large", "count"), [((40, 100, 400), 1), ((20, 60, 400), 7)])
def test_beside_a_large_face_that_is_certain_nobody_looks_for_small_ones(
    watched: Watched, large: Place, count: int
) -> None:
    small = [(440 + n % 3 * 120, 20 + n // 3 * 140, 60) for n in range(6)]
    [sight] = find(watched, seen(people((800, 600), large, *small), VIEW))
    assert_found(in_the_original(sight), *[large, *small][:count])
    assert (sight.faces.scores[0] >= CERTAIN) == (count == 1)
    assert watched.looks == [(128, 1), (64, 4), (64, 4), (64, 1), (64, 2)][:count]


@pytest.mark.parametrize("size", [(1200, 900), (900, 1200)])
@pytest.mark.parametrize("step", [1.0, 0.5])
@pytest.mark.parametrize("side", [36, 48])
def test_nearly_all_tiny_faces_in_a_crowd_are_found(
    detector: Detector, size: tuple[int, int], step: float, side: int
) -> None:
    across = (size[0] - 70) // 5, (size[1] - 70) // 4
    places = [
        (round(20 + n % 6 * across[0] * step), round(20 + n // 6 * across[1] * step), side)
        for n in range(30)
    ]
    [sight] = find(detector, seen(people(size, *places), VIEW, "JPEG"))
    assert max(sight.photo.size) == max(size)
    found = in_the_original(sight)
    assert 28 <= len(found) <= 30
    assert np.median(found.sides) == pytest.approx(0.69 * side, rel=0.1)
    for x, y in found.middles:
        assert any(left < x < left + side and top < y < top + side for left, top, _ in places)


def test_tiny_faces_are_found_beside_a_larger_one(detector: Detector) -> None:
    places = [(820, 20, 300), *((20 + n % 6 * 120, 20 + n // 6 * 170, 48) for n in range(30))]
    [sight] = find(detector, seen(people((1200, 900), *places), VIEW, "JPEG"))
    assert_found(in_the_original(sight), *places)


def test_faint_faces_in_a_large_image_are_looked_for_in_a_larger_view(detector: Detector) -> None:
    places = rows_of(10, 6, (182, 160), 36)
    image = seen(people((1280, 960), *places), VIEW, "JPEG")
    [sight] = find(detector, image)
    assert len(sight.faces) == len(places)
    assert image.photo is not None
    [spots] = bundle.spotter().find([letterboxed(image.photo, GLANCE)], LIKELY)
    assert 0 < len(spots) < crowds.CROWD


def test_few_tiny_faces_are_no_crowd(watched: Watched) -> None:
    [sight] = find(watched, seen(people((1200, 900), *TINY[:5]), VIEW, "JPEG"))
    assert len(sight.faces) == 0
    assert watched.looks == [(128, 1), (256, 1)]


@pytest.mark.parametrize(("known", "count"), [(5, 5), (6, 8)])
def test_beside_many_known_faces_a_single_spot_is_looked_at(
    detector: Detector, known: int, count: int
) -> None:
    large = [(20 + n % 3 * 280, 40 + n // 3 * 360, 210) for n in range(known)]
    places = [*large, (900, 80, 60), (1050, 500, 60)]
    [sight] = find(detector, seen(people((1200, 900), *places), VIEW, "JPEG"))
    assert_found(in_the_original(sight), *places[:count])


def test_what_only_looks_like_a_crowd_is_looked_at_in_samples(watched: Watched) -> None:
    [sight] = find(watched, seen(Image.fromarray(noise(56, 75, 3)).resize((1200, 900)), VIEW))
    assert len(sight.faces) == 0
    assert watched.looks == [(128, 1), (256, 1), *[(64, SAMPLE)] * VAIN]


def test_a_small_face_before_a_larger_one_is_found(detector: Detector) -> None:
    places = [(820, 20, 200), (950, 130, 44), *TINY[:4], *TINY[6:10], *TINY[12:18]]
    [sight] = find(detector, seen(people((1200, 900), *places), VIEW, "JPEG"))
    assert_found(in_the_original(sight), *places)
    assert sight.faces.scores[0] >= CERTAIN


@pytest.mark.parametrize("count", [SEVERAL - 1, SEVERAL])
def test_what_looks_like_a_crowd_is_one_if_it_shows_several_faces(
    detector: Detector, count: int
) -> None:
    image = Image.fromarray(noise(56, 75, 3)).resize((1200, 900))
    image.paste(people((1200, 320), *[(x, y, 80) for x, y, _ in TINY[:count]]), (0, 0))
    [sight] = find(detector, seen(image, VIEW, "JPEG"))
    heads = [(x + 40, y + 46) for x, y, _ in TINY[:count]]
    found = in_the_original(sight).middles.tolist()
    at_heads = [at for at in found if any(math.dist(at, head) < 20 for head in heads)]
    assert len(at_heads) == (SEVERAL if count == SEVERAL else 0)
    assert bool(found) == (count == SEVERAL)


def test_less_likely_spots_are_left_where_no_face_shows(watched: Watched) -> None:
    image = people((1200, 900), *TINY[:6])
    image.paste(Image.fromarray(noise(28, 150, 3)).resize((1200, 200)), (0, 700))
    spots = bundle.spotter().find_in_quarters(image, QUARTER, POSSIBLE)
    assert len(spots) > MOST
    [sight] = find(watched, seen(image, VIEW, "JPEG"))
    assert_found(in_the_original(sight), *TINY[:6])
    # The first view shows all, and the quarters no more.
    first = [(64, 4), (64, 4), (64, 3)]
    assert watched.looks == [(128, 1), (256, 1), *first, *[(64, SAMPLE)] * VAIN_AT_LAST]


def test_a_crowd_in_a_small_image_is_found(detector: Detector) -> None:
    small = people((1600, 1200), *CROWD).resize((440, 330), Image.Resampling.LANCZOS)
    [sight] = find(detector, seen(small, VIEW))
    places = [(round(x * 0.275), round(y * 0.275), round(side * 0.275)) for x, y, side in CROWD]
    assert_found(in_the_original(sight), *places)


def test_in_an_image_too_small_to_be_more_than_a_face_nobody_looks(watched: Watched) -> None:
    find(watched, seen(people((1600, 1200), *CROWD).resize((96, 72)), VIEW))
    assert watched.looks == []


def test_who_says_so_does_not_look_for_tiny_faces(detector: Detector) -> None:
    image = seen(people((1200, 900), *TINY), VIEW, "JPEG")
    [sight] = FaceFinder(detector, FaceLimits()).find([image])
    assert len(sight.faces) == 0


class Mistaken(Watched):
    """It takes the whole group for a face, too, at the first look."""

    def __init__(self, detector: Detector, score: float) -> None:
        super().__init__(detector)
        self._score = score

    def look(self, views: Sequence[Letterboxed], score: float) -> list[Found]:
        found = super().look(views, score)
        if self.looks[-1][0] != 128:
            return found
        return [merge([some, faces_of((100, 20, 200, self._score))]) for some in found]


@pytest.mark.parametrize(("score", "count"), [(0.7, 24), (0.9, 1)])
def test_a_group_that_looks_like_a_face_is_none_unless_that_is_certain(
    detector: Detector, crowd: DecodedImage, score: float, count: int
) -> None:
    [sight] = find(Mistaken(detector, score), crowd)
    assert len(sight.faces) == count
    assert (sight.sides.max() > 0.4) == (count == 1)
