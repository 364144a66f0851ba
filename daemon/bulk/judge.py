"""What an actor of Ray does: files of an archive -> rows of results."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from daemon import judging, reading
from daemon.bulk.sources import Listed, Source
from daemon.deciding import decision_of, label_of
from daemon.loading import start_readers
from daemon.reading import Read
from db.exporting import arrow_schema
from trainer.bundle import Bundle
from trainer.errors import ImageError

LISTED = pa.schema([("path", pa.binary()), ("size_bytes", pa.int64()), ("problem", pa.string())])
"""Of a table of files that are to be judged: the fields of `Listed`."""

PROBLEM = "problem"
"""The column that stands beside those of the results: why there is no result, if there is none."""

PATH = "path"
"""Another: the file, as its file system has it."""

DECIDED = (
    *("size_bytes", "sha256", "width", "height", "format", "label", "probability", "p_sad"),
    *("error_code", "error_detail", "decided_by"),
)
"""The columns that a decision has, too."""

JUDGED = pa.unify_schemas(
    [arrow_schema(), pa.schema([(PATH, pa.binary()), (PROBLEM, pa.string())])]
)

NOT_SETTLED = "The file is not there any more, or is being written to."


class Judge:
    """Holds the model and so many processes that read for it: the same that the service has.

    An image that crashes or hangs its decoder harms nothing else, and ends as a failed one.
    """

    def __init__(self, model: Bundle, source: Source, readers: int, unsure_below: float) -> None:
        reading.prepare()
        self._model = model
        self._source = source
        self._unsure_below = unsure_below
        self._readers = start_readers(model, readers)

    def close(self) -> None:
        """End the processes."""
        self._readers.close()

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rows with the columns of the view `results`, PATH and PROBLEM; of files as of LISTED."""
        begun = datetime.now(UTC)
        files = [Listed(**row) for row in table.to_pylist()]
        wanted = [file for file in files if file.problem is None]
        rows = [self._problem(file, file.problem) for file in files if file.problem]
        with self._source.at_hand(wanted) as copies:
            rows += self._rows(wanted, copies, begun)
        return pa.Table.from_pylist(rows, JUDGED)

    def _rows(
        self, files: Sequence[Listed], copies: Sequence[Path | OSError], begun: datetime
    ) -> list[dict[str, Any]]:
        there = [copy for copy in copies if isinstance(copy, Path)]
        read = iter(judging.judged(self._model, self._readers, there))
        return [
            self._problem(file, f"The file cannot be read: {copy}")
            if isinstance(copy, OSError)
            else self._row(file, next(read), begun)
            for file, copy in zip(files, copies, strict=True)
        ]

    def _row(self, file: Listed, read: Read | None, begun: datetime) -> dict[str, Any]:
        if read is None or read.verdict is None:
            return self._problem(file, NOT_SETTLED)
        verdict = read.verdict
        if isinstance(verdict, ImageError) and verdict.code == "unreadable":
            return self._problem(file, str(verdict))
        label = label_of(verdict, self._unsure_below)
        # It has no place in a ledger, and is not moved.
        decision = decision_of(0, read.photo, verdict, read.photo.path, label, 0)
        return {name: getattr(decision, name) for name in DECIDED} | {
            "source_path": self._source.name(file.path),
            PATH: file.path,
            "state": "decided" if label else "failed",
            "model": self._model.info.name if label else None,
            "claimed_at": begun,
            "decided_at": datetime.now(UTC),
        }

    def _problem(self, file: Listed, why: str) -> dict[str, Any]:
        return {"source_path": self._source.name(file.path), PATH: file.path, PROBLEM: why}
