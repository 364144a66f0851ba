"""Decode broken images, as the service does: none may crash its decoder, hang, or eat up memory.

    python -m tests.fuzz [--count N] [--seed S] [--keep FOLDER]

Ends with 1 where one did. The same seed makes the same images.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import ExifTags, Image

from daemon.worker import Ended, Worker, limited_to
from tests.faces import draw_face
from tests.helpers import encoded
from trainer.errors import ImageError
from trainer.image import HEIC, InputSpec, View, decode, formats

VIEW = View(InputSpec(96, 96, 3), 400)

MOST_SECONDS = 2
"""How long one may take; so little that most would otherwise be tried in vain for half a minute."""

MOST_MEMORY = 2 * 1024**3
"""Bytes that a decoder may use at its peak."""


@dataclass(frozen=True)
class Result:
    """What became of one input: `image` or an error code, and how it failed, if it did.

    `peak`: bytes that its decoder has used at most, so far.
    """

    outcome: str
    seconds: float
    peak: int
    failure: str | None = None


@dataclass(frozen=True)
class Report:
    """What became of all; `failures` by number of the input, `peak` in bytes of a decoder."""

    outcomes: Counter[str]
    slowest: float
    peak: int
    failures: dict[int, str]

    def __str__(self) -> str:
        lines = [f"{count:7} {outcome}" for outcome, count in self.outcomes.most_common()]
        lines += [f"input {number}: {how}" for number, how in sorted(self.failures.items())]
        peak = f"{self.peak / 1024**2:.0f} MiB at most"
        return "\n".join([*lines, f"{self.slowest:.2f} s the slowest, {peak}"])


def fuzz(count: int, seed: int) -> Report:
    """Decode so many broken images in as many processes as there are cores."""
    whole = samples(seed)
    workers = os.cpu_count() or 1
    shares = [range(first, count, workers) for first in range(workers)]
    with ThreadPoolExecutor(workers) as pool:
        shared = pool.map(partial(_decode_each, whole, seed), shares)
        results = {n: one for share in shared for n, one in share.items()}
    peak = max((one.peak for one in results.values()), default=0)
    failures = {n: one.failure for n, one in results.items() if one.failure}
    if peak > MOST_MEMORY:
        failures[count] = "the decoders need too much memory"
    return Report(
        Counter(one.outcome for one in results.values()),
        max((one.seconds for one in results.values()), default=0.0),
        peak,
        failures,
    )


def _decode_each(whole: Sequence[bytes], seed: int, numbers: Iterable[int]) -> dict[int, Result]:
    """What becomes of some inputs in a process that is replaced when one ends it."""
    decoder: Worker[bytes, Result] = Worker(_begin)
    results = {}
    for number in numbers:
        try:
            results[number] = decoder.ask(broken(whole, seed, number))
        except Ended as how:
            decoder.close()
            decoder = Worker(_begin)
            results[number] = Result("undecodable", MOST_SECONDS, 0, str(how))
    decoder.close()
    return results


def _begin() -> Callable[[bytes], Result]:
    return _decoded


def samples(seed: int) -> list[bytes]:
    """Whole images of all formats, of many kinds."""
    rng = random.Random(seed)
    face = draw_face(rng, "happy", (150, 110))
    other = draw_face(rng, "sad", (150, 110))
    gray, palette = face.convert("L"), face.quantize(64)
    clear = face.copy()
    clear.putalpha(gray)
    wide = gray.convert("I").point(lambda shade: shade * 257).convert("I;16")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return [
        encoded(face, "JPEG", exif=exif),
        encoded(face, "JPEG", progressive=True, subsampling=0),
        encoded(gray, "JPEG", restart_marker_rows=1),
        encoded(face.convert("CMYK"), "JPEG"),
        *(encoded(image, "PNG") for image in (face, palette, clear, wide, gray.convert("1"))),
        encoded(face, "PNG", save_all=True, append_images=[other]),
        encoded(palette, "GIF"),
        encoded(face, "GIF", save_all=True, append_images=[other], duration=50),
        *(encoded(image, "BMP") for image in (face, palette, gray.convert("1"))),
        encoded(clear, "WEBP"),
        encoded(face, "WEBP", lossless=True, exif=exif),
        encoded(face, "WEBP", save_all=True, append_images=[other], duration=50),
        *(
            encoded(face, "TIFF", compression=kind)
            for kind in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
        ),
        encoded(gray.convert("1"), "TIFF", compression="group4"),
        encoded(wide, "TIFF"),
        encoded(face, "AVIF", exif=exif),
        encoded(clear, "AVIF", quality=30),
        *([encoded(face, HEIC)] if HEIC in formats() else []),
    ]


def broken(whole: Sequence[bytes], seed: int, number: int) -> bytes:
    """One of the images with bytes flipped, cut off, or joined to another."""
    rng = random.Random(f"{seed} {number}")
    data = bytearray(rng.choice(whole))
    for breaking in rng.sample((_flip, _flip, _splice, _truncate), rng.choice((1, 1, 2))):
        breaking(rng, data, whole)
    return bytes(data)


def _flip(rng: random.Random, data: bytearray, whole: Sequence[bytes]) -> None:
    """Some bytes; often in the head, where sizes and offsets are."""
    end = min(len(data), rng.choice((64, 512, len(data))))
    for _ in range(rng.choice((1, 1, 3, 20)) if end else 0):
        data[rng.randrange(end)] = rng.choice((0, 255, 127, rng.randrange(256)))


def _splice(rng: random.Random, data: bytearray, whole: Sequence[bytes]) -> None:
    """A piece of another image, instead of some bytes of this one or between them."""
    other = rng.choice(whole)
    begin, at = rng.randrange(len(other)), rng.randrange(len(data) + 1)
    piece = other[begin : begin + rng.choice((4, 64, len(other)))]
    data[at : at + rng.choice((0, len(piece)))] = piece


def _truncate(rng: random.Random, data: bytearray, whole: Sequence[bytes]) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _decoded(data: bytes) -> Result:
    begin = time.monotonic()
    outcome, failure = "image", None
    try:
        with limited_to(MOST_SECONDS):
            decode(data, VIEW)
    except ImageError as error:
        outcome = error.code
    except Exception as error:
        outcome = failure = repr(error)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Result(outcome, time.monotonic() - begin, peak, failure)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000, help="images to decode")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="where to save those that failed")
    args = parser.parse_args()
    report = fuzz(args.count, args.seed)
    print(report)  # noqa: T201
    if args.keep and report.failures:
        args.keep.mkdir(parents=True, exist_ok=True)
        for number in report.failures:
            (args.keep / f"{args.seed}-{number}").write_bytes(
                broken(samples(args.seed), args.seed, number)
            )
    sys.exit(1 if report.failures else 0)


if __name__ == "__main__":
    main()
