"""Kill the service at random times while files arrive, and see whether it keeps its promise.

    python -m tests.crash.torture [--kills N] [--files N] [--seed N] [--other-disk FOLDER]

With --other-disk, happy/ and sad/ lie in a folder that is made there for the time being.
"""

from __future__ import annotations

import argparse
import queue
import random
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from tests.faces import MOODS
from tests.helpers import Place, Service, jpeg, sha256

LIFE_SECONDS = 1.0
"""About how long the service needs to start, and so how long a life lasts at least."""

NAMES = 500
"""Names of files come again after so many."""

PICTURES = 60
"""Different pictures of each mood."""


def torture(place: Place, *, kills: int, files: int, seed: int) -> int:
    """Says how many of the kills met a service that had filed something; all others met a start.

    Raises:
        AssertionError: the promise is broken.
    """
    rng = random.Random(seed)
    feeder = Feeder(place, rng.random())
    lives = [_life(place, feeder, _share(files, kills, life), rng) for life in range(kills)]
    with Service(place, "--settle-seconds", "0.1") as last:
        dropped = feeder.end()
        last.wait_drained(files)
    place.assert_promise(dropped)
    return sum(lives)


def _share(total: int, parts: int, part: int) -> int:
    return total * (part + 1) // parts - total * part // parts


def _life(place: Place, feeder: Feeder, files: int, rng: random.Random) -> bool:
    """One that ends while it starts or in the middle of its work; whether it had filed."""
    before = len(place.filed())
    pause = threading.Event()
    with Service(place, "--settle-seconds", "0.1", "--batch-size", "8") as victim:
        feeder.ask_for(files)
        if rng.random() < 0.8:
            victim.wait_for(lambda: len(place.filed()) > before, "it files something")
            pause.wait(rng.uniform(0, LIFE_SECONDS / 4))
        else:
            pause.wait(rng.uniform(0, LIFE_SECONDS))
        assert victim.process.poll() is None, victim.said()
        victim.process.kill()
    return len(place.filed()) > before


class Feeder:
    """Drops files on a thread of its own, also while no service lives, in all the usual ways."""

    def __init__(self, place: Place, seed: float) -> None:
        self._place = place
        self._rng = random.Random(seed)
        self._pauses: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self._dropped: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._feed, name="feeder", daemon=True)
        self._thread.start()

    def ask_for(self, files: int) -> None:
        """Let so many more come: half of them at once, the others over about a life."""
        for n in range(files):
            self._pauses.put(2 * LIFE_SECONDS / files if n % 2 else 0.0)

    def end(self) -> Counter[str]:
        """When all have come, their hashes."""
        self._pauses.put(None)
        self._thread.join()
        return self._dropped

    def _feed(self) -> None:
        for number, pause in enumerate(iter(self._pauses.get, None)):
            threading.Event().wait(pause)
            data = b"no image" if number % 40 == 39 else _picture(number)
            self._drop(number, data)
            self._dropped[sha256(data)] += 1

    def _drop(self, number: int, data: bytes) -> None:
        folder = self._place.inbox / self._rng.choice(("", "album", "album/2024"))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{number % NAMES}.jpg"
        if path.exists():
            path = folder / f"{number}-again.jpg"
        if self._rng.random() < 0.5:
            path.write_bytes(data)
        else:
            draft = path.with_suffix(".part")
            draft.write_bytes(data)
            draft.rename(path)


def _picture(number: int) -> bytes:
    return jpeg(MOODS[number % 2], number // 2 % PICTURES)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    parser.add_argument("--other-disk", type=Path)
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)  # noqa: T201
    with ExitStack() as stack:
        place = Place(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "place")
        if args.other_disk:
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir=args.other_disk))
            place.file_on(Path(folder))
        began = time.monotonic()
        met = torture(place, kills=args.kills, files=args.files, seed=args.seed)
    print(  # noqa: T201
        f"{args.kills} kills, {met} of them amid the work, over {args.files} files in "
        f"{time.monotonic() - began:.0f} s: none lost, none twice, none changed"
    )


if __name__ == "__main__":
    main()
