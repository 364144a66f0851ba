"""The service from start to stop: lock, ledger, recovery, inbox, model, pipeline, reload."""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from daemon import lock, pipeline, reading, refiling, status, task
from daemon.byhand import ByHand
from daemon.errors import ServiceError
from daemon.inbox import Inbox
from daemon.loading import Loaded, load, make_folders
from daemon.measures import forget
from daemon.membership import Membership
from daemon.metrics import Metrics
from daemon.pipeline import Filed, Folders, Pipeline
from daemon.reporting import Reporter
from daemon.settings import FIXED, Settings
from daemon.systemd import Manager
from daemon.takeover import Takeover
from daemon.vitals import Vitals
from db.engine import is_shareable, open_for_writing
from db.errors import LedgerError
from db.ledger import Ledger

log = logging.getLogger(__name__)

T = TypeVar("T")

TICK_SECONDS = 0.1


class StoppedWhileLoading(Exception):
    """Asked to stop while a model is still being loaded on another thread.

    Everything else has ended. That thread cannot be ended, nor can the interpreter be shut down in
    an orderly way beneath it.
    """


@dataclass(frozen=True)
class Reload:
    """Settings that may change while the service runs: `read` gives them, when `asked` is set."""

    asked: threading.Event
    read: Callable[[], Settings]


def serve(
    settings: Settings,
    folders: Folders,
    reporter: Reporter,
    stop: threading.Event,
    *,
    once: bool = False,
    reload: Reload | None = None,
) -> None:
    """File what comes into the inbox until `stop` is set or, with `once`, until it is drained.

    Raises:
        ServiceError, LedgerError: it cannot work, or can no longer.
        StoppedWhileLoading: see there.
    """
    # First of all, so that no process that is started here has systemd's socket.
    with closing(Manager(os.environ)) as manager, _hold(settings, folders):
        reading.prepare()
        inbox = Inbox(
            folders.inbox,
            settle_seconds=settings.settle_seconds,
            rescan_seconds=settings.rescan_seconds,
            recursive=settings.recursive,
            poll=settings.poll,
            once=once,
        )
        serves = settings.metrics_listen and not once  # A service may run on another folder.
        metrics = Metrics(settings.metrics_listen) if serves else None
        vitals = Vitals(settings, inbox, reporter, manager, metrics, reloads=reload is not None)
        service = _Service(inbox, reporter, manager, vitals, metrics, stop, reload, once=once)
        try:
            with vitals.troubles.noting():
                service.run(settings, folders)
        except pipeline.Stopped:
            pass  # It waited for a disk or the database; the rows say where to go on.
        finally:
            manager.stopping()
            service.close()
            status.remove(vitals.file)
            if metrics:
                metrics.close()


def _hold(settings: Settings, folders: Folders) -> AbstractContextManager[None]:
    return lock.hold(folders.inbox, shared=is_shareable(settings.database))


