"""The units and their installation, by systemd's own tools, and whether the service bears them.

No systemd is started: what a unit forbids is forbidden by strace and prctl instead.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers import Place, Service, jpeg, sha256

ROOT = Path(__file__).parent.parent
UNITS = ("moodsort.service", "moodsort@.service")
MOST_EXPOSED = 1.2
SET_MDWE, REFUSE_EXEC_GAIN, NO_NEW_PRIVILEGES = 65, 1, 38


def needs(*tools: str) -> pytest.MarkDecorator:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


def run(*command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=120, check=False, **options
    )


class Installed:
    """What `make` puts below a folder of its own, but for the program."""

    def __init__(self, folder: Path) -> None:
        self.root, self.prefix = folder / "root", folder / "opt"
        program = self.prefix / "bin" / "moodsort"
        program.parent.mkdir(parents=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        self.make("service-files")

    def run(self, target: str) -> subprocess.CompletedProcess[str]:
        places = (f"DESTDIR={self.root}", f"PREFIX={self.prefix}")
        return run("make", "-s", "-C", ROOT, target, *places)

    def make(self, target: str) -> None:
        done = self.run(target)
        assert done.returncode == 0, done.stderr

    def unit(self, name: str) -> Path:
        return self.root / "usr/local/lib/systemd/system" / name

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    return Installed(tmp_path)


def drop_ins() -> list[Path]:
    """All that the systemd here knows the keys of."""
    found = sorted((ROOT / "systemd" / "drop-ins").glob("*.conf"))
    return [path for path in found if path.name != "backoff.conf" or systemd_version() >= 254]


def systemd_version() -> int:
    if shutil.which("systemd-analyze") is None:
        return 0
    return int(run("systemd-analyze", "--version").stdout.split()[1])


@needs("systemd-analyze")
@pytest.mark.parametrize("name", UNITS)
def test_the_unit_exposes_little(name: str) -> None:
    done = run("systemd-analyze", "security", "--offline=true", ROOT / "systemd" / name)
    [line] = [line for line in done.stdout.splitlines() if "exposure level" in line]
    assert float(line.split(":")[1].split()[0]) <= MOST_EXPOSED, done.stdout


@needs("systemd-analyze", "make")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_has_nothing_to_say_of_the_unit(installed: Installed, name: str) -> None:
    done = run("systemd-analyze", "verify", installed.unit(name))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs("systemd-analyze", "make")
@pytest.mark.parametrize("drop_in", drop_ins(), ids=lambda path: path.stem)
def test_nor_of_a_drop_in(installed: Installed, drop_in: Path) -> None:
    folder = installed.unit("moodsort.service.d")
    folder.mkdir()
    shutil.copy(drop_in, folder)
    done = run("systemd-analyze", "verify", installed.unit("moodsort.service"))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_two_units_differ_only_in_their_names() -> None:
    one, many = ((ROOT / "systemd" / name).read_text().splitlines()[3:] for name in UNITS)
    plain = [line.replace("/%i", "").replace(" %i", "") for line in many]
    assert plain == [
        line.replace("/etc/moodsort/moodsort.toml", "/etc/moodsort.toml") for line in one
    ]


@pytest.mark.parametrize("name", UNITS)
def test_to_reload_takes_no_program_but_a_shell(tmp_path: Path, name: str) -> None:
    """Small systems have no other kill than that of their shell."""
    shell = shutil.which("sh")
    assert shell
    (tmp_path / "sh").symlink_to(shell)
    lines = (ROOT / "systemd" / name).read_text().splitlines()
    [command] = [line.removeprefix("ExecReload=") for line in lines if "ExecReload" in line]
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as service:
        environ = {"PATH": str(tmp_path), "MAINPID": str(service.pid)}
        run(*shlex.split(command), env=environ)
        assert service.wait(60) == -signal.SIGHUP


@needs("make")
def test_it_is_installed_again_and_removed_but_settings_stay(installed: Installed) -> None:
    settings = installed.root / "etc/moodsort/moodsort.toml"
    assert 'inbox = "/var/lib/moodsort/inbox"' in settings.read_text()
    assert "moodsort-data" not in settings.read_text()
    settings.write_text("batch_size = 8\n")
    before = installed.files()
    installed.make("service-files")
    assert installed.files() == before
    for _ in range(2):
        installed.make("uninstall-service")
        assert installed.files().keys() - {k for k in before if "share/" in k} == {
            "etc/moodsort/moodsort.toml"
        }
    assert installed.prefix.exists()  # It was no virtual environment: nothing of ours to remove.


@needs("make")
def test_nothing_is_installed_over_something_else(installed: Installed) -> None:
    before = installed.files()
    done = installed.run("install-service")
    assert done.returncode != 0
    assert "holds something else; name another folder" in done.stdout
    assert installed.files() == before


@needs("systemd-sysusers", "systemd-tmpfiles", "make")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files to another user")
def test_user_and_folders_are_made(installed: Installed) -> None:
    root = installed.root
    (root / "etc").mkdir(exist_ok=True)
    for tool, options in (("sysusers", []), ("tmpfiles", ["--create"])):
        file = root / f"usr/local/lib/{tool}.d/moodsort.conf"
        done = run(f"systemd-{tool}", f"--root={root}", *options, file)
        assert done.returncode == 0, done.stderr
    [line] = [u for u in (root / "etc/passwd").read_text().splitlines() if "moodsort" in u]
    user = int(line.split(":")[2])
    modes = {
        name: ((found := (root / name).stat()).st_uid, oct(found.st_mode & 0o7777))
        for name in ("var/lib/moodsort", "var/lib/moodsort/inbox", "etc/moodsort/moodsort.toml")
    }
    assert modes == {
        "var/lib/moodsort": (user, "0o750"),
        "var/lib/moodsort/inbox": (user, "0o2770"),
        "etc/moodsort/moodsort.toml": (0, "0o640"),
    }


@functools.cache
def calls(group: str) -> frozenset[str]:
    """The system calls of one of systemd's groups."""
    lines = run("systemd-analyze", "--no-pager", "syscall-filter", group).stdout.splitlines()[1:]
    names = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    return frozenset().union(*(calls(n) if n.startswith("@") else {n} for n in names))


