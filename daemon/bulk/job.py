"""One archive: what is left of it is judged and recorded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from daemon.bulk import engine
from daemon.bulk.judge import PROBLEM
from daemon.bulk.links import Links
from daemon.bulk.places import place_of, require_outside
from daemon.bulk.results import Digests, Results, held
from daemon.bulk.sources import Source, source_of
from daemon.loading import load_bundle
from daemon.settings import Settings
from db.exporting import arrow_schema
from trainer.bundle import Bundle


@dataclass(frozen=True)
class Batch:
    """The labels of what was recorded (None: of a bad image); what has no row, and why."""

    labels: list[str | None]
    problems: list[tuple[str, str]]


@dataclass(frozen=True)
class Job:
    """What is to be judged, by what, and where the results go; `folder` if it is one of here.

    With `links`, where its images are linked by what they are taken for.
    """

    source: Source
    folder: Path | None
    results: Results
    done: Digests
    model: Bundle
    settings: Settings
    links: Links | None = None

    def batches(self, address: str | None, stop: threading.Event) -> Iterator[Batch]:
        """Judge and record what is not done, on the Ray at the address or one of its own.

        Raises:
            ServiceError: it cannot go on; what was judged is recorded.
        """
        with (
            engine.session(address, self.settings.decode_workers),
            closing(
                engine.judged(
                    address, self.model, self.source, self.done, self.settings.unsure_below
                )
            ) as judged,
        ):
            for table in judged:
                if stop.is_set():
                    return
                yield self._recorded(table)

    def _recorded(self, table: pa.Table) -> Batch:
        rows = [self._linked(row) for row in table.to_pylist()]
        good = [row for row in rows if row[PROBLEM] is None]
        self.results.add(pa.Table.from_pylist(good, arrow_schema()))
        return Batch(
            [row["label"] for row in good],
            [(row["source_path"], row[PROBLEM]) for row in rows if row[PROBLEM]],
        )

    def _linked(self, row: dict[str, Any]) -> dict[str, Any]:
        """Before it is recorded: after an interruption both are done again."""
        return self.links.add(row) if self.links and row[PROBLEM] is None else row


@contextmanager
def opened(settings: Settings, source: str, to: str, links: Path | None = None) -> Iterator[Job]:
    """A job; what it has recorded is written at the end, whatever that is.

    `links`: a folder, if its images are to be linked there.

    Raises:
        SettingsError: the model cannot be used.
        ServiceError: the source, the place of the results or the folder of links cannot be used,
            or the results there are of another model.
    """
    archive, place = place_of(source), place_of(to)
    require_outside(archive, place, "place for results")
    images = source_of(archive)
    model = load_bundle(settings)
    below = place_of(str(links)) if links else None
    by = _judged_by(model, settings) + (f", linked below {below.name}" if below else "")
    linked = Links(archive, below) if below else None
    with held(place, by) as results:
        yield Job(images, archive.folder, results, results.done(), model, settings, linked)


def _judged_by(model: Bundle, settings: Settings) -> str:
    """The model and the settings that make a difference."""
    limits = ", ".join(f"{name}={value}" for name, value in asdict(settings.face_limits).items())
    return (
        f"the model {model.info.name} ({model.sha256[:12]}) with "
        f"unsure_below={settings.unsure_below:g}, faces: {limits}"
    )
