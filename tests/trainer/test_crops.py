from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.faces import draw_face
from trainer.crops import FRAME, RAISED, crops
from trainer.detection import Found
from trainer.image import InputSpec

GRAY = InputSpec(48, 48, 1)
COLOR = InputSpec(96, 96, 3)
LEVEL = ((-0.15, -0.1), (0.15, -0.1))
"""Where the eyes are, from the middle of the box, in its sides."""


def face_at(
    x: float, y: float, side: float, eyes: tuple[tuple[float, float], ...] = LEVEL
) -> Found:
    """A face around a middle."""
    box = [x - side / 2, y - side / 2, x + side / 2, y + side / 2]
    return Found(
        boxes=np.array([box], np.float32),
        eyes=np.array([[x, y] + side * np.array(eyes)], np.float32),
        scores=np.ones(1, np.float32),
    )


def turned(degrees: float) -> tuple[tuple[float, float], ...]:
    """LEVEL, clockwise as one sees it."""
    angle = np.radians(degrees)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    one, other = (np.array(LEVEL) @ matrix.T).tolist()
    return tuple(one), tuple(other)


def dot_in(crop: np.ndarray, color: int) -> tuple[float, float]:
    """The middle of what is bright in one channel alone, x and y in sides of the crop."""
    weights = np.clip(
        crop[..., color].astype(float) - np.delete(crop, color, 2).max(axis=2), 0, None
    )
    rows, columns = (np.arange(side) + 0.5 for side in weights.shape)
    total = weights.sum()
    x, y = (weights.sum(axis=0) @ columns / total, weights.sum(axis=1) @ rows / total)
    return x / crop.shape[1], y / crop.shape[0]


@pytest.mark.parametrize("degrees", [0, 20, -20, 75, 180])
@pytest.mark.parametrize("side", [40, 150, 600])
def test_the_eyes_of_a_turned_face_come_out_level(degrees: float, side: int) -> None:
    x, y = 700.0, 650.0
    face = face_at(x, y, side, turned(degrees))
    photo = Image.new("RGB", (1400, 1300), "black")
    pen = ImageDraw.Draw(photo)
    for eye, color in zip(face.eyes[0].tolist(), ("red", "lime"), strict=True):
        pen.circle(eye, side / 25, color)
    [crop] = crops(photo, face, COLOR)
    row = 0.5 + RAISED - 0.1 / FRAME
    assert dot_in(crop, 0) == pytest.approx((0.5 - 0.15 / FRAME, row), abs=0.015)
    assert dot_in(crop, 1) == pytest.approx((0.5 + 0.15 / FRAME, row), abs=0.015)


@pytest.mark.parametrize("degrees", [20, -15])
@pytest.mark.parametrize("spec", [GRAY, COLOR], ids=["gray", "colour"])
def test_a_face_that_was_turned_looks_as_if_it_was_not(degrees: float, spec: InputSpec) -> None:
    upright = draw_face(random.Random(7), "sad", (400, 400))
    tilted = upright.rotate(-degrees, Image.Resampling.BICUBIC)
    [straight] = crops(upright, face_at(200, 200, 180), spec).astype(int)
    raised, not_turned = (
        crops(tilted, face_at(200, 200, 180, eyes), spec)[0] for eyes in (turned(degrees), LEVEL)
    )
    # RAISED is measured along the face, so that its middle stays where it was.
    assert np.abs(raised - straight).mean() < 2
    assert np.abs(not_turned - straight).mean() > 5


@pytest.mark.parametrize("degrees", [0, 45, -30])
def test_a_turned_crop_is_filled_to_its_corners(degrees: float) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :], 256, axis=0)
    photo = Image.fromarray(np.stack([ramp] * 3, axis=-1))
    [crop] = crops(photo, face_at(128, 128, 100, turned(degrees)), GRAY)
    places = (np.arange(48) + 0.5) / 48 - 0.5
    right, below = np.cos(np.radians(degrees)), -np.sin(np.radians(degrees))
    shades = 128 + FRAME * 100 * (right * places + below * (places[:, None] - RAISED)) - 0.5
    assert np.abs(crop[..., 0] - shades).max() <= 1