class _Service:
    """Its own thread looks after all others, and does nothing that may take long."""

    def __init__(
        self,
        inbox: Inbox,
        reporter: Reporter,
        manager: Manager,
        vitals: Vitals,
        metrics: Metrics | None,
        stop: threading.Event,
        reload: Reload | None,
        *,
        once: bool,
    ) -> None:
        self._inbox = inbox
        self._reporter = reporter
        self._manager = manager
        self._vitals = vitals
        self._metrics = metrics
        self._stop = stop
        self._reload = reload
        self._once = once
        self._by_hand: ByHand | None = None
        self._followed: tuple[Folders, bool] | None = None
        self._ledger: Ledger | None = None
        self._line: Pipeline | None = None
        self._company: Sequence[Membership | Takeover] = ()

    def run(self, settings: Settings, folders: Folders) -> None:
        """Start, work, and stop."""
        opening = partial(self._open, settings, folders)
        self._ledger = self._attend(
            partial(pipeline.persist, opening, self._stop, self._vitals.starting)
        )
        resumed = self._attend(
            partial(pipeline.recover, self._ledger, folders, self._stop, self._vitals.starting)
        ).moved
        resumed += self._attend(
            partial(refiling.recover, self._ledger, folders, self._stop, self._vitals.starting)
        )
        if resumed:
            log.info("finished what was interrupted", extra={"images": resumed})
        self._inbox.start()
        self._follow_by_hand(settings, folders)
        self._line = self._begin(self._load(settings, folders))
        try:
            self._go_on()
            self._reporter.ready()
            self._work(settings)
        finally:
            self._enter(status.STOPPING)
            self._manager.stopping()
            self._attend(self._line.stop)
        _raise(self._failure or self._inbox.failure)

    def close(self) -> None:
        """Let go of everything."""
        self._inbox.stop()
        if self._by_hand:
            self._by_hand.stop()
        for one in reversed(self._company):
            one.stop()
        if self._ledger:
            self._ledger.close()
        self._reporter.close()

    def _open(self, settings: Settings, folders: Folders) -> Ledger:
        """The ledger, and where it may be shared what keeps company with the others."""
        engine = open_for_writing(settings.database)
        if not is_shareable(settings.database):
            return Ledger(engine)
        try:
            membership = Membership(
                engine,
                folders.inbox,
                lease_seconds=settings.lease_seconds,
                goes_on=lambda: self._vitals.goes_on,
                on_loss=self._inbox.look,
            )
        except BaseException:
            engine.dispose()
            raise
        ledger = Ledger(engine, membership.id)
        takeover = Takeover(
            ledger,
            lambda: self._line.folders if self._line else folders,
            every_seconds=membership.pause,
            on_given_back=self._inbox.look,
        )
        self._company = [membership, takeover]
        for one in self._company:
            one.start()
        return ledger

    def _work(self, settings: Settings) -> None:
        while not (self._stop.wait(TICK_SECONDS) or self._has_ended()):
            self._look_after()
            if self._reload and self._reload.asked.is_set():
                self._reload.asked.clear()
                settings = self._reloaded(settings, self._reload.read)

    def _follow_by_hand(self, settings: Settings, folders: Folders) -> None:
        """Notice what people do there by hand; elsewhere, if these folders are new, no longer."""
        assert self._ledger
        wanted = (folders, settings.unsure_below > 0)
        if self._once or self._followed == wanted:
            return
        if self._by_hand:
            self._by_hand.stop()
        self._by_hand = ByHand(folders, settings.database, self._ledger, unsure=wanted[1])
        self._by_hand.start()
        self._followed = wanted

    def _has_ended(self) -> bool:
        assert self._line
        return self._inbox.drained.is_set() or self._failure is not None

    @property
    def _failure(self) -> BaseException | None:
        """Of what works beside the inbox."""
        failures = (one.failure for one in (*self._company, self._line) if one)
        return next((failure for failure in failures if failure), None)

    def _load(self, settings: Settings, folders: Folders) -> Loaded:
        """On another thread, so that a signal is answered meanwhile."""
        assert self._ledger
        loading = task.begin(partial(load, settings, folders, self._ledger, self._stop), "load")
        while not _is_done(loading):
            if self._stop.is_set():
                raise StoppedWhileLoading
            self._look_after()
        return loading.result()

    def _begin(self, loaded: Loaded) -> Pipeline:
        assert self._ledger
        line = Pipeline(
            self._inbox,
            loaded.folders,
            self._ledger,
            loaded.bundle,
            loaded.readers,
            loaded.model_id,
            batch_size=loaded.batch_size,
            max_wait_ms=loaded.settings.max_wait_ms,
            unsure_below=loaded.settings.unsure_below,
            on_filed=self._filed,
            observe=self._metrics.observe if self._metrics else forget,
        )
        line.start()
        self._vitals.now_working(loaded, line)
        return line

    def _filed(self, filed: Sequence[Filed]) -> None:
        self._reporter.filed(filed)
        if self._metrics:
            self._metrics.filed(filed)

    def _go_on(self) -> None:
        """Work from now on, with what is loaded."""
        _keep_for_good()
        self._enter(status.WORKING)
        self._manager.ready()

    def _enter(self, state: str) -> None:
        self._vitals.state = state
        self._vitals.tell()

    def _reloaded(self, old: Settings, read: Callable[[], Settings]) -> Settings:
        """Go on with new settings and a new model; with the old ones if they are no good."""
        assert self._line
        self._enter(status.RELOADING)
        self._manager.reloading()
        try:
            new = read()
            _require_fixed(old, new)
            loaded = self._load(new, make_folders(new, old).remembering(self._line.folders))
        except (pipeline.Stopped, StoppedWhileLoading):
            raise
        except (ServiceError, LedgerError) as error:
            log.error("not reloaded, going on as before: %s", error)
            new = old
        except Exception:  # Such as a GPU without room for two models.
            log.exception("not reloaded, going on as before")
            new = old
        else:
            self._exchange(loaded)
        self._go_on()
        return new

    def _exchange(self, loaded: Loaded) -> None:
        """Let what was begun be finished as it was begun; all else is judged anew."""
        assert self._line
        draining = task.begin(self._line.drain, "drain")
        while not _is_done(draining):
            if self._stop.is_set():
                self._line.give_up()
            self._look_after()
        draining.result()
        if self._stop.is_set() or self._has_ended():
            loaded.readers.close()
            return
        self._inbox.adjust(
            settle_seconds=loaded.settings.settle_seconds,
            rescan_seconds=loaded.settings.rescan_seconds,
        )
        self._attend(partial(self._follow_by_hand, loaded.settings, loaded.folders))
        self._line = self._begin(loaded)
        log.info("reloaded", extra={"model": loaded.bundle.info.name})

    def _attend(self, work: Callable[[], T]) -> T:
        """Do what belongs to a start or a stop, which may take as long as it goes on."""
        doing = task.begin(work, "work")
        while not _is_done(doing):
            self._look_after(patience=True)
        return doing.result()

    def _look_after(self, *, patience: bool = False) -> None:
        """Called a few times a second; `patience` asks that a start or a stop may take longer."""
        self._reporter.tick()
        self._vitals.tick(patience=patience)


def _keep_for_good() -> None:
    """Look for garbage once more, and no more in what is there now.

    That is all but what images come and go with, and looking through it stops all threads for tens
    of milliseconds, again and again.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _is_done(future: Future[T]) -> bool:
    return bool(wait([future], timeout=TICK_SECONDS).done)


def _require_fixed(old: Settings, new: Settings) -> None:
    """What the inbox and the ledger were opened with stays as it is.

    Raises:
        ServiceError: one of these settings is another.
    """
    changed = [name for name in FIXED if getattr(old, name) != getattr(new, name)]
    if changed:
        raise ServiceError(f"To change {', '.join(changed)}, restart the service.")


def _raise(failure: BaseException | None) -> None:
    if isinstance(failure, (ServiceError, LedgerError)):
        raise failure
    if failure:
        raise ServiceError(
            f"The service failed and has stopped ({type(failure).__name__}: {failure}). "
            "No image is lost: started again, it goes on where it was."
        ) from failure
