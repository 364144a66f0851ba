from __future__ import annotations

import contextlib
import io
import random

import numpy as np
import pytest
from PIL import ExifTags, Image

from tests.faces import draw_face
from tests.helpers import encoded, jpeg, png_of
from trainer import image
from trainer.errors import ImageError
from trainer.image import InputSpec, View, decode, larger_photo, stretched

GRAY = View(InputSpec(48, 48, 1))
COLOR = View(InputSpec(64, 32, 3))


def code(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, GRAY)
    assert str(caught.value).endswith(".")
    return caught.value.code


@pytest.fixture(scope="module")
def face() -> Image.Image:
    return draw_face(random.Random(5), "happy", (200, 160))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF"])
def test_each_format_gives_pixels_of_the_wanted_shape(face: Image.Image, file_format: str) -> None:
    image = decode(encoded(face, file_format), COLOR)
    assert image.pixels.shape == (64, 32, 3)
    assert image.pixels.dtype == np.uint8
    assert (image.width, image.height, image.format) == (200, 160, file_format)


@pytest.mark.parametrize(
    ("mode", "file_format"),
    [
        *[("L", f) for f in ("JPEG", "PNG")],
        *[(m, "PNG") for m in ("1", "P", "LA", "RGBA", "I;16")],
        *[("CMYK", f) for f in ("JPEG", "TIFF")],
    ],
)
def test_each_pixel_format_looks_like_its_gray_picture(
    face: Image.Image, mode: str, file_format: str
) -> None:
    gray = face.convert("L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(gray, np.uint16) * 257)
    elif mode == "LA":
        image = gray.convert("LA")
    else:
        image = gray.convert("RGB").convert(mode)
    got = decode(encoded(image, file_format), GRAY).pixels
    want = decode(encoded(gray, "PNG"), GRAY).pixels
    assert np.abs(got.astype(int) - want).mean() < (40 if mode == "1" else 6)


def test_transparency_is_seen_over_white() -> None:
    clear = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    assert decode(encoded(clear, "PNG"), GRAY).pixels.min() == 255


TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def turned_jpeg(upright: Image.Image, orientation: int) -> bytes:
    """A file that is upright where its EXIF orientation is heeded."""
    stored = upright.transpose(TURNS[orientation]) if orientation in TURNS else upright
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return encoded(stored, "JPEG", exif=exif, quality=95)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(face: Image.Image, orientation: int) -> None:
    got = decode(turned_jpeg(face, orientation), GRAY)
    want = decode(encoded(face, "JPEG", quality=95), GRAY)
    assert (got.width, got.height) == (200, 160)
    assert np.abs(got.pixels.astype(int) - want.pixels).mean() < 3


def test_broken_exif_does_not_spoil_good_pixels(face: Image.Image) -> None:
    data = encoded(face, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7fgarbage")
    assert decode(data, GRAY).width == 200


def test_reduced_jpeg_decoding_shows_the_same_as_a_full_one() -> None:
    face = draw_face(random.Random(3), "sad", (960, 720))
    data = encoded(face, "JPEG", quality=92)
    reduced = decode(data, GRAY).pixels[:, :, 0].astype(int)
    full = Image.open(io.BytesIO(data)).convert("L").resize((48, 48), Image.Resampling.BILINEAR)
    assert np.abs(reduced - np.asarray(full)).mean() < 2


def test_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("L", (30, 30), shade) for shade in (200, 10)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert abs(int(decode(data, GRAY).pixels.mean()) - 200) < 5


def test_no_image() -> None:
    assert code(b"") == "empty"
    assert code(b"not an image at all\n" * 50) == "not_an_image"
    assert code(b"%PDF-1.7 something") == "not_an_image"
    assert code(b"\0" * 5000) == "not_an_image"


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_truncated_jpeg_is_refused(share: float) -> None:
    whole = jpeg(size=(300, 300))
    assert code(whole[: int(len(whole) * share)]) == "truncated"


def test_a_damaged_avif_is_refused(face: Image.Image) -> None:
    data = bytearray(encoded(face, "AVIF"))
    codes = set()
    for at in range(len(data) // 2, len(data), 40):
        broken = data.copy()
        broken[at : at + 20] = b"\xff" * 20
        with contextlib.suppress(ImageError):
            decode(bytes(broken), GRAY)
            continue
        codes.add(code(bytes(broken)))
    assert "damaged" in codes


def test_garbage_behind_a_jpeg_is_ignored() -> None:
    assert decode(jpeg() + b"garbage" * 1000, GRAY).width == 96


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    assert code(png_of(20_000, 20_000)) == "too_large"
    assert code(png_of(11_000, 11_000)) == "too_large"


def test_a_pixel_and_a_thread_are_images() -> None:
    assert decode(encoded(Image.new("RGB", (1, 1)), "PNG"), GRAY).pixels.max() == 0
    assert decode(encoded(Image.new("L", (6000, 1), 255), "PNG"), GRAY).pixels.min() == 255


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("size", "photo"),
    [
        ((2000, 1000), (667, 334)),
        ((700, 2100), (175, 525)),
        ((900, 500), (900, 500)),
        ((300, 200), (300, 200)),
        ((4000, 2), (572, 1)),
    ],
)
def test_a_photo_is_in_proportion_in_colour_and_never_enlarged(
    face: Image.Image, file_format: str, size: tuple[int, int], photo: tuple[int, int]
) -> None:
    view = View(GRAY.whole, 512)
    got = decode(encoded(face.resize(size), file_format, quality=95), view)
    assert got.pixels.shape == (48, 48, 1)
    assert (got.width, got.height) == size
    assert got.photo is not None
    assert (got.photo.mode, got.photo.info) == ("RGB", {})
    width, height = got.photo.size
    assert min(512, max(size)) <= max(width, height) < 1024
    if file_format == "PNG":  # JPEG has scales of its own.
        assert (width, height) == photo
    if min(photo) > 100:
        want = face.resize((width, height), Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(got.photo, int) - np.asarray(want)).mean() < 4
    assert decode(encoded(face.convert("L"), "PNG"), view).photo.size == (200, 160)  # type: ignore[union-attr]
    assert decode(encoded(face, "PNG"), GRAY).photo is None


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_a_photo_can_be_had_larger(file_format: str) -> None:
    data = encoded(draw_face(random.Random(8), "sad", (1500, 1000)), file_format, quality=95)
    small = decode(data, View(GRAY.whole, 320))
    assert small.photo is not None
    assert (small.photo.size, small.encoded) == ((375, 250), data)
    large = larger_photo(small, 750)
    assert large is not None
    assert (large.mode, large.size) == ("RGB", (750, 500))
    with Image.open(io.BytesIO(data)) as full:
        want = np.asarray(full.convert("RGB").resize((750, 500), Image.Resampling.BILINEAR))
    enlarged = small.photo.resize((750, 500), Image.Resampling.BICUBIC)
    of_large, of_enlarged = (np.abs(np.asarray(x, int) - want).mean() for x in (large, enlarged))
    assert of_large < of_enlarged / 2
    whole = larger_photo(small, 4000)
    assert whole is not None
    assert whole.size == (1500, 1000)


@pytest.mark.parametrize("orientation", [3, 5, 6, 8])
def test_a_larger_photo_is_upright_too(orientation: int) -> None:
    upright = draw_face(random.Random(8), "happy", (1200, 800))
    image = decode(turned_jpeg(upright, orientation), View(GRAY.whole, 320))
    large = larger_photo(image, 600)
    assert large is not None
    assert large.size == (600, 400)
    assert np.abs(np.asarray(large, int) - np.asarray(upright.resize((600, 400)))).mean() < 4


def test_bytes_are_kept_for_a_larger_photo_alone_and_not_too_many(
    face: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, view = encoded(face, "PNG"), View(GRAY.whole, 100)
    assert decode(data, GRAY).encoded is None
    monkeypatch.setattr(image, "MOST_ENCODED", len(data))
    assert decode(data, view).encoded == data
    monkeypatch.setattr(image, "MOST_ENCODED", len(data) - 1)
    kept = decode(data, view)
    assert kept.photo is not None
    assert larger_photo(kept, 200) is None


def test_a_larger_photo_that_is_too_large_to_decode_is_not_had(
    face: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = decode(encoded(face.resize((1600, 1600)), "JPEG"), View(GRAY.whole, 200))
    monkeypatch.setattr(image, "MAX_DECODED_PIXELS", 200 * 200)
    assert larger_photo(small, 1600) is None
    assert larger_photo(small, 200) is not None


@pytest.mark.parametrize("spec", [GRAY.whole, COLOR.whole])
def test_a_photo_is_stretched_as_the_whole_image_is(face: Image.Image, spec: InputSpec) -> None:
    image = decode(encoded(face, "PNG"), View(spec, 320))
    assert image.photo is not None
    assert np.array_equal(stretched(image.photo, spec), image.pixels)