def test_the_frame_is_a_little_larger_than_the_box_and_lies_higher() -> None:
    photo = Image.new("RGB", (500, 400), "white")
    photo.paste("black", (200, 100, 360, 260))
    [crop] = crops(photo, face_at(280, 180, 160), InputSpec(117, 117, 1))
    dark = crop[..., 0] < 128
    rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
    assert (len(rows), len(columns)) == pytest.approx((100, 100), abs=1)
    assert columns.mean() == pytest.approx(58, abs=1)
    assert rows.mean() == pytest.approx(58 + RAISED * 117, abs=1)


def test_a_box_that_is_no_square_gets_a_square_frame_around_its_longer_side() -> None:
    photo = Image.new("RGB", (500, 400), "white")
    photo.paste("black", (240, 100, 320, 260))
    face = face_at(280, 180, 160)
    face.boxes[0, [0, 2]] = 240, 320
    [crop] = crops(photo, face, InputSpec(117, 117, 1))
    dark = crop[..., 0] < 128
    sides = dark.any(axis=1).sum(), dark.any(axis=0).sum()
    assert sides == pytest.approx((100, 50), abs=1)


def test_eyes_near_to_each_other_are_no_line_to_turn_by() -> None:
    photo = draw_face(random.Random(3), "happy", (200, 200))
    [level] = crops(photo, face_at(100, 100, 120), GRAY)
    for profile in (((-0.05, 0.08), (0.05, -0.08)), ((0.0, 0.0), (0.0, 0.0))):
        assert np.array_equal(crops(photo, face_at(100, 100, 120, profile), GRAY)[0], level)
    [seen] = crops(photo, face_at(100, 100, 120, ((-0.08, 0.08), (0.08, -0.08))), GRAY)
    assert not np.array_equal(seen, level)


def test_beyond_the_edge_of_the_photo_the_edge_is_continued() -> None:
    rows = np.arange(200, dtype=np.uint8)
    photo = Image.fromarray(np.repeat(np.repeat(rows[:, None, None], 100, axis=1), 3, axis=2))
    [beside] = crops(photo, face_at(0, 100, 80), GRAY)
    [inside] = crops(photo, face_at(50, 100, 80), GRAY)
    assert np.array_equal(beside, inside)
    [above] = crops(photo, face_at(50, 0, 80), GRAY)
    assert above[:20].max() == 0
    assert above[-1].min() > 20
    for x, y in ((-500.0, 50.0), (50.0, 900.0)):
        [away] = crops(photo, face_at(x, y, 80), GRAY)
        assert away.shape == GRAY.shape
    assert away.min() == 199


def test_gray_is_the_gray_of_the_colours() -> None:
    photo = draw_face(random.Random(4), "happy", (300, 300))
    face = face_at(150, 150, 220)
    [color], [gray] = crops(photo, face, InputSpec(48, 48, 3)), crops(photo, face, GRAY)
    assert (color.shape, gray.shape) == ((48, 48, 3), (48, 48, 1))
    as_gray = np.asarray(Image.fromarray(color).convert("L"), int)
    assert np.abs(as_gray - gray[..., 0]).max() <= 2


@pytest.mark.parametrize("side", [0.5, 3, 30, 120, 2000])
def test_a_face_of_any_size_is_cut_out_smoothly(side: float) -> None:
    """Black and white columns finer than the crop's pixels become gray, not stripes."""
    fine = side > 1000
    pixels = np.full((2000, 2000, 3), 128, np.uint8)
    if fine:
        pixels[:, ::2], pixels[:, 1::2] = 0, 255
    [crop] = crops(Image.fromarray(pixels), face_at(1000, 1000, side), GRAY)
    assert np.abs(crop.astype(int) - 128).max() <= (20 if fine else 0)


def test_each_face_has_its_crop_and_no_face_has_none() -> None:
    photo = draw_face(random.Random(4), "happy", (300, 300))
    one, other = face_at(100, 100, 80), face_at(200, 150, 120, turned(10))
    both = Found(
        *(
            np.concatenate([getattr(f, n) for f in (one, other)])
            for n in ("boxes", "eyes", "scores")
        )
    )
    together = crops(photo, both, COLOR)
    assert np.array_equal(together[0], crops(photo, one, COLOR)[0])
    assert np.array_equal(together[1], crops(photo, other, COLOR)[0])
    assert crops(photo, both[:0], COLOR).shape == (0, *COLOR.shape)
