"""One archive: what is left of it is judged and recorded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from daemon.bulk import engine
from daemon.bulk.judge import PROBLEM
from daemon.bulk.places import place_of
from daemon.bulk.results import Digests, Results, held
from daemon.bulk.sources import Source, source_of
from daemon.errors import ServiceError
from daemon.loading import load_bundle
from daemon.settings import Settings
from trainer.bundle import Bundle


@dataclass(frozen=True)
class Batch:
    """The labels of what was recorded (None: of a bad image); what has no row, and why."""

    labels: list[str | None]
    problems: list[tuple[str, str]]


@dataclass(frozen=True)
class Job:
    """What is to be judged, by what, and where the results go; `folder` if it is one of here."""

    source: Source
    folder: Path | None
    results: Results
    done: Digests
    model: Bundle
    settings: Settings

    def batches(self, address: str | None, stop: threading.Event) -> Iterator[Batch]:
        """Judge and record what is not done, on the Ray at the address or one of its own.

        Raises:
            ServiceError: it cannot go on; what was judged is recorded.
        """
        with (
            engine.session(address, self.settings.decode_workers),
            closing(
                engine.judged(self.model, self.source, self.done, self.settings.unsure_below)
            ) as judged,
        ):
            for table in judged:
                if stop.is_set():
                    return
                yield self._recorded(table)

    def _recorded(self, table: pa.Table) -> Batch:
        is_bad = pc.is_valid(table[PROBLEM])
        rows = table.filter(pc.invert(is_bad)).drop_columns([PROBLEM])
        self.results.add(rows)
        bad = table.filter(is_bad)
        problems = zip(bad["source_path"].to_pylist(), bad[PROBLEM].to_pylist(), strict=True)
        return Batch(rows["label"].to_pylist(), [*problems])


@contextmanager
def opened(settings: Settings, source: str, to: str) -> Iterator[Job]:
    """A job; what it has recorded is written at the end, whatever that is.

    Raises:
        SettingsError: the model cannot be used.
        ServiceError: the source or the place of the results cannot be used, or the results there
            are of another model.
    """
    archive, place = place_of(source), place_of(to)
    if archive.holds(place):
        raise ServiceError(f"{place.name} lies in {archive.name}. Name another place for results.")
    images = source_of(archive)
    model = load_bundle(settings)
    with held(place, _judged_by(model, settings)) as results:
        yield Job(images, archive.folder, results, results.done(), model, settings)


def _judged_by(model: Bundle, settings: Settings) -> str:
    """The model and the settings that make a difference."""
    limits = ", ".join(f"{name}={value}" for name, value in asdict(settings.face_limits).items())
    return (
        f"the model {model.info.name} ({model.sha256[:12]}) with "
        f"unsure_below={settings.unsure_below:g}, faces: {limits}"
    )
