from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import ExifTags, Image

from tests.faces import draw_face
from tests.helpers import encoded
from tests.trainer.people import drawn, noise, people
from tests.trainer.small import bundle_of, predictor, seen
from trainer.bundle import Bundle
from trainer.detection import Detector
from trainer.faces import Box, FaceLimits, JudgedFace
from trainer.finding import FaceFinder
from trainer.fusion import Fusion
from trainer.image import DecodedImage, InputSpec, View, decode, stretched
from trainer.judging import FaceJudge, Judged
from trainer.logits import logit, probability
from trainer.sight import LARGEST_CROP


def group(size: tuple[int, int] = (600, 400)) -> Image.Image:
    """A large happy face, a smaller sad one, and a small happy one, on gray."""
    image = Image.new("RGB", (600, 400), (150, 160, 170))
    for seed, mood, side, corner in (
        (1, "happy", 240, (10, 80)),
        (2, "sad", 200, (310, 10)),
        (3, "happy", 180, (380, 215)),
    ):
        image.paste(draw_face(random.Random(seed), mood, (side, side)), corner)
    return image.resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def judge(faces_alone: Bundle, detector: Detector) -> FaceJudge:
    assert faces_alone.faces
    return FaceJudge(FaceFinder(detector, FaceLimits()), faces_alone.faces.predict)


def limited(judge: FaceJudge, detector: Detector, **limits: float) -> FaceJudge:
    return FaceJudge(FaceFinder(detector, FaceLimits(**limits)), judge.predict)  # type: ignore[arg-type]


def photo(image: Image.Image) -> DecodedImage:
    return seen(image, View(InputSpec(48, 48, 1), FaceJudge.photo_side))


def judged(judge: FaceJudge, *images: DecodedImage) -> list[Judged]:
    """Of images that all have faces."""
    return [one for one in judge.judge(images) if one]


def edges(box: Box) -> tuple[int, int, int, int]:
    return box.x, box.y, box.x + box.width, box.y + box.height


def middle(face: JudgedFace) -> tuple[float, float]:
    left, top, right, bottom = edges(face.box)
    return (left + right) / 2, (top + bottom) / 2


MIDDLES = [(130, 220), (410, 126), (470, 320)]
"""Of the faces of a `group`, the largest first."""


def test_each_face_is_judged_and_weighs_as_it_is_large(judge: FaceJudge) -> None:
    [one] = judged(judge, photo(group()))
    for face, there in zip(one.faces, MIDDLES, strict=True):
        assert middle(face) == pytest.approx(there, abs=25)
        assert 0.6 <= face.score <= 1
    assert [face.p_sad > 0.5 for face in one.faces] == [False, True, False]
    logits = logit(np.array([face.p_sad for face in one.faces])) * judge.predict.temperature
    sides = [max(face.box.width, face.box.height) for face in one.faces]
    assert one.logit == pytest.approx(np.average(logits, weights=sides), abs=0.05)


def test_boxes_are_pixels_of_the_original_however_large_it_is(judge: FaceJudge) -> None:
    plain, large, tiny = judged(
        judge, *(photo(group(size)) for size in ((600, 400), (4200, 2800), (300, 200)))
    )
    for want, got in zip(plain.faces, large.faces, strict=True):
        assert edges(got.box) == pytest.approx([7 * edge for edge in edges(want.box)], abs=40)
    assert edges(tiny.faces[0].box) == pytest.approx(
        [edge / 2 for edge in edges(plain.faces[0].box)], abs=4
    )


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_boxes_are_pixels_of_the_upright_image(judge: FaceJudge, orientation: int) -> None:
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}
    upright = group((2400, 1600))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = upright.transpose(turns.get(orientation, Image.Transpose.ROTATE_270))
    view = View(judge.predict.spec, judge.photo_side)
    images = [
        decode(encoded(upright, "JPEG"), view),
        decode(encoded(stored, "JPEG", exif=exif), view),
    ]
    assert (images[1].width, images[1].height) == (2400, 1600)
    plain, turned = judged(judge, *images)
    for want, got in zip(plain.faces, turned.faces, strict=True):
        assert edges(got.box) == pytest.approx(edges(want.box), abs=20)


def test_a_face_must_have_so_many_pixels_of_the_original(
    judge: FaceJudge, detector: Detector
) -> None:
    small, large = photo(group()), photo(group((2400, 1600)))
    sides = [f.box.width for f in judged(judge, small)[0].faces]
    between = round((sides[0] + sides[1]) / 2)
    picky = limited(judge, detector, smallest=between)
    assert [len(one.faces) for one in judged(picky, small, large)] == [1, 3]
    [one] = judged(limited(judge, detector, smallest=4 * between), large)
    assert [middle(face) for face in one.faces] == [pytest.approx((520, 880), abs=100)]


def test_of_many_faces_the_largest_count(judge: FaceJudge, detector: Detector) -> None:
    [everybody] = judged(judge, photo(group()))
    [two] = judged(limited(judge, detector, most=2), photo(group()))
    assert len(everybody.faces) == 3
    for got, want in zip(two.faces, everybody.faces[:2], strict=True):
        assert (got.box, got.score) == (want.box, want.score)
        assert got.p_sad == pytest.approx(want.p_sad, abs=1e-4)


def test_a_face_must_be_sure_enough(judge: FaceJudge, detector: Detector) -> None:
    [one] = judged(judge, photo(group()))
    low, _, high = sorted(face.score for face in one.faces)
    [some] = judged(limited(judge, detector, score=(low + high) / 2), photo(group()))
    assert 0 < len(some.faces) < 3
    assert limited(judge, detector, score=1.0).judge([photo(group())]) == [None]


