"""Kill what judges an archive, and the job itself; see whether each image has its one row.

    python -m tests.crash.archive [--files N] [--kills N] [--seed N] [--at FOLDER]

Each kill but every fifth ends one process that judges; every fifth the whole job, which is then
started again.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import tempfile
import threading
import time
from pathlib import Path

import psutil
from pyarrow import dataset

from tests.faces import MOODS
from tests.helpers import MOODSORT, jpeg, sha256

PICTURES = 60
"""Different pictures of each mood."""

IN_A_FOLDER = 1000

ACTOR = "ray::MapWorker"
"""How the names of the processes begin that judge."""


def draw(folder: Path, files: int) -> dict[str, str]:
    """Images, all with different bytes, and some that are none; their hashes by path."""
    hashes = {}
    for number in range(files):
        picture = jpeg(MOODS[number % 2], number // 2 % PICTURES)
        data = (b"no image" if number % 500 == 499 else picture) + str(number).encode()
        path = folder / f"{number // IN_A_FOLDER:04}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        hashes[str(path)] = sha256(data)
    return hashes


def judge(archive: Path, moods: Path, *, kills: int, seed: int) -> int:
    """Says how often the job was started."""
    rng = random.Random(seed)
    left = list(range(kills))
    starts = 0
    while True:
        starts += 1
        job = psutil.Popen([MOODSORT, "bulk", archive, "--to", moods, "--model", "default"])
        while left and job.poll() is None:
            threading.Event().wait(rng.uniform(1, 6))
            whole = left[0] % 5 == 4
            if whole and not any(moods.glob("*.parquet")):
                continue  # Something is to be recorded that must not be judged again.
            if _killed(job, rng, whole=whole):
                del left[0]
        if job.wait() == 0:
            return starts


def _killed(job: psutil.Popen, rng: random.Random, *, whole: bool) -> bool:
    """Whether there was somebody to kill."""
    actors = [one for one in _children(job) if _is_actor(one)]
    if not actors:
        return False
    victim = job if whole else rng.choice(actors)
    with contextlib.suppress(psutil.NoSuchProcess):
        victim.kill()
        return True
    return False


def _children(job: psutil.Popen) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return list(job.children(recursive=True))
    return []


def _is_actor(one: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return one.name().startswith(ACTOR)
    return False


def compare(moods: Path, hashes: dict[str, str]) -> None:
    """Raises AssertionError where an image has no row, or two, or that of other bytes."""
    rows = dataset.dataset(moods).to_table(columns=["source_path", "sha256"]).to_pylist()
    told = {row["source_path"]: row["sha256"] for row in rows}
    assert len(rows) == len(told), f"{len(rows) - len(told)} images have two rows"
    assert told == hashes, f"{len(hashes.keys() - told.keys())} images have no row"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    parser.add_argument("--at", type=Path, help="where the archive is drawn; default: /tmp")
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)  # noqa: T201
    with tempfile.TemporaryDirectory(dir=args.at) as folder:
        archive, moods = Path(folder).resolve() / "archive", Path(folder).resolve() / "moods"
        hashes = draw(archive, args.files)
        began = time.monotonic()
        starts = judge(archive, moods, kills=args.kills, seed=args.seed)
        seconds = time.monotonic() - began
        compare(moods, hashes)
    print(  # noqa: T201
        f"{args.kills} kills, {starts} starts, {args.files} images in {seconds:.0f} s: "
        "each has one row, of its own bytes"
    )


if __name__ == "__main__":
    main()
