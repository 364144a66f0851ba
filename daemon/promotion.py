"""Which model the service uses, chosen while it works: a link in the folder of models.

    current  -> NAME-HASH    the one in use
    previous -> NAME-HASH    the one before, to which `roll_back` goes back

Both are copies, so that whatever becomes of the originals, the service can start again.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from daemon import descent, lock, process, status
from daemon.errors import InboxHeld, ServiceError
from daemon.settings import CURRENT, Settings
from daemon.status import Health
from trainer import bundle
from trainer.bundle import BundleInfo

PREVIOUS = "previous"

PATIENCE_SECONDS = 120.0
"""How long a service may take to load a model."""

LOOK_SECONDS = 0.1

REFUSED = "not reloaded"
"""In what a service says that goes on as before."""


@dataclass(frozen=True)
class Known:
    """A bundle that can be used; `sha256` stands for all of it."""

    where: str
    sha256: str
    info: BundleInfo


def known(where: str) -> Known:
    """What is known of the bundle at `where`.

    Raises:
        BundleError: it cannot be used.
    """
    info, sha256 = bundle.inspect(where)
    return Known(where, sha256, info)


def promote(settings: Settings, new: Known) -> str:
    """Let the service use this bundle, and say in a sentence what the service does about it.

    Raises:
        ServiceError: it cannot be done, or the service refuses the bundle; all is as before then.
        BundleError, OSError: the bundle cannot be copied.
    """
    _require_current(settings)
    with _alone(settings) as folder:
        before = _kept(known(settings.bundle), folder)
        return _use(settings, _kept(new, folder), before)


def roll_back(settings: Settings) -> tuple[Known, str]:
    """Let the service use the bundle before this one; gives that, and what the service does.

    Raises:
        ServiceError: there is none, or the service refuses it; all is as before then.
        BundleError, OSError: it cannot be used any more.
    """
    _require_current(settings)
    with _alone(settings) as folder:
        if not os.path.lexists(folder / PREVIOUS):
            raise ServiceError("No model was promoted yet, so there is none to go back to.")
        previous = known(str(folder / PREVIOUS))
        before = _kept(known(settings.bundle), folder)
        return previous, _use(settings, os.readlink(folder / PREVIOUS), before)


def _require_current(settings: Settings) -> None:
    if settings.model != CURRENT:
        raise ServiceError(
            f"The settings name a model of their own, {settings.model}. Let them say "
            f'model = "{CURRENT}", so that another can be chosen.'
        )


@contextmanager
def _alone(settings: Settings) -> Iterator[Path]:
    """The folder of models, in which nobody else chooses meanwhile."""
    folder = settings.models.resolve()
    folder.mkdir(descent.NEW_FOLDER, parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(lock.hold(folder))
        except InboxHeld:
            raise ServiceError(
                f"Another moodsort chooses a model in {folder}. Try again."
            ) from None
        yield folder


def _kept(one: Known, folder: Path) -> str:
    """The name of its copy in the folder, which is made if there is none."""
    name = f"{re.sub(r'[^A-Za-z0-9_-]', '_', one.info.name)[:60]}-{one.sha256[:12]}"
    if not (folder / name).is_dir():
        with tempfile.TemporaryDirectory(dir=folder, prefix=".moodsort-") as temporary:
            bundle.copy(one.where, Path(temporary) / name)
            os.rename(Path(temporary) / name, folder / name)
        descent.sync(folder)
    return name


def _use(settings: Settings, name: str, before: str) -> str:
    """Point to `name` from now on, and remember `before`, if the service agrees."""
    folder = settings.models.resolve()
    _point(folder, CURRENT, name)
    try:
        said = _tell(settings, known(str(folder / CURRENT)).sha256)
    except ServiceError:
        _point(folder, CURRENT, before)
        raise
    if name != before:
        _point(folder, PREVIOUS, before)
    return said


def _point(folder: Path, link: str, name: str) -> None:
    """In one step, and durably."""
    draft = folder / f".moodsort-{link}"
    with contextlib.suppress(FileNotFoundError):
        draft.unlink()
    draft.symlink_to(name)
    draft.replace(folder / link)
    descent.sync(folder)


def _tell(settings: Settings, sha256: str) -> str:
    """Let the services of the inbox load their model anew, and wait until they have.

    Raises:
        ServiceError: one refuses it.
    """
    inbox = settings.folders["inbox"]
    return " ".join(sorted({_tell_one(inbox, one, sha256) for one in status.examine(inbox)}))


def _tell_one(inbox: Path, health: Health, sha256: str) -> str:
    if not health.running:
        return "No service works on the inbox now; its next start uses it."
    report = health.report
    if report is None or not report.reloads:
        return "The service that works now cannot be told so: it uses it when it is started again."
    if report.host != process.current().host:
        return f"Reload the service on {report.host}, and it uses it."
    asked = status.now()
    try:
        os.kill(report.pid, signal.SIGHUP)
    except PermissionError:
        return (
            f"The service, process {report.pid}, is another user's: reload it "
            "(systemctl reload moodsort), and it uses it."
        )
    except ProcessLookupError:
        return "The service has just ended; its next start uses it."
    return _awaited(inbox, report.pid, sha256, asked)


def _awaited(inbox: Path, pid: int, sha256: str, asked: str) -> str:
    pause = threading.Event()
    for _ in range(round(PATIENCE_SECONDS / LOOK_SECONDS)):
        health = next(
            (one for one in status.examine(inbox) if one.report and one.report.pid == pid), None
        )
        if health is None or not health.running or health.report is None:
            return "The service has just ended; its next start uses it."
        if health.report.model_sha256 == sha256:
            return "The service uses it now."
        for trouble in health.report.last_errors:
            if trouble.at >= asked and REFUSED in trouble.text:
                raise ServiceError(f"The service does not take it: {trouble.text}")
        pause.wait(LOOK_SECONDS)
    return "The service does not use it yet: `moodsort status` tells what it does."
