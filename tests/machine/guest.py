"""What is done inside the machine, as root: the README's words, and then harm.

A unit of the machine starts it. It needs nothing but Python, for it outlives the program that it
installs and removes. Each step is told as one line of JSON.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import signal
import stat
import sys
import termios
import threading
import time
import traceback
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.folders import files
from tests.machine.place import PREFIX, Place
from tests.machine.systemd import (
    EVERY,
    SLOWLY,
    UNIT,
    attempt,
    cursor,
    in_force,
    journal,
    main_pid,
    own_journal,
    restarts,
    run,
    show,
    shows,
    version,
)
from tests.waiting import wait_until

SOURCE = Path("/usr/src/moodsort")
HOME = Path("/var/lib/moodsort")
SETTINGS = Path("/etc/moodsort/moodsort.toml")
UNITS = Path("/usr/local/lib/systemd/system")
DROP_INS = PREFIX / "share/moodsort/drop-ins"
BACKOFF = DROP_INS / "backoff.conf"
PHOTOS = Path("/srv/photos")

RESTART_STEPS = 254
"""The version of systemd that knows what backoff.conf says."""

MEMBER = "visitor"

MANY = 200
"""Images that are dropped to have it interrupted amid its work."""

REMEMBERED = Path("/var/lib/dropped.json")
"""What was dropped before the power was lost."""

FORBIDDING = {
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "PrivateUsers": "yes",
    "PrivateNetwork": "yes",
    "NoNewPrivileges": "yes",
    "MemoryDenyWriteExecute": "yes",
    "RestrictAddressFamilies": "AF_UNIX",
    "CapabilityBoundingSet": "",
}
"""What is asked of systemd, as it tells it."""


@dataclass(frozen=True)
class Told:
    """What came of a step, and how many seconds it took."""

    step: str
    shown: bool
    said: str
    seconds: float


def machine_is_up(place: Place) -> str:
    state = attempt("systemctl", "is-system-running", "--wait").stdout.strip()
    assert state == "running", run("systemctl", "list-units", "--failed", "--no-legend")
    return f"systemd {version()} on Linux {os.uname().release}, {os.cpu_count()} CPUs"


def make_install_service(place: Place) -> str:
    began = time.monotonic()
    run("make", "install-service", cwd=SOURCE)
    user, group = pwd.getpwnam("moodsort"), grp.getgrnam("moodsort")
    for path, owner, mode in (
        (HOME, user.pw_uid, 0o750),
        (HOME / "inbox", user.pw_uid, 0o2770),
        (SETTINGS, 0, 0o640),
    ):
        found = path.stat()
        got = (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode))
        assert got == (owner, group.gr_gid, mode), (path, got)
    assert show("LoadState") == "loaded"
    return f"user, folders, settings and units are there after {_since(began)}"


def units_are_without_fault(place: Place) -> str:
    for unit in ("moodsort.service", "moodsort@.service"):
        done = attempt("systemd-analyze", "verify", UNITS / unit)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done.stderr
    return "systemd-analyze verify says nothing"


def drop_ins_are_without_fault(place: Place) -> str:
    known = known_drop_ins()
    for drop_in in known:
        assert (said := _complaints_about(drop_in)) == [], said
    names = ", ".join(drop_in.stem for drop_in in known)
    if BACKOFF in known:
        return f"{names}: not a word in the journal"
    said = _complaints_about(BACKOFF)
    assert any("RestartSteps" in line for line in said), said
    return f"{names}: not a word in the journal; backoff is for systemd {RESTART_STEPS} and later"


def known_drop_ins() -> list[Path]:
    """All that this systemd knows the keys of."""
    is_old = version() < RESTART_STEPS
    return [path for path in sorted(DROP_INS.glob("*.conf")) if not (is_old and path == BACKOFF)]


def _complaints_about(drop_in: Path) -> list[str]:
    """What systemd writes into its journal about it when it reads the unit."""
    since = cursor()
    with in_force(drop_in):
        assert drop_in.name in show("DropInPaths")
        return [line for line in journal("_PID=1", since=since) if drop_in.name in line]


def enable_now(place: Place) -> str:
    began = time.monotonic()
    run("systemctl", "enable", "--now", "moodsort")
    assert shows("ActiveState", "SubState") == ["active", "running"]
    assert run("systemctl", "is-enabled", "moodsort").strip() == "enabled"
    return f"ready {_since(began)} later: {show('StatusText')}"


def status_is_well(place: Place) -> str:
    told = json.loads(run(PREFIX / "bin/moodsort", "status", "--config", SETTINGS, "--json"))
    assert told["pid"] == main_pid()
    return f"ends with 0, state {told['state']}"


def images_are_filed(place: Place) -> str:
    began = time.monotonic()
    place.drop(12)
    place.wait_filed()
    place.assert_promise()
    labels = Counter(row["label"] for row in place.results())
    return f"12 in {_since(began)}, each once, unchanged, with its row: {dict(labels)}"


def a_member_of_the_group_drops_images(place: Place) -> str:
    run("useradd", "--groups", "moodsort", MEMBER)
    place.drop(2, copy=lambda *paths: run("runuser", "-u", MEMBER, "--", "cp", *paths))
    place.wait_filed()
    place.assert_promise()
    return f"those of {MEMBER} are filed, too"


def what_is_forbidden_is_forbidden(place: Place) -> str:
    for name, wanted in FORBIDDING.items():
        assert (got := show(name)) == wanted, (name, got)
    pid = main_pid()
    process = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert process["Seccomp"] == "2"
    assert process["NoNewPrivs"] == "1"
    assert {int(process[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {0}
    devices = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in devices] == ["lo"]
    for path in ("/etc/x", "/opt/moodsort/x", "/usr/x", "/srv/x"):
        done = attempt("nsenter", f"--mount=/proc/{pid}/ns/mnt", "touch", path)
        assert "Read-only file system" in done.stderr, done.stderr
    assert not Path(f"/proc/{pid}/root/dev/vda").exists()
    last = run("systemd-analyze", "security", "moodsort").strip().splitlines()[-1]
    return last.strip("→ ")


def kill_amid_work(place: Place) -> str:
    before, filed, began = int(show("NRestarts")), len(place.filed()), time.monotonic()
    dropping = threading.Thread(target=place.drop, args=(MANY,))
    dropping.start()
    wait_until(lambda: len(place.filed()) > filed, "one is filed", SLOWLY, every=0.05)
    os.kill(main_pid(), signal.SIGKILL)
    wait_until(lambda: show("ActiveState") != "active", "it is missed", SLOWLY, every=0.05)
    then = len(place.filed()) - filed
    dropping.join()
    wait_until(lambda: restarts() == before + 1, "it is started again", SLOWLY, every=EVERY)
    place.wait_filed()
    place.assert_promise()
    return f"{then} of {MANY} were filed then; restarted, each is filed once after {_since(began)}"


def hang(place: Place) -> str:
    before, since = int(show("NRestarts")), cursor()
    os.kill(main_pid(), signal.SIGSTOP)
    began = time.monotonic()
    place.drop(6)
    wait_until(lambda: restarts() == before + 1, "it is started again", SLOWLY, every=EVERY)
    missed = _since(began)
    lines = "\n".join(own_journal(since))
    assert "Watchdog timeout" in lines, lines
    assert "Fatal Python error: Aborted" in lines, lines
    place.wait_filed()
    place.assert_promise()
    return (
        f"restarted {missed} after SIGSTOP, told where its threads were; 6 dropped then are filed"
    )


def reload(place: Place) -> str:
    pid, before = main_pid(), len(files(HOME / "unsure"))
    with changed(unsure_below="1.0"):
        began = time.monotonic()
        run("systemctl", "reload", "moodsort")
        wait_until(lambda: show("ActiveState") == "reloading", "it tells it", SLOWLY, every=0.05)
        wait_until(lambda: show("ActiveState") == "active", "it is done", SLOWLY, every=EVERY)
    took = _since(began)
    place.drop(2)
    place.wait_filed()
    place.assert_promise()
    assert len(files(HOME / "unsure")) == before + 2
    assert main_pid() == pid
    return f"reloading, then active, in {took}; the same process files by the new setting"


def reload_of_nonsense(place: Place) -> str:
    pid, since = main_pid(), cursor()
    with changed(batch_size='"many"'):
        run("systemctl", "reload", "moodsort")
        [line, *_] = wait_until(
            lambda: [x for x in own_journal(since) if "not reloaded" in x],
            "it is refused",
            SLOWLY,
            every=EVERY,
        )
    wait_until(lambda: show("ActiveState") == "active", "it goes on", SLOWLY, every=EVERY)
    assert main_pid() == pid
    return str(line).split(": ", 1)[1]


def upgrade(place: Place) -> str:
    pid, settings = main_pid(), SETTINGS.stat().st_mtime_ns
    run("make", "install-service", cwd=SOURCE)
    assert main_pid() == pid
    assert SETTINGS.stat().st_mtime_ns == settings
    place.drop(2)
    place.wait_filed()
    run("systemctl", "restart", "moodsort")
    assert main_pid() != pid
    place.drop(2)
    place.wait_filed()
    place.assert_promise()
    return "installed beneath the running service, which goes on; settings kept; then restarted"


def stop(place: Place) -> str:
    began = time.monotonic()
    run("systemctl", "stop", "moodsort")
    got = shows("ActiveState", "Result", "ExecMainStatus")
    assert got == ["inactive", "success", "0"], got
    done = attempt(PREFIX / "bin/moodsort", "status", "--config", SETTINGS)
    assert done.returncode == 1, done
    return f"in {_since(began)}, with 0; status then ends with 1: {done.stdout.splitlines()[0]}"


def bad_settings(place: Place) -> str:
    with changed(batch_size='"many"'):
        done = attempt("systemctl", "start", "moodsort")
    assert done.returncode != 0
    got = shows("ActiveState", "SubState", "ExecMainStatus", "NRestarts")
    assert got == ["failed", "failed", "78", "0"], got
    return "ends with 78 and is left alone"


def drop_ins_in_use(place: Place) -> str:
    PHOTOS.mkdir()
    run("chown", "moodsort:moodsort", PHOTOS)
    used = known_drop_ins()
    settings = {
        "metrics_listen": '"127.0.0.1:9109"',
        "happy": f'"{PHOTOS}/happy"',
        "sad": f'"{PHOTOS}/sad"',
    }
    with changed(**settings), in_force(*used):
        assert BACKOFF not in used or show("RestartSteps") == "8"
        run("systemctl", "start", "moodsort")
        place.drop(4)
        place.wait_filed()
        place.assert_promise()
        assert len(files(PHOTOS)) == 4
        with urllib.request.urlopen("http://127.0.0.1:9109/metrics", timeout=60) as answer:
            metrics = answer.read().decode()
        run("systemctl", "stop", "moodsort")
    counts = [line for line in metrics.splitlines() if line.startswith("moodsort_images_total")]
    assert sum(float(line.split()[-1]) for line in counts) == 4, metrics
    names = ", ".join(drop_in.stem for drop_in in used)
    return f"{names} at once: 4 images filed into {PHOTOS}, and counted in the metrics"


def one_of_several(place: Place) -> str:
    home = HOME / "cats"
    settings = SETTINGS.with_name("cats.toml")
    settings.write_text(SETTINGS.read_text().replace(str(HOME), str(home)))
    run("systemctl", "start", "moodsort@cats")
    cats = Place(home)
    cats.drop(2)
    cats.wait_filed()
    cats.assert_promise()
    run("systemctl", "stop", "moodsort@cats")
    return "moodsort@cats files 2 images below its own folder"


def lose_power_amid_work(place: Place) -> str:
    """Only the rest of it: `main` switches off when this has been told."""
    filed = len(place.filed())
    place.drop(MANY)
    REMEMBERED.write_text(json.dumps(place.dropped))
    os.sync()
    run("systemctl", "start", "moodsort")
    wait_until(lambda: len(place.filed()) > filed, "one is filed", SLOWLY)
    return f"switched off when about {len(place.filed()) - filed} of {MANY} were filed"


def start_at_boot(place: Place) -> str:
    place.dropped = Counter(json.loads(REMEMBERED.read_text()))
    found = len(place.filed())
    wait_until(lambda: show("ActiveState") == "active", "it is ready", SLOWLY, every=EVERY)
    place.wait_filed()
    place.assert_promise()
    run(PREFIX / "bin/moodsort", "doctor", "--config", SETTINGS, "--deep")
    return (
        f"of {place.dropped.total()} images {found} were filed before it was ready, all after; "
        "each once, unchanged; doctor --deep has nothing to say"
    )


def make_uninstall_service(place: Place) -> str:
    run("make", "uninstall-service", cwd=SOURCE)
    assert shows("LoadState", "ActiveState") == ["not-found", "inactive"]
    left = [path for path in (PREFIX, UNITS / UNIT, UNITS / "moodsort@.service") if path.exists()]
    assert left == [], left
    assert SETTINGS.exists()
    pwd.getpwnam("moodsort")
    assert len(place.filed()) == place.dropped.total()
    return "program and units are gone; settings, images and user are left"


BOOTS: tuple[tuple[Callable[[Place], str], ...], ...] = (
    (
        machine_is_up,
        make_install_service,
        units_are_without_fault,
        drop_ins_are_without_fault,
        enable_now,
        status_is_well,
        images_are_filed,
        a_member_of_the_group_drops_images,
        what_is_forbidden_is_forbidden,
        kill_amid_work,
        hang,
        reload,
        reload_of_nonsense,
        upgrade,
        stop,
        bad_settings,
        drop_ins_in_use,
        one_of_several,
        lose_power_amid_work,
    ),
    (machine_is_up, start_at_boot, make_uninstall_service),
)
"""What is done from each start of the machine on; all but the last end as if power was lost."""


def name_of(step: Callable[[Place], str]) -> str:
    """As it is told."""
    return step.__name__.replace("_", " ")


@contextmanager
def changed(**settings: str) -> Iterator[None]:
    """The file of settings has these values meanwhile."""
    before = SETTINGS.read_text()
    text = before
    for name, value in settings.items():
        text, found = re.subn(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
        assert found == 1, name
    SETTINGS.write_text(text)
    try:
        yield
    finally:
        SETTINGS.write_text(before)


def _since(began: float) -> str:
    return f"{time.monotonic() - began:.0f} s"


def told(step: Callable[[Place], str], place: Place) -> Told:
    """What came of it."""
    began, shown = time.monotonic(), True
    try:
        said = step(place)
    except Exception as error:
        shown, said = False, "".join(traceback.format_exception(error, limit=-2))
    return Told(name_of(step), shown, said, round(time.monotonic() - began, 1))


def main(boot: int) -> None:
    """Tell each step on standard output, and end as it is due."""
    place = Place(HOME, PHOTOS)
    for step in BOOTS[boot]:
        print(json.dumps(asdict(told(step, place))), flush=True)  # noqa: T201
    if BOOTS[boot] != BOOTS[-1]:
        termios.tcdrain(sys.stdout)
        Path("/proc/sysrq-trigger").write_text("b")


if __name__ == "__main__":
    main(int(os.environ["BOOT"]))
