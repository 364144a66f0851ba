"""Killed at every step of claim, decide and file; started again, everything is where it should be.

Files lie there when the service starts, and more come while it is dead.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from daemon.loading import make_folders
from daemon.reporting import Reporter
from daemon.service import serve
from tests.crash.dying import Step
from tests.helpers import PATIENCE, Place, jpeg, sha256

CLAIM, DECIDE, FINISH, REDIRECT, RELEASE = (
    f"db.ledger:Ledger.{name}" for name in ("claim", "decide", "finish", "redirect", "release")
)
PLACE, CHOOSE = "daemon.filing:place", "daemon.naming:choose_destinations"
READ, ASK = "daemon.reading:Readers.read", "daemon.worker:Worker.ask"
RECOVER = "daemon.pipeline:recover"
COMMIT = "sqlalchemy.engine.default:DefaultDialect.do_commit"

STEPS = [
    Step("before", CLAIM),
    Step("before", COMMIT, within=CLAIM),
    Step("after", CLAIM),
    Step("before", READ, 2),
    Step("before", ASK),
    Step("after", ASK),
    Step("before", CHOOSE),
    Step("before", COMMIT, within=DECIDE),
    Step("after", DECIDE),
    Step("before", "os:link", 2, within=PLACE),
    Step("after", "os:link", 2, within=PLACE),
    Step("after", "os:fsync", within=PLACE),
    Step("before", "os:unlink", 2, within=PLACE),
    Step("after", "os:unlink", 2, within=PLACE),
    Step("before", COMMIT, within=FINISH),
    Step("after", FINISH),
]

STEPS_ACROSS_DISKS = [
    Step("before", "os:fchmod", within=PLACE),
    Step("before", "os:link", 2, within=PLACE),  # The first try is by a link to the source.
    Step("after", "os:link", 2, within=PLACE),
    Step("before", "os:unlink", within=PLACE),  # The source goes first,
    Step("after", "os:unlink", within=PLACE),
    Step("after", "os:unlink", 2, within=PLACE),  # then the draft.
]


FIRST = ("happy-1.jpg", "happy-22.jpg", "sad-1.jpg", "bad.jpg")
MORE = ("happy-333.jpg", "sad-4444.jpg")


def drop(place: Place, *names: str) -> Counter[str]:
    """Says what was dropped, as hashes."""
    dropped: Counter[str] = Counter()
    for name in names:
        mood = name.split("-")[0]
        data = b"no image" if mood == "bad.jpg" else jpeg(mood, len(name))
        with (place.inbox / name).open("xb") as file:
            file.write(data)
        dropped[sha256(data)] += 1
    return dropped


def live(place: Place, step: Step, *options: str) -> None:
    """A life of the service that ends at the step."""
    dying = [sys.executable, "-m", "tests.crash.dying", step.as_argument()]
    ended = subprocess.run(
        [
            *dying,
            "run",
            "--settle-seconds",
            "0.1",
            "--inbox",
            place.inbox,
            *place.destinations(),
            *options,
        ],
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def drain(place: Place) -> None:
    """A life that files all that is there; here, for one more process takes a second."""
    settings = place.settings()
    serve(settings, make_folders(settings), Reporter(), threading.Event(), once=True)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_killed_at_a_step(place: Place, step: Step) -> None:
    dropped = drop(place, *FIRST)
    live(place, step)
    dropped += drop(place, *MORE)
    drain(place)
    place.assert_promise(dropped)


@pytest.mark.parametrize("step", STEPS_ACROSS_DISKS, ids=str)
def test_killed_at_a_step_across_disks(two_disks: Place, step: Step) -> None:
    dropped = drop(two_disks, *FIRST)
    live(two_disks, step, "--batch-size", "1")
    dropped += drop(two_disks, *MORE)
    drain(two_disks)
    two_disks.assert_promise(dropped)


def test_killed_while_it_gives_back_what_a_killed_one_had_claimed(place: Place) -> None:
    dropped = drop(place, *FIRST)
    live(place, Step("after", CLAIM))
    live(place, Step("before", COMMIT, within=RELEASE))
    live(place, Step("after", RELEASE))
    drain(place)
    place.assert_promise(dropped)


def test_killed_while_it_finishes_what_a_killed_one_had_decided(two_disks: Place) -> None:
    dropped = drop(two_disks, *FIRST)
    live(two_disks, Step("after", DECIDE))
    live(two_disks, Step("after", "os:link", 2, within=RECOVER))
    live(two_disks, Step("before", COMMIT, within=FINISH))
    drain(two_disks)
    two_disks.assert_promise(dropped)


def test_killed_while_it_gives_way_to_another_file(place: Place) -> None:
    dropped = drop(place, "happy-1.jpg")
    live(place, Step("after", DECIDE))
    [row] = place.rows()
    stranger = Path(row["destination_path"])
    stranger.write_bytes(b"somebody else's")
    live(place, Step("before", COMMIT, within=REDIRECT))
    live(place, Step("after", REDIRECT))
    drain(place)
    assert stranger.read_bytes() == b"somebody else's"
    stranger.unlink()
    place.assert_promise(dropped)