def refused_calls() -> set[str]:
    """What the unit refuses, of the calls that systemd knows."""
    text = (ROOT / "systemd" / "moodsort.service").read_text()
    allowed: set[str] = set()
    for line in text.splitlines():
        if line.startswith("SystemCallFilter="):
            words = line.split("=", 1)[1]
            named = {name for group in words.strip("~").split() for name in calls(group)}
            allowed = allowed - named if words.startswith("~") else allowed | named
    return set(calls("@known")) - allowed - calls("@default")


GIVE_UP_RIGHTS = f"""
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.prctl({SET_MDWE}, {REFUSE_EXEC_GAIN}, 0, 0, 0)  # Linux 6.3; before that it does nothing.
libc.prctl({NO_NEW_PRIVILEGES}, 1, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""What MemoryDenyWriteExecute and NoNewPrivileges do before the program begins."""


@needs("strace", "systemd-analyze")
def test_the_service_works_with_what_the_unit_leaves_it(place: Place) -> None:
    """Every refused call fails with EPERM, memory is never writable and executable at once."""
    (place.inbox / "bad.jpg").write_bytes(b"no image")
    refused = ",".join(f"?{name}" for name in sorted(refused_calls()))
    strace = ("strace", "-D", "-f", "-qq", "--seccomp-bpf", "-o", str(place.root / "trace"))
    refusing = (*strace, f"-einject={refused}:error=EPERM")
    with Service(place, under=(*refusing, sys.executable, "-c", GIVE_UP_RIGHTS)) as service:
        service.wait_until_ready()
        for n in range(12):
            (place.inbox / f"{n}.jpg").write_bytes(jpeg("happy", n))
        dropped = Counter(sha256(jpeg("happy", n)) for n in range(12))
        dropped[sha256(b"no image")] += 1
        service.wait_drained(13)
        assert service.stop() == 0, service.said()
    place.assert_promise(dropped)