def test_an_image_without_a_face_is_judged_as_a_whole(
    faces_alone: Bundle, detector: Detector
) -> None:
    assert faces_alone.faces
    images = [photo(Image.linear_gradient("L")), photo(group())]
    scene, people = faces_alone.classify(images)
    assert (scene.decided_by, scene.faces) == ("whole_image", ())
    assert (people.decided_by, len(people.faces)) == ("faces", 3)
    pixels = np.stack([image.pixels for image in images])
    wholes = probability(faces_alone.main.logits(pixels) / faces_alone.main.temperature).tolist()
    assert scene.p_sad == pytest.approx(wholes[0], abs=1e-5)
    blind = bundle_of(faces_alone, faces=limited(faces_alone.faces, detector, enabled=False))
    verdicts = blind.classify(images)
    assert [verdict.p_sad for verdict in verdicts] == pytest.approx(wholes, abs=1e-5)
    assert {verdict.decided_by for verdict in verdicts} == {"whole_image"}


def test_a_network_for_whole_images_has_a_say_where_there_are_faces_too(
    faces_alone: Bundle,
) -> None:
    assert faces_alone.faces
    whole = predictor(sureness=100, channels=3, temperature=2.5)
    both = bundle_of(
        faces_alone, faces=faces_alone.faces, whole=whole, fusion=Fusion(0.6, 0.4, -0.3)
    )
    unaided = bundle_of(faces_alone, faces=faces_alone.faces)
    bright = Image.eval(Image.linear_gradient("L"), lambda shade: max(shade, 200))
    light = Image.blend(group(), Image.new("RGB", (600, 400), "white"), 0.4)
    pictures = [bright, light, group()]
    images = [seen(picture, both.info.view) for picture in pictures]
    of_faces = [a.p_sad for a in unaided.answers([seen(p, unaided.info.view) for p in pictures])]
    of_whole = whole.logits(np.stack([image.pixels for image in images])) / 2.5
    assert abs(of_whole[1] - of_whole[2]) > 1
    got = both.classify(images)
    assert [len(verdict.faces) for verdict in got] == [0, 3, 3]
    assert got[0].p_sad == pytest.approx(float(probability(of_whole)[0]), abs=1e-5)
    rests = [one.rest for one in judged(faces_alone.faces, *images)]
    assert [0.2 < rest < 0.9 for rest in rests] == [True, True]
    for verdict, face, scene, rest in zip(got[1:], of_faces[1:], of_whole[1:], rests, strict=True):
        alone = float(logit(np.array(face)))
        fused = (1 - rest) * alone + rest * (0.6 * alone + 0.4 * scene - 0.3)
        assert verdict.p_sad == pytest.approx(float(probability(np.array(fused))), abs=1e-4)
        assert verdict.label == ("sad" if fused >= 0 else "happy")
        assert verdict.decided_by == "faces"


def test_what_is_said_before_calibration_knows_no_temperatures(faces_alone: Bundle) -> None:
    assert faces_alone.faces
    networks = {
        "faces": faces_alone.faces.predict,
        "whole": predictor(channels=3, temperature=3.0),
    }
    fusion = Fusion(0.6, 0.4, -0.3)
    both = bundle_of(faces_alone, faces=faces_alone.faces, whole=networks["whole"], fusion=fusion)
    image = seen(group(), both.info.view)
    [answer] = both.answers([image])
    [one] = judged(faces_alone.faces, image)
    whole = float(networks["whole"].logits(image.pixels[None])[0])
    raw = probability(np.array(fusion(one.logit, whole, one.rest)))
    assert answer.uncalibrated == pytest.approx(float(raw), abs=1e-5)
    assert answer.uncalibrated != pytest.approx(answer.p_sad, abs=1e-3)


def test_a_small_image_is_taken_for_the_crop_of_a_face(
    judge: FaceJudge, faces_alone: Bundle
) -> None:
    side = LARGEST_CROP
    crop, wide, larger = (
        photo(Image.fromarray(noise(*shape, 3)))
        for shape in ((side, side - 20), (2, side), (side + 1, side))
    )
    found = photo(drawn(1, side))
    of_crop, of_wide, of_larger, of_found = judge.judge([crop, wide, larger, found])
    assert of_larger is None
    for image, one in ((crop, of_crop), (wide, of_wide), (found, of_found)):
        assert image.photo is not None
        pixels = stretched(image.photo, judge.predict.spec)
        want = float(judge.predict.logits(pixels[None])[0])
        assert one == Judged((), pytest.approx(want, abs=1e-4), 0.0)
    alone = bundle_of(faces_alone, faces=judge).classify([crop])
    both = bundle_of(faces_alone, faces=judge, whole=predictor(), fusion=Fusion(1.0, 5.0, 3.0))
    assert both.classify([crop]) == alone
    assert (alone[0].decided_by, alone[0].faces) == ("whole_image", ())


def test_in_a_picture_of_nothing_but_a_face_the_whole_does_not_count(judge: FaceJudge) -> None:
    [one] = judged(judge, photo(drawn(5, 300)))
    assert len(one.faces) == 1
    assert one.rest == 0.0
    [less] = judged(judge, photo(people((480, 480), (90, 90, 300))))
    assert len(less.faces) == 1
    assert 0.5 < less.rest < 0.9
