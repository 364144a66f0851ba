"""Proof under a real systemd: install, start, kill, hang, reload, stop, uninstall the service.

    python -m tests.machine [--folder FOLDER] [--keep] [--minutes N] [--suite NAME] [--mirror URL]

Boots a machine of its own for that, a Debian in software (qemu), without a network; the systemd of
this one is not touched. It takes root on an x86-64 Debian, a network to install from, 8 GB of disk
and about half an hour. In FOLDER the Debian is kept for the next time, and `journal.log` and
`steps.json` lie there afterwards. Ends with 1 where a step failed, with 77 where it cannot run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.machine.emulator import PROGRAM, boot
from tests.machine.guest import BOOTS, Told, name_of
from tests.machine.tree import (
    ROOT,
    BuildError,
    build,
    image_of,
    kernel_of,
    origin_of_this_system,
)

FAILED, CANNOT_RUN = 1, 77

TOOLS = {
    "debootstrap": "debootstrap",
    "mke2fs": "e2fsprogs",
    PROGRAM: "qemu-system-x86",
    "chroot": "coreutils",
    "git": "git",
}
"""What it calls, and the packages of Debian where that is."""


def missing() -> str | None:
    """Why it cannot run here, in a sentence."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return "It needs Linux on an x86-64 processor."
    if absent := [tool for tool in TOOLS if shutil.which(tool) is None]:
        packages = " ".join(TOOLS[tool] for tool in absent)
        return f"It needs {', '.join(absent)}: apt-get install {packages}"
    if os.geteuid() != 0:
        return "It needs root, to make a Debian whose files belong to several users."
    return None


def prove(folder: Path, suite: str | None, mirror: str | None, minutes: float) -> bool:
    """Build, boot, and tell each step as it ends; whether all was shown."""
    origin = origin_of_this_system(suite, mirror)
    say(f"Builds a Debian ({origin.suite}) with moodsort in {folder}.")
    tree = build(folder, origin)
    image = image_of(tree, folder / "disk.img")
    journal = folder / "journal.log"
    journal.unlink(missing_ok=True)
    told: list[Told] = []
    for number, steps in enumerate(BOOTS):
        say("Starts the machine.")
        telling = boot(image, *kernel_of(tree), journal, number=number, limit_seconds=minutes * 60)
        told += followed(telling, [name_of(step) for step in steps])
    (folder / "steps.json").write_text(json.dumps([*map(asdict, told)], indent=1) + "\n")
    shown = sum(step.shown for step in told)
    say(f"{shown} of {len(told)} steps were shown; the journal of the machine is {journal}.")
    return shown == len(told)


def followed(telling: Iterable[Told], names: Sequence[str]) -> Iterator[Told]:
    """What is told of each step that is due, and that of the others nothing was."""
    missed = list(names)
    for step in telling:
        missed.remove(step.step)
        say(as_line(step))
        yield step
    for name in missed:
        step = Told(name, shown=False, said="the machine was off before it had ended", seconds=0)
        say(as_line(step))
        yield step


def as_line(told: Told) -> str:
    verdict = "ok" if told.shown else "FAILED"
    return f"{verdict:7} {told.seconds:4.0f} s  {told.step}: {told.said}"


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "machine")
    parser.add_argument("--keep", action="store_true", help="also the image of its disk (3 GB)")
    parser.add_argument(
        "--minutes", type=float, default=90, help="after so many it is switched off"
    )
    parser.add_argument("--suite", help="which Debian; default: that of this system")
    parser.add_argument("--mirror", help="where from; default: what apt uses here")
    args = parser.parse_args()
    if reason := missing():
        say(reason)
        raise SystemExit(CANNOT_RUN)
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        shown = prove(folder, args.suite, args.mirror, args.minutes)
    except BuildError as error:
        raise SystemExit(str(error)) from None
    finally:
        if not args.keep:
            (folder / "disk.img").unlink(missing_ok=True)
    raise SystemExit(0 if shown else FAILED)


if __name__ == "__main__":
    main()
