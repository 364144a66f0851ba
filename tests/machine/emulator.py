"""A machine in software, by qemu: without the rights that a virtual one takes, and slower."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.machine.guest import Told

PROGRAM = "qemu-system-x86_64"
PROCESSORS, MEBIBYTES = 2, 4096


def boot(
    image: Path, kernel: Path, initrd: Path, journal: Path, *, number: int, limit_seconds: float
) -> Iterator[Told]:
    """What it tells on its second serial line, until it is off; the first one is its journal.

    The journal is written on. What runs inside is told the number of the start as BOOT.
    """
    arguments = [
        *("root=/dev/vda", "rw", "console=ttyS0", "systemd.journald.forward_to_console=1"),
        f"systemd.setenv=BOOT={number}",
        "panic=-1",  # After a panic it would start again, which it may not: it is off then.
    ]
    with subprocess.Popen(
        [
            *(PROGRAM, "-accel", "tcg,thread=multi", "-cpu", "max"),
            *("-smp", str(PROCESSORS), "-m", str(MEBIBYTES)),
            *("-nodefaults", "-nic", "none", "-display", "none", "-no-reboot"),
            *("-drive", f"file={image},format=raw,if=virtio,cache=unsafe"),
            *("-kernel", kernel, "-initrd", initrd, "-append", " ".join(arguments)),
            *("-chardev", f"file,id=journal,path={journal},append=on"),
            *("-serial", "chardev:journal", "-serial", "stdio"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as qemu:
        limit = threading.Timer(limit_seconds, qemu.kill)
        limit.start()
        try:
            assert qemu.stdout
            for line in filter(str.strip, qemu.stdout):
                yield Told(**json.loads(line))
        finally:
            limit.cancel()
            qemu.kill()
