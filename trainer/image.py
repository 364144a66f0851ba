"""The bytes of an image file -> a uint8 array: the one decoder that training and serving share."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from trainer.errors import ImageError

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF")
"""What Pillow may decode; anything else is refused before its decoder sees the bytes."""

MAX_PIXELS = 2 * 89_478_485
"""Width times height of an image: where Pillow itself speaks of a decompression bomb."""

MAX_DECODED_PIXELS = 100_000_000
"""Pixels that are decoded, which takes seconds and up to 4 bytes each; JPEG is decoded reduced."""

QUARTER_TURNS = (5, 6, 7, 8)
"""EXIF orientations (TIFF 6.0, tag 274) that swap width and height."""

ISO_MEDIA_BRAND = slice(4, 8)
"""Where ISO/IEC 14496-12 files (HEIC, MP4, MOV) carry the word `ftyp`."""


@dataclass(frozen=True)
class InputSpec:
    """The shape of what a network looks at, in pixels; `channels` is 1 (gray) or 3 (RGB)."""

    height: int
    width: int
    channels: int

    @property
    def mode(self) -> str:
        """Pillow's name for the pixel format."""
        return "L" if self.channels == 1 else "RGB"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return (self.height, self.width, self.channels)


@dataclass(frozen=True)
class DecodedImage:
    """An image, upright and at the size a network wants.

    `pixels` is uint8 of shape (height, width, channels), 0 to 255; `width` and `height` are those
    of the whole upright image in pixels; `format` is Pillow's name of the file format.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    format: str


def decode(data: bytes, spec: InputSpec) -> DecodedImage:
    """Decode the first frame of `data`, turn it upright by its EXIF tag and stretch it to `spec`.

    JPEG is decoded at the smallest DCT scale that still covers `spec`, in gray where the network
    is gray, which costs about a third of a full decode.

    Raises:
        ImageError: the bytes are no whole image of a supported format and size.
    """
    if not data:
        raise ImageError("empty", "The file is empty.")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return _read(image, spec)
    except Image.DecompressionBombError:
        raise _too_large() from None
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    except ImageError:
        raise
    except MemoryError:
        raise ImageError("too_large", "There is not enough memory to decode the image.") from None
    except Exception as error:
        # Pillow has no error class of its own for broken content: its plugins raise what they like.
        raise _broken(error) from None


def _read(image: Image.Image, spec: InputSpec) -> DecodedImage:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(width, height)
    file_format = image.format or "unknown"
    image.draft(spec.mode, (spec.width, spec.height))
    if image.width * image.height > MAX_DECODED_PIXELS:
        raise _too_large(width, height)
    image.load()
    upright, quarter_turned = _turn_upright(image)
    if quarter_turned:
        width, height = height, width
    plain = _flatten(upright, spec.mode)
    sized = plain.resize((spec.width, spec.height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    pixels = np.asarray(sized, dtype=np.uint8).reshape(spec.shape)
    return DecodedImage(pixels, width, height, file_format)


def _turn_upright(image: Image.Image) -> tuple[Image.Image, bool]:
    """The image as its EXIF orientation wants it seen, and whether that swaps its sides."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        return ImageOps.exif_transpose(image), orientation in QUARTER_TURNS
    except Exception:
        return image, False  # Broken metadata is no reason to refuse good pixels.


def _flatten(image: Image.Image, mode: str) -> Image.Image:
    """To `mode`, with transparency laid over white and 16-bit or float samples scaled to 8."""
    if image.mode.startswith(("I", "F")):
        image = _to_eight_bits(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        backdrop = Image.new("RGBA", rgba.size, "white")
        image = Image.alpha_composite(backdrop, rgba)
    return image.convert(mode)


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Pillow clips wide samples at 255 instead of scaling them."""
    samples = np.asarray(image, dtype=np.float32)
    if image.mode.startswith("I"):
        samples = samples / 257.0
    elif samples.max(initial=0.0) <= 1.0:
        samples = samples * 255.0
    return Image.fromarray(np.nan_to_num(samples).clip(0, 255).astype(np.uint8))


def _too_large(width: int | None = None, height: int | None = None) -> ImageError:
    size = f"Its size of {width} x {height} pixels" if width else "Its size in pixels"
    return ImageError("too_large", f"{size} is more than can be decoded.")


def _unidentified(data: bytes) -> ImageError:
    if data[ISO_MEDIA_BRAND] == b"ftyp":
        return ImageError(
            "unsupported", "HEIC images and videos are not supported; save it as JPEG or PNG."
        )
    return ImageError(
        "not_an_image", f"The content is no image of a known format ({', '.join(FORMATS)})."
    )


def _broken(error: Exception) -> ImageError:
    reason = str(error) or type(error).__name__
    if "truncated" in reason.lower():
        return ImageError("truncated", f"The image ends too early: {reason}.")
    return ImageError("damaged", f"The content is damaged: {reason}.")
