"""The bytes of an image file -> a uint8 array: the one decoder that training and serving share."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from trainer.errors import ImageError

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF")
"""What Pillow may decode; anything else is refused before its decoder sees the bytes."""

HEIC = "HEIF"
"""Pillow's name of the format that it may decode as well where pillow-heif is installed."""

MAX_PIXELS = 2 * 89_478_485
"""Width times height of an image: where Pillow itself speaks of a decompression bomb."""

MAX_DECODED_PIXELS = 100_000_000
"""Pixels that are decoded, which takes seconds and up to 4 bytes each; JPEG is decoded reduced."""

MOST_ENCODED = 4 * 1024**2
"""Bytes of a file that are held while its image is judged."""

QUARTER_TURNS = (5, 6, 7, 8)
"""EXIF orientations (TIFF 6.0, tag 274) that swap width and height."""

ISO_MEDIA, BRAND = slice(4, 8), slice(8, 12)
"""Where ISO/IEC 14496-12 files (AVIF, HEIC, MP4, MOV) carry the word `ftyp`, and what they are."""

AVIF_BRANDS = (b"avif", b"avis")
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


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
class View:
    """What of an image is looked at: the whole, stretched to `whole`, and perhaps a photo.

    `photo_side`: the least pixels of the longer side of that photo, which keeps its proportions, if
    the image has so many; it will have less than twice as many.
    """

    whole: InputSpec
    photo_side: int | None = None


@dataclass(frozen=True)
class DecodedImage:
    """An image, upright and at the size a network wants.

    `pixels` is uint8 of shape (height, width, channels), 0 to 255; `width` and `height` are those
    of the whole upright image in pixels; `format` is Pillow's name of the file format. `photo`: in
    colour, with its sides in proportion, if it was asked for; `encoded` are then the bytes that it
    came from, so that it can be had larger, unless they are MOST_ENCODED.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    format: str
    photo: Image.Image | None = None
    encoded: bytes | None = None

    def keeping(self, data: bytes) -> DecodedImage:
        """With the bytes that it came from, if they are of use and not too many."""
        has_use = self.photo is not None and len(data) <= MOST_ENCODED
        return replace(self, encoded=data) if has_use else self

    def without_pixels(self) -> DecodedImage:
        """What is known of it, without what it shows."""
        return replace(self, pixels=self.pixels[:0], photo=None, encoded=None)


def decode(data: bytes, view: View) -> DecodedImage:
    """Decode the first frame of `data`, turned upright by its EXIF tag, as `view` wants it.

    JPEG is decoded at the smallest DCT scale that still covers what is wanted, in gray where that
    will do, which costs about a third of a full decode.

    Raises:
        ImageError: the bytes are no whole image of a supported format and size.
    """
    if not data:
        raise ImageError("empty", "The file is empty.")
    try:
        with Image.open(io.BytesIO(data), formats=formats()) as image:
            return _read(image, view.whole, view.photo_side).keeping(data)
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


@functools.cache
def formats() -> tuple[str, ...]:
    """What can be decoded here, by Pillow's names."""
    try:
        import pillow_heif
    except ImportError:
        return FORMATS
    pillow_heif.register_heif_opener()
    return (*FORMATS, HEIC)


def larger_photo(image: DecodedImage, side: int) -> Image.Image | None:
    """The photo of an image that has one, decoded again for a `side` as that of a View.

    None where there is not enough memory for it.
    """
    if image.encoded is None:
        return None
    try:
        return decode(image.encoded, View(InputSpec(1, 1, 3), side)).photo
    except ImageError:  # It was decoded before: what can be wrong now is the size.
        return None


def _read(image: Image.Image, spec: InputSpec, photo_side: int | None) -> DecodedImage:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(width, height)
    file_format = image.format or "unknown"
    mode = spec.mode if photo_side is None else "RGB"
    image.draft(mode, _at_least(image.size, spec, photo_side))
    if image.width * image.height > MAX_DECODED_PIXELS:
        raise _too_large(width, height)
    image.load()
    if _turn_upright(image):
        width, height = height, width
    plain = _flatten(image, mode)
    photo = None
    if photo_side is not None:
        # A copy at least, without the file that the image came from.
        plain = photo = plain.reduce(max(1, max(plain.size) // photo_side))
        photo.info.clear()
    return DecodedImage(stretched(plain, spec), width, height, file_format, photo)


def stretched(photo: Image.Image, spec: InputSpec) -> NDArray[np.uint8]:
    """A photo as `spec` wants it, uint8 of `spec.shape`."""
    sized = photo.resize((spec.width, spec.height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(sized.convert(spec.mode), dtype=np.uint8).reshape(spec.shape)


def _at_least(size: tuple[int, int], spec: InputSpec, photo_side: int | None) -> tuple[int, int]:
    """The width and height that a reduced decoding of an image of `size` must still have."""
    if photo_side is None:
        return spec.width, spec.height
    scale = min(1.0, photo_side / max(size))
    width, height = (max(1, int(side * scale)) for side in size)
    return max(spec.width, width), max(spec.height, height)


def _turn_upright(image: Image.Image) -> bool:
    """Turn it as its EXIF orientation wants it seen, and say whether that swaps its sides."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        ImageOps.exif_transpose(image, in_place=True)
        return orientation in QUARTER_TURNS
    except Exception:
        return False  # Broken metadata is no reason to refuse good pixels.


def _flatten(image: Image.Image, mode: str) -> Image.Image:
    """To `mode`, with transparency laid over white and 16-bit or float samples scaled to 8."""
    if image.mode.startswith(("I", "F")):
        image = _to_eight_bits(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        backdrop = Image.new("RGBA", rgba.size, "white")
        image = Image.alpha_composite(backdrop, rgba)
    return image if image.mode == mode else image.convert(mode)


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
    if data[ISO_MEDIA] == b"ftyp":
        return _unidentified_media(data[BRAND])
    known = ", ".join(formats())
    return ImageError("not_an_image", f"The content is no image of a known format ({known}).")


def _unidentified_media(brand: bytes) -> ImageError:
    if brand in AVIF_BRANDS or (brand in HEIC_BRANDS and HEIC in formats()):
        return ImageError("damaged", f"The content is damaged: it is no whole {brand.decode()}.")
    if brand in HEIC_BRANDS:
        return ImageError(
            "unsupported", "HEIC needs the package pillow-heif; without, save it as JPEG or PNG."
        )
    return ImageError("unsupported", "Videos are not supported.")


def _broken(error: Exception) -> ImageError:
    reason = str(error) or type(error).__name__
    if "truncated" in reason.lower():
        return ImageError("truncated", f"The image ends too early: {reason}.")
    return ImageError("damaged", f"The content is damaged: {reason}.")
