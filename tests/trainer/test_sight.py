from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.trainer.people import drawn, faces_of
from trainer.crops import FRAME, crops
from trainer.image import InputSpec, stretched
from trainer.sight import COVERED, Sight

SPEC = InputSpec(48, 48, 1)


def test_what_crops_leave_of_the_photo_is_the_rest() -> None:
    photo = Image.new("RGB", (400, 200))
    assert Sight(photo, 1.0).rest == 1.0
    one = Sight(photo, 3.0, faces_of((10, 10, 100, 0.9)))
    assert one.rest == pytest.approx(1 - (FRAME * 100) ** 2 / (200 * 400))
    two = Sight(photo, 3.0, faces_of((10, 10, 100, 0.9), (200, 20, 50, 0.9)))
    assert two.rest == pytest.approx(1 - FRAME**2 * (100**2 + 50**2) / (200 * 400))
    assert Sight(photo, 1.0, faces_of((0, 0, 190, 0.9), (200, 0, 190, 0.9))).rest == 0.0


@pytest.mark.parametrize(("side", "is_crop"), [(118, False), (124, True), (190, True)])
def test_a_photo_that_one_face_covers_is_shown_as_it_is(side: int, is_crop: bool) -> None:
    photo = drawn(6, 200)
    one = faces_of((10, 5, side, 0.9))
    sight = Sight(photo, 2.0, one)
    assert (sight.rest == 0.0) == is_crop
    want = stretched(photo, SPEC)[None] if is_crop else crops(photo, one, SPEC)
    assert np.array_equal(sight.crops(SPEC), want)
    assert not np.array_equal(stretched(photo, SPEC)[None], crops(photo, one, SPEC))


def test_a_photo_that_two_faces_cover_is_not_taken_for_one() -> None:
    photo = drawn(6, 200)
    pair = faces_of((0, 0, 110, 0.9), (115, 115, 80, 0.9))
    covered = FRAME**2 * (110**2 + 80**2) / 200**2
    assert covered > COVERED
    sight = Sight(photo, 2.0, pair)
    assert sight.rest == pytest.approx(1 - covered)
    assert np.array_equal(sight.crops(SPEC), crops(photo, pair, SPEC))
    both = Sight(photo, 2.0, faces_of((0, 0, 150, 0.9), (80, 80, 120, 0.9)))
    assert both.rest == 0.0
    assert np.array_equal(both.crops(SPEC), crops(photo, both.faces, SPEC))


def test_sides_are_shares_of_the_longer_side_of_the_photo() -> None:
    faces = faces_of((0, 0, 47, 0.9), (50, 50, 49, 0.9), (100, 100, 20, 0.9))
    for size in ((400, 200), (200, 400)):
        sight = Sight(Image.new("RGB", size), 1.0, faces)
        assert sight.sides == pytest.approx([47 / 400, 49 / 400, 20 / 400])
