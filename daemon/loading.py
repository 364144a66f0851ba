"""Settings -> what judges and files: the model, its readers, the folders."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from daemon import descent, pipeline
from daemon.errors import ServiceError, SettingsError
from daemon.pipeline import BATCH_SIZE, Folders
from daemon.reading import Readers
from daemon.settings import Settings
from daemon.worker import Unstarted
from db.ledger import Ledger, ModelRecord
from trainer import bundle
from trainer.bundle import Bundle
from trainer.errors import BundleError

LARGEST_BATCH = 256
"""Images that are taken at once without being asked for more: each waits with half a megabyte."""


@dataclass(frozen=True)
class Loaded:
    """What a pipeline needs besides an inbox and a ledger; the readers are to be closed."""

    settings: Settings
    folders: Folders
    bundle: Bundle
    readers: Readers
    model_id: int

    @property
    def batch_size(self) -> int:
        """Most images that are taken at once."""
        size = self.settings.batch_size
        if isinstance(size, int):
            return size
        # On the processor each goes through the networks by itself; what they share is the rows.
        return min(max(BATCH_SIZE, self.bundle.most_at_once), LARGEST_BATCH)


def make_folders(settings: Settings, working: Settings | None = None) -> Folders:
    """The folders of the configuration, made where they are missing; `unsure` if it is used.

    `working` are the settings of a service that runs: what is missing of its folders is on a disk
    that it waits for, and not made.

    Raises:
        ServiceError: one cannot be made.
    """
    known = working.used_folders.values() if working else ()
    for name, place in settings.used_folders.items():
        if place in known:
            continue
        folder: Path = getattr(settings, name)  # If it is a link to nowhere, nothing is made there.
        try:
            folder.mkdir(descent.NEW_FOLDER, parents=True, exist_ok=True)
        except OSError as error:
            raise ServiceError(f"The folder {folder} cannot be made: {error.strerror}.") from None
    return Folders.of(settings.folders)


def load(settings: Settings, folders: Folders, ledger: Ledger, stop: threading.Event) -> Loaded:
    """Load and warm all of it, and give the model its row.

    Raises:
        SettingsError, ServiceError: as `load_model`.
        Stopped: `stop` was set while the database did not take it.
    """
    model, readers = load_model(settings)
    try:
        model_id = pipeline.persist(partial(ledger.register, record_of(model)), stop)
    except BaseException:
        readers.close()
        raise
    return Loaded(settings, folders, model, readers, model_id)


def load_model(settings: Settings) -> tuple[Bundle, Readers]:
    """The model, and processes that read images for it, or judge them; all of them warm.

    Raises:
        SettingsError: the model cannot be used.
        ServiceError: a process cannot be started.
    """
    model = load_bundle(settings)
    return model, start_readers(model, settings.decode_workers)


def load_bundle(settings: Settings) -> Bundle:
    """The model, not warm yet.

    Raises:
        SettingsError: it cannot be used.
    """
    try:
        return bundle.load(settings.bundle, settings.face_limits)
    except BundleError as error:
        raise SettingsError(str(error)) from None


def start_readers(model: Bundle, count: int) -> Readers:
    """So many processes that read images for the model, or judge them; all of them warm, as it is.

    Raises:
        ServiceError: one cannot be started.
    """
    if model.in_batches:
        model.warm()  # Else it is the readers who judge.
    try:
        readers = Readers(model, count)
    except OSError as error:
        raise ServiceError(f"A worker process cannot be started: {error.strerror}.") from None
    try:
        _await(readers)
    except BaseException:
        readers.close()
        raise
    return readers


def _await(readers: Readers) -> None:
    try:
        readers.await_ready()
    except Unstarted as error:
        raise ServiceError(str(error)) from None


def record_of(model: Bundle) -> ModelRecord:
    """What the ledger keeps of a model."""
    info = model.info
    return ModelRecord(
        name=info.name,
        sha256=model.sha256,
        classes=info.classes,
        input_height=info.main.input.height,
        input_width=info.main.input.width,
        input_channels=info.main.input.channels,
        metrics=info.metrics,
    )
