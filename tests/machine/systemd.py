"""systemd, its journal and other commands, as an administrator asks them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

UNIT = "moodsort.service"
OWN_DROP_INS = Path("/etc/systemd/system") / f"{UNIT}.d"

SLOWLY = 900.0
"""Seconds that anything may take: an emulated processor is twenty to fifty times slower."""

EVERY = 0.5
"""Seconds between two looks; looking costs what the service could use."""


def run(*command: str | Path, **options: Any) -> str:
    """What it says on standard output.

    Raises:
        AssertionError: it failed; with all that it said.
    """
    done = attempt(*command, **options)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def attempt(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """It may fail."""
    return subprocess.run(
        [*map(str, command)],
        capture_output=True,
        text=True,
        timeout=SLOWLY,
        check=False,
        **options,
    )


def version() -> int:
    return int(run("systemctl", "--version").split()[1])


def show(name: str) -> str:
    """A property of the unit."""
    return shows(name)[0]


def shows(*names: str) -> list[str]:
    """Properties of the unit at one moment, in this order."""
    lines = run("systemctl", "show", UNIT, f"--property={','.join(names)}").splitlines()
    told = dict(line.split("=", 1) for line in lines)
    return [told[name] for name in names]


def main_pid() -> int:
    return int(show("MainPID"))


def restarts() -> int | None:
    """How often it was started again; None while it is not ready."""
    count, state = shows("NRestarts", "ActiveState")
    return int(count) if state == "active" else None


def cursor() -> str:
    """Where the journal ends now."""
    last = run("journalctl", "--lines=0", "--show-cursor").splitlines()[-1]
    return last.removeprefix("-- cursor: ")


def journal(*match: str, since: str) -> list[str]:
    """What was written after that cursor."""
    run("journalctl", "--sync")
    lines = run("journalctl", "--no-pager", "--quiet", f"--after-cursor={since}", *match)
    return lines.splitlines()


def own_journal(since: str) -> list[str]:
    """What the service has said, and systemd of it."""
    return journal(f"UNIT={UNIT}", "+", f"_SYSTEMD_UNIT={UNIT}", since=since)


@contextmanager
def in_force(*drop_ins: Path) -> Iterator[None]:
    """Drop-ins that systemd heeds meanwhile."""
    OWN_DROP_INS.mkdir(parents=True, exist_ok=True)
    run("cp", *drop_ins, OWN_DROP_INS)
    run("systemctl", "daemon-reload")
    try:
        yield
    finally:
        for drop_in in drop_ins:
            (OWN_DROP_INS / drop_in.name).unlink()
        run("systemctl", "daemon-reload")
