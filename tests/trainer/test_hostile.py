"""What is no image as others are: each kind of odd, broken or malicious content by itself."""

from __future__ import annotations

import io
import random
import struct
import sys
import zipfile
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageChops

from tests.faces import draw_face
from tests.helpers import encoded
from tests.trainer.test_image import GRAY, code
from trainer.image import DecodedImage, decode, formats


@pytest.fixture(scope="module")
def face() -> Image.Image:
    return draw_face(random.Random(6), "sad", (300, 240))


def assert_looks_like(got: DecodedImage, image: Image.Image, tolerance: float = 3) -> None:
    want = decode(encoded(image, "PNG"), GRAY)
    assert (got.width, got.height) == (want.width, want.height)
    assert np.abs(got.pixels.astype(int) - want.pixels).mean() < tolerance


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF"])
def test_what_is_cut_off_is_refused(face: Image.Image, file_format: str, share: float) -> None:
    whole = encoded(face, file_format)
    assert code(whole[: int(len(whole) * share)]) in ("truncated", "damaged", "not_an_image")


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("face.txt", "no image")
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"<!DOCTYPE html><html><body>hi</body></html>", "not_an_image"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not_an_image"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "not_an_image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not_an_image"),
        (zipped(), "not_an_image"),
        (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + b"\0" * 99, "unsupported"),
        (b"\0\0\0\x14ftypqt  \0\0\2\0qt  " + b"\0" * 99, "unsupported"),
        (b"\0\0\0\x1cftypavif" + b"\0" * 99, "damaged"),
        (b"\xff\xd8\xff", "not_an_image"),
    ],
)
def test_other_files_are_told_from_images(content: bytes, expected: str) -> None:
    assert code(content) == expected


@pytest.mark.parametrize("file_format", ["PPM", "ICO", "TGA", "PCX", "EPS", "JPEG2000"])
def test_formats_that_are_not_on_the_list_are_refused(face: Image.Image, file_format: str) -> None:
    assert code(encoded(face, file_format)) == "not_an_image"


def gif_of(width: int, height: int) -> bytes:
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return screen + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\2\2\x4c\1\0;"


def tiff_of(width: int, height: int) -> bytes:
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 100}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(100)


def webp_of(width: int, height: int) -> bytes:
    canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<II", 10, 2) + canvas + b"ANIM" + struct.pack("<I", 6)
    body += bytes(6) + b"ANMF" + struct.pack("<I", 16) + bytes(16)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp_of(width: int, height: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 99, 0, 0, 54) + header + bytes(45)


@pytest.mark.parametrize("bomb", [gif_of, tiff_of, bmp_of])
@pytest.mark.parametrize("size", [(60_000, 60_000), (12_000, 9_000)])
def test_a_bomb_is_refused_by_its_header(bomb: object, size: tuple[int, int]) -> None:
    assert callable(bomb)
    assert code(bomb(*size)) == "too_large"


def test_a_bomb_of_webp_is_refused() -> None:
    assert code(webp_of(16_383, 16_383)) in ("too_large", "not_an_image")


@pytest.mark.parametrize("size", [(65_500, 1), (1, 65_500)])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_a_thread_as_long_as_jpeg_takes(size: tuple[int, int], file_format: str) -> None:
    got = decode(encoded(Image.new("L", size, 255), file_format), GRAY)
    assert (got.width, got.height) == size
    assert got.pixels.min() > 250


def test_cmyk_as_adobe_inverts_it(face: Image.Image) -> None:
    stored = encoded(face.convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe\0" in stored  # The mark by which Pillow, too, knows that it is inverted.
    assert_looks_like(decode(stored, GRAY), face)
    plain = encoded(ImageChops.invert(face.convert("CMYK")), "JPEG", quality=95)
    assert decode(plain, GRAY).pixels.mean() != pytest.approx(decode(stored, GRAY).pixels.mean())


def test_clear_colours_of_a_palette_are_seen_over_white(face: Image.Image) -> None:
    palette = face.quantize(16)
    clear = palette.getpixel((0, 0))
    got = decode(encoded(palette, "PNG", transparency=clear), GRAY)
    assert got.pixels.max() == 255


@pytest.mark.parametrize("file_format", ["TIFF", "PNG"])
def test_wide_samples_are_scaled(face: Image.Image, file_format: str) -> None:
    gray = face.convert("L")
    wide = Image.fromarray(np.asarray(gray, np.uint16) * 257)
    assert_looks_like(decode(encoded(wide, file_format), GRAY), gray)


def test_float_samples_that_are_no_numbers() -> None:
    samples = np.full((20, 20), np.nan, np.float32)
    samples[:10] = np.inf
    assert decode(encoded(Image.fromarray(samples), "TIFF"), GRAY).pixels.shape == (48, 48, 1)


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_counts(face: Image.Image, file_format: str) -> None:
    later = Image.new("RGB", face.size, "black")
    options = {} if file_format == "TIFF" else {"duration": 50}
    data = encoded(face, file_format, save_all=True, append_images=[later] * 3, **options)
    assert_looks_like(decode(data, GRAY), face, tolerance=6)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_what_stands_behind_an_image_is_ignored(face: Image.Image, file_format: str) -> None:
    data = encoded(face, file_format) + zipped()
    assert_looks_like(decode(data, GRAY), face, tolerance=6)


def test_an_embedded_thumbnail_is_not_the_image(face: Image.Image) -> None:
    thumbnail = encoded(Image.new("RGB", (160, 120), "black"), "JPEG")
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.IFD1)[ExifTags.Base.Compression] = 6
    exif.get_ifd(ExifTags.IFD.IFD1)[ExifTags.Base.JpegIFOffset] = 100
    data = encoded(face, "JPEG", quality=95, exif=exif.tobytes() + thumbnail)
    assert thumbnail in data
    assert_looks_like(decode(data, GRAY), face)


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_an_orientation_that_means_nothing(face: Image.Image, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    assert_looks_like(decode(encoded(face, "JPEG", quality=95, exif=exif), GRAY), face)


@pytest.fixture
def without_heic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    formats.cache_clear()
    yield
    formats.cache_clear()


BROKEN_HEIC = b"\0\0\0\x20ftypheic" + b"\0" * 500


def test_heic_is_told_what_it_needs(without_heic: None) -> None:
    assert code(BROKEN_HEIC) == "unsupported"


def test_heic_with_its_extra(face: Image.Image) -> None:
    pytest.importorskip("pillow_heif", reason="the extra [heic] is not installed")
    assert "HEIF" in formats()
    whole = encoded(face, "HEIF", quality=95)
    assert_looks_like(decode(whole, GRAY), face)
    for broken in (BROKEN_HEIC, whole[: len(whole) // 2], whole[:-40]):
        assert code(broken) in ("damaged", "truncated")
