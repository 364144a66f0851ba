"""Whether the service stays as it is: python -m benchmarks.soak --minutes 60.

Files are fed at the highest rate, and what is filed is removed again; meanwhile the memory and the
open descriptors of the service and of all that it has started are looked at (Linux).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click

from benchmarks.photos import photos as find_photos
from benchmarks.service import Place, place, service
from benchmarks.usage import descriptors, memory
from daemon import status

AHEAD = 300
"""Files that wait in the inbox: enough for the service never to wait for one."""

SAMPLE_SECONDS = 2.0
MOST_GROWTH = 0.05
"""Share by which memory may grow from the first to the last third of the time after the warm-up."""


@dataclass(frozen=True)
class Sample:
    """What all processes of the service hold together; a page that they share counts once."""

    bytes: int
    descriptors: int


@click.command()
@click.option("--minutes", type=click.FloatRange(1), default=60, show_default=True)
@click.option(
    "--photos",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Feed the JPEG photos below this folder, rather than drawn ones.",
)
def main(minutes: float, photos: Path | None) -> None:
    """Run the service at its highest rate; end with 1 if it grows."""
    with tempfile.TemporaryDirectory(prefix="moodsort-soak-") as drawn, place() as there:
        sources = find_photos(photos, Path(drawn))
        with service(there) as pid, _fed(there, sources):
            samples = list(_samples(pid, minutes * 60))
            report = status.examine(there.inbox)[0].report
    warm = samples[len(samples) // 5 :]
    first, last = warm[: len(warm) // 3], warm[-(len(warm) // 3) :]
    before, after = (median(s.bytes for s in some) for some in (first, last))
    growth = after / before - 1
    # The fewest: what a leak adds to, and not the files that are just being read.
    opened = [min(s.descriptors for s in some) for some in (first, last)]
    assert report
    click.echo(f"{sum(report.images.values())} images in {minutes:g} minutes")
    click.echo(f"memory: {before / 1e6:.0f} MB, later {after / 1e6:.0f} MB: {growth:+.1%}")
    click.echo(f"descriptors: {opened[0]}, later {opened[1]}")
    sys.exit(growth >= MOST_GROWTH or opened[1] > opened[0])


def _samples(pid: int, seconds: float) -> Iterator[Sample]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(SAMPLE_SECONDS)
        yield Sample(memory(pid), descriptors(pid))


@contextlib.contextmanager
def _fed(there: Place, sources: Sequence[Path]) -> Iterator[None]:
    """Feed the inbox and empty the destinations meanwhile, on a thread."""
    enough = threading.Event()
    feeding = threading.Thread(target=_feed, args=(there, sources, enough))
    feeding.start()
    try:
        yield
    finally:
        enough.set()
        feeding.join()


def _feed(there: Place, sources: Sequence[Path], enough: threading.Event) -> None:
    copies = enumerate(itertools.cycle(sources))
    lain: set[Path] = set()
    look = 0.0
    while not enough.wait(0.1):
        for number, source in itertools.islice(copies, _room(there)):
            part = there.root / "part"
            shutil.copyfile(source, part)
            part.rename(there.inbox / f"{number}{source.suffix}")
        if time.monotonic() >= look:
            look = time.monotonic() + 5
            for path in lain:  # By now its row is closed, too.
                path.unlink()
            lain = {Path(e.path) for folder in there.destinations for e in os.scandir(folder)}


def _room(there: Place) -> int:
    return max(0, AHEAD - len(os.listdir(there.inbox)))


if __name__ == "__main__":
    main()
