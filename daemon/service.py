"""The service from start to stop: lock, ledger, recovery, inbox, model, pipeline."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from functools import partial

from daemon import correcting, descent, lock, pipeline, reading
from daemon.byhand import ByHand
from daemon.errors import ServiceError
from daemon.inbox import Inbox
from daemon.pipeline import Folders, Pipeline
from daemon.reading import Readers
from daemon.reporting import Reporter
from daemon.settings import Settings
from db.engine import open_for_writing
from db.errors import LedgerError
from db.ledger import Ledger, ModelRecord
from trainer import bundle
from trainer.bundle import Bundle

log = logging.getLogger(__name__)

TICK_SECONDS = 0.1


class StoppedWhileLoading(Exception):
    """Asked to stop while the model is still being loaded on another thread.

    Nothing was claimed. That thread cannot be ended, nor can the interpreter be shut down in an
    orderly way beneath it.
    """


@contextlib.contextmanager
def stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP set `stop`; a second one ends the process at once."""

    def ask(number: int, frame: object) -> None:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    asked = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {
        number: signal.signal(number, ask)
        for number in asked
        if signal.getsignal(number) is not signal.SIG_IGN  # as nohup has it
    }
    # A writer that opens a file while its lease is asked for makes the kernel send this.
    before[signal.SIGIO] = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def make_folders(settings: Settings) -> Folders:
    """The folders of the configuration, made where they are missing; `unsure` if it is used.

    Raises:
        ServiceError: one cannot be made.
    """
    wanted = (settings.inbox, settings.happy, settings.sad, settings.failed, settings.unsure)
    for folder in wanted if settings.unsure_below else wanted[:-1]:
        try:
            folder.mkdir(descent.NEW_FOLDER, parents=True, exist_ok=True)
        except OSError as error:
            raise ServiceError(f"The folder {folder} cannot be made: {error.strerror}.") from None
    return Folders.of(settings.folders)


def serve(
    settings: Settings,
    folders: Folders,
    reporter: Reporter,
    stop: threading.Event,
    *,
    once: bool = False,
) -> None:
    """File what comes into the inbox until `stop` is set or, with `once`, until it is drained.

    Raises:
        ServiceError, LedgerError, BundleError: it cannot work, or can no longer.
        StoppedWhileLoading: see there.
    """
    reading.prepare()
    with lock.hold(folders.inbox):
        opening = partial(open_for_writing, settings.database)
        try:
            ledger = Ledger(pipeline.persist(opening, stop))
        except pipeline.Stopped:
            return
        inbox = Inbox(
            folders.inbox,
            settle_seconds=settings.settle_seconds,
            rescan_seconds=settings.rescan_seconds,
            recursive=settings.recursive,
            poll=settings.poll,
            once=once,
        )
        by_hand = ByHand(folders, settings.database, ledger, unsure=settings.unsure_below > 0)
        try:
            resumed = pipeline.recover(ledger, folders, stop)
            resumed += correcting.recover(ledger, folders, stop)
            if resumed:
                log.info("finished what was interrupted", extra={"images": resumed})
            inbox.start()
            if not once:
                by_hand.start()
            model, readers = _load(settings, stop)
            with contextlib.closing(readers):
                line = _pipeline(settings, folders, reporter, ledger, inbox, model, readers, stop)
                _run(line, inbox, reporter, stop)
        except pipeline.Stopped:
            pass  # It waited for a disk or the database; the rows say where to go on.
        finally:
            inbox.stop()
            by_hand.stop()
            ledger.close()
            reporter.close()


def _load(settings: Settings, stop: threading.Event) -> tuple[Bundle, Readers]:
    """Load and warm the model on another thread, so that a signal is answered meanwhile."""
    loaded: list[tuple[Bundle, Readers]] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            model = bundle.load(settings.model, settings.face_limits)
            if model.in_batches:
                model.warm()  # Else it is the readers who judge.
            readers = Readers(model, settings.decode_workers)
            readers.await_ready()
            loaded.append((model, readers))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="load", daemon=True)
    thread.start()
    while thread.is_alive():
        if stop.wait(TICK_SECONDS / 2):
            raise StoppedWhileLoading
    if errors:
        raise errors[0]
    return loaded[0]


def _pipeline(
    settings: Settings,
    folders: Folders,
    reporter: Reporter,
    ledger: Ledger,
    inbox: Inbox,
    model: Bundle,
    readers: Readers,
    stop: threading.Event,
) -> Pipeline:
    info = model.info
    record = ModelRecord(
        name=info.name,
        sha256=model.sha256,
        classes=info.classes,
        input_height=info.main.input.height,
        input_width=info.main.input.width,
        input_channels=info.main.input.channels,
        metrics=info.metrics,
    )
    return Pipeline(
        inbox,
        folders,
        ledger,
        model,
        readers,
        pipeline.persist(partial(ledger.register, record), stop),
        batch_size=settings.batch_size,
        max_wait_ms=settings.max_wait_ms,
        unsure_below=settings.unsure_below,
        on_filed=reporter.filed,
    )


def _run(line: Pipeline, inbox: Inbox, reporter: Reporter, stop: threading.Event) -> None:
    line.start()
    reporter.ready()
    try:
        while not (stop.wait(TICK_SECONDS) or inbox.drained.is_set() or line.failure):
            reporter.tick()
    finally:
        line.stop()
    failure = line.failure or inbox.failure
    if isinstance(failure, (ServiceError, LedgerError)):
        raise failure
    if failure:
        raise ServiceError(
            f"The service failed and has stopped ({type(failure).__name__}: {failure}). "
            "No image is lost: started again, it goes on where it was."
        ) from failure
