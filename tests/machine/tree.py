"""The disk of the machine: a Debian with systemd, and moodsort's program in it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.faces import draw_folder
from tests.machine.guest import SOURCE
from tests.machine.place import PREFIX, SAMPLES

ROOT = Path(__file__).parent.parent.parent
PACKAGES = "systemd systemd-sysv dbus python3 python3-venv make initramfs-tools"
KERNEL = "linux-image-cloud-amd64"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
WHEELS = Path("/var/cache/wheels")
FACES = 60
"""Samples of each mood."""

DISK = "8G"
"""The size of the image; it takes what is in it."""

UNIT = f"""
[Unit]
Description=What is done inside the machine
SuccessAction=poweroff
FailureAction=poweroff

[Service]
Type=exec
WorkingDirectory={SOURCE}
ExecStart=python3 -m tests.machine.guest
# There is no network: what pip needs lies there, or is installed already.
Environment=PIP_NO_INDEX=1 PIP_FIND_LINKS={WHEELS}
StandardOutput=file:/dev/ttyS1

[Install]
WantedBy=multi-user.target
"""


class BuildError(Exception):
    """Says what went wrong; the last lines of the tool included."""


@dataclass(frozen=True)
class Origin:
    """Which Debian, and from where."""

    suite: str
    mirror: str


def origin_of_this_system(suite: str | None, mirror: str | None) -> Origin:
    """What apt is set up with here, where nothing else is asked for.

    Raises:
        BuildError: it is no Debian, or apt names no such source.
    """
    if suite is None:
        system = platform.freedesktop_os_release()
        if system.get("ID") != "debian":
            raise BuildError("This is no Debian; name one with --suite and --mirror.")
        suite = system["VERSION_CODENAME"]
    return Origin(suite, mirror or _mirror_of_apt(suite))


def _mirror_of_apt(suite: str) -> str:
    if shutil.which("apt-get") is None:
        raise BuildError("There is no apt here to know where a Debian is; name that with --mirror.")
    wanted = ("--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)", "Identifier: Packages")
    for line in _run("apt-get", "indextargets", *wanted).splitlines():
        release, component, address = line.split(maxsplit=2)
        if (release, component) == (suite, "main"):
            return address
    raise BuildError(f"apt has no source of {suite} here; name one with --mirror.")


def build(folder: Path, origin: Origin) -> Path:
    """A tree below the folder, made once, with the program of this checkout in it, made anew.

    Raises:
        BuildError: see there.
    """
    tree = folder / f"tree-{origin.suite}"
    if not tree.exists():
        _bootstrap(tree, origin)
    _copy_checkout(tree)
    draw_folder(_inside(tree, SAMPLES), FACES, seed=1, flat=True)
    _install_program(tree)
    _set_up(tree)
    return tree


def _bootstrap(tree: Path, origin: Origin) -> None:
    part = tree.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    include = ",".join([*PACKAGES.split(), KERNEL])
    options = ("--variant=minbase", f"--include={include}")
    _run("debootstrap", *options, origin.suite, part, origin.mirror)
    if mounts := list(_mounts_below(part)):
        raise BuildError(f"debootstrap has left {', '.join(mounts)} mounted; unmount it.")
    part.rename(tree)


def _mounts_below(folder: Path) -> Iterator[str]:
    for line in Path("/proc/mounts").read_text().splitlines():
        if (point := line.split()[1]).startswith(str(folder)):
            yield point


def _copy_checkout(tree: Path) -> None:
    """What git knows of it, as it stands there."""
    source = _inside(tree, SOURCE)
    shutil.rmtree(source, ignore_errors=True)
    for name in _run("git", "-C", ROOT, "ls-files", "-z").split("\0"):
        if name and (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)


def _install_program(tree: Path) -> None:
    """The part of `make install-service` that takes a network, and most of the time."""
    shutil.copy("/etc/resolv.conf", _inside(tree, Path("/etc/resolv.conf")))
    if CERTIFICATES.exists():
        shutil.copy(CERTIFICATES, _inside(tree, CERTIFICATES))
    _chroot(tree, "make", "-C", SOURCE, "service-program")
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    pip = (PREFIX / "bin/python", "-m", "pip", "download", "--quiet")
    _chroot(tree, *pip, "--dest", WHEELS, *needed)


def _set_up(tree: Path) -> None:
    _inside(tree, Path("/etc/fstab")).write_text("/dev/vda / ext4 defaults 0 1\n")
    _inside(tree, Path("/etc/hostname")).write_text("machine\n")
    units = _inside(tree, Path("/etc/systemd/system"))
    (units / "machine.service").write_text(UNIT)
    _chroot(tree, "systemctl", "enable", "--quiet", "machine.service")


def image_of(tree: Path, image: Path) -> Path:
    """The tree as a disk."""
    image.unlink(missing_ok=True)
    _run("mke2fs", "-q", "-t", "ext4", "-d", tree, image, DISK)
    return image


def kernel_of(tree: Path) -> tuple[Path, Path]:
    """The newest kernel in it, and the first file system of that."""
    kernel = max((tree / "boot").glob("vmlinuz-*"))
    return kernel, kernel.with_name(kernel.name.replace("vmlinuz-", "initrd.img-"))


def _inside(tree: Path, path: Path) -> Path:
    return tree / path.relative_to("/")


def _chroot(tree: Path, *command: str | Path) -> None:
    """With nothing of this system but what pip is told of networks."""
    told = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("PIP_") or name.lower().endswith("_proxy")
    }
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    env = told | {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8"}
    _run("chroot", tree, *command, env=env)


def _run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, env=env
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise BuildError(f"{' '.join(map(str, command))} failed:\n{tail}")
    return done.stdout
