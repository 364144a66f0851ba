"""How the service does, gathered from all of its parts, and told to systemd and the status file."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from daemon import logs, process, status
from daemon.inbox import Inbox
from daemon.life import Life
from daemon.loading import Loaded
from daemon.metrics import Metrics
from daemon.pipeline import Pipeline
from daemon.rates import Rates
from daemon.reporting import Reporter
from daemon.settings import Settings
from daemon.status import Report
from daemon.systemd import Manager
from daemon.troubles import Troubles
from db.engine import is_shareable

TELL_SECONDS = 1.0
"""How often others are told how it goes."""

MINUTES = (1, 5, 15)
"""The last minutes that the rate is told of."""


class Vitals:
    """Belongs to the thread that looks after all others, and is told by it what there is."""

    def __init__(
        self,
        settings: Settings,
        inbox: Inbox,
        reporter: Reporter,
        manager: Manager,
        metrics: Metrics | None,
        *,
        reloads: bool,
    ) -> None:
        self.state = status.STARTING
        self.starting = Life()
        self.troubles = Troubles(logs.KeyValueFormatter("%(message)s"))
        self._process = process.current()
        shared = is_shareable(settings.database)
        self.file = inbox.folder / (status.file_of(self._process) if shared else status.STATUS_FILE)
        self._loaded: Loaded | None = None
        self._line: Pipeline | None = None
        self._inbox = inbox
        self._reporter = reporter
        self._manager = manager
        self._metrics = metrics
        self._reloads = reloads
        self._disks = _disks(settings)
        self._rates = Rates()
        self._started_at = status.now()
        self._next_feed = self._next_telling = 0.0

    def now_working(self, loaded: Loaded, line: Pipeline) -> None:
        """This is what there is from now on."""
        self._loaded, self._line = loaded, line
        self._disks = _disks(loaded.settings)

    def tick(self, *, patience: bool = False) -> None:
        """Called a few times a second; `patience` asks that a start or a stop may take longer."""
        now = time.monotonic()
        if self.goes_on and now >= self._next_feed:
            self._next_feed = now + self._manager.feed_seconds
            self._manager.feed()
        if now >= self._next_telling:
            self._next_telling = now + TELL_SECONDS
            self.tell()
            if self.goes_on and patience:
                self._manager.still_at_it()

    def tell(self) -> None:
        """Tell all who want to know."""
        self._rates.note(self._reporter.tally.done)
        self._manager.status(self._summary())
        report = self._report()
        status.write(self.file, report)
        if self._metrics:
            self._metrics.show(report)

    @property
    def goes_on(self) -> bool:
        """Whether no thread that should work has been silent for too long."""
        return self._silence < self._manager.most_silence

    @property
    def _silence(self) -> float:
        if self._line is None:
            return self.starting.silence
        return max(self._line.silence, self._inbox.silence)

    @property
    def _trouble(self) -> str | None:
        return self._line.trouble if self._line else self.starting.trouble

    def _summary(self) -> str:
        if self._trouble:
            return f"waiting: {self._trouble}"
        if self.state != status.WORKING:
            return self.state
        return f"{self._reporter.tally}; {self._rates.over(60):.1f} images/s in the last minute"

    def _report(self) -> Report:
        bundle = self._loaded.bundle if self._loaded else None
        silence = self._silence
        return Report(
            state=self.state,
            host=self._process.host,
            pid=self._process.pid,
            reloads=self._reloads,
            started_at=self._started_at,
            written_at=status.now(),
            model=bundle.info.name if bundle else None,
            model_sha256=bundle.sha256 if bundle else None,
            images=self._reporter.tally.counts(),
            per_second={f"{m}m": round(self._rates.over(60 * m), 2) for m in MINUTES},
            waiting=self._inbox.depths | (self._line.depths if self._line else {}),
            trouble=self._trouble,
            silent_seconds=round(silence, 1),
            hangs=silence >= self._manager.most_silence,
            last_errors=list(self.troubles.last),
            free_bytes={name: _free(folder) for name, folder in self._disks.items()},
        )


def _disks(settings: Settings) -> dict[str, Path]:
    """The folders whose disks may fill up."""
    folders = settings.used_folders
    if "://" not in settings.database:
        folders["database"] = Path(settings.database).resolve().parent
    return folders


def _free(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
