"""What was judged, as Parquet files of one folder, each of which appears when it is whole."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import fs

from daemon import lock
from daemon.bulk.places import Place, reason
from daemon.bulk.sources import Listed, Source
from daemon.errors import ServiceError
from daemon.filing import OWN_PREFIX
from db.chunks import chunks
from db.exporting import arrow_schema

ROWS = 50_000
SECONDS = 30.0
"""After so many rows, or so long, a file is written: what is lost if the power fails."""

DIGEST_BYTES = 16
"""Enough that no two of a thousand million names have the same."""

MADE_BY = b"moodsort.judged_by"
"""The key in a file's metadata of what says how its images were judged."""

LOOKED_UP_AT_ONCE = 1024
"""Files of which it is looked up at once whether they are done."""

Digests = NDArray[np.bytes_]
"""Of names, sorted."""


def digests(names: Sequence[str]) -> Digests:
    """Of each name, in the same order: 16 bytes a name, however long it is."""
    hashed = [hashlib.blake2b(name.encode(), digest_size=DIGEST_BYTES).digest() for name in names]
    return np.array(hashed, dtype=f"S{DIGEST_BYTES}")


def left(source: Source, done: Digests) -> Iterator[Listed]:
    """What a source lists, without the files that are done."""
    for files in chunks(source.listed(), LOOKED_UP_AT_ONCE):
        is_done = _among(done, [source.name(file.path) for file in files])
        yield from (file for file, known in zip(files, is_done, strict=True) if not known)


def _among(done: Digests, names: Sequence[str]) -> NDArray[np.bool_]:
    wanted = digests(names)
    places = np.searchsorted(done, wanted)
    found: NDArray[np.bool_] = np.zeros(len(names), dtype=bool)
    inside = places < len(done)
    found[inside] = done[places[inside]] == wanted[inside]
    return found


class Results:
    """A folder of them, of which this process alone writes; `judged_by` says how, as text."""

    def __init__(self, place: Place, judged_by: str) -> None:
        self._place = place
        self._schema = arrow_schema().with_metadata({MADE_BY: judged_by.encode()})
        self._waiting: list[pa.Table] = []
        self._since = 0.0

    def done(self) -> Digests:
        """The digests of the names of all images that have a row, sorted.

        Raises:
            ServiceError: a file there cannot be read, or its images were judged in another way.
        """
        parts = [digests(names) for file in self._files() for names in self._names(file)]
        empty = np.array([], dtype=f"S{DIGEST_BYTES}")
        return np.sort(np.concatenate([empty, *parts]))

    def add(self, rows: pa.Table) -> None:
        """Take rows with the columns of the view `results`, and write what has gathered.

        Raises:
            ServiceError: it cannot be written.
        """
        if not rows.num_rows:
            return
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append(rows)
        gathered = sum(table.num_rows for table in self._waiting)
        if gathered >= ROWS or time.monotonic() - self._since >= SECONDS:
            self.write()

    def write(self) -> None:
        """Write what has gathered.

        Raises:
            ServiceError: it cannot be written.
        """
        if not self._waiting:
            return
        rows = pa.concat_tables(self._waiting).cast(self._schema)
        out = pa.BufferOutputStream()
        pq.write_table(rows, out)
        # The time is for people; the rest keeps two programs from taking the same name.
        name = f"results-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
        with self._told("be written"):
            self._put(f"{name}.parquet", out.getvalue())
        self._waiting = []

    def _put(self, name: str, content: pa.Buffer) -> None:
        if self._place.folder:
            _put_durably(self._place.folder / name, content)
            return
        with self._place.files.open_output_stream(f"{self._place.path}/{name}") as out:
            out.write(content)

    def _files(self) -> list[str]:
        with self._told("be listed"):
            found = self._place.files.get_file_info(fs.FileSelector(self._place.path))
        names = [one for one in found if not one.base_name.startswith(OWN_PREFIX)]
        return sorted(one.path for one in names if one.path.endswith(".parquet"))

    def _names(self, file: str) -> Iterator[list[str]]:
        try:
            with self._place.files.open_input_file(file) as data:
                parquet = pq.ParquetFile(data)
                self._require_same(file, parquet.schema_arrow)
                for batch in parquet.iter_batches(columns=["source_path"]):
                    yield batch.column(0).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise ServiceError(
                f"The results in {file} cannot be read: {reason(error)}. Name another folder, or "
                "remove the file: its images are then judged again."
            ) from None

    def _require_same(self, file: str, schema: pa.Schema) -> None:
        before = (schema.metadata or {}).get(MADE_BY)
        now = self._schema.metadata[MADE_BY]
        if before is None:
            raise ServiceError(f"{file} is no file of `moodsort bulk`. Name another folder.")
        if before != now:
            raise ServiceError(
                f"The results in {file} are of {before.decode()}, and would now be of "
                f"{now.decode()}. Name another folder, or judge as before."
            )

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ServiceError(f"{self._place.name} cannot {what}: {reason(error)}.") from None


@contextmanager
def held(place: Place, judged_by: str) -> Iterator[Results]:
    """The results at a place, which is made if need be; a folder is kept for this process alone.

    What has gathered is written at the end, also when something else went wrong.

    Raises:
        ServiceError: another process works there, or it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            place.files.create_dir(place.path)
        except OSError as error:
            raise ServiceError(f"{place.name} cannot be made: {reason(error)}.") from None
        if place.folder:
            stack.enter_context(lock.hold(place.folder))
        results = Results(place, judged_by)
        try:
            yield results
        finally:
            results.write()


def _put_durably(file: Path, content: pa.Buffer) -> None:
    draft = file.with_name(f"{OWN_PREFIX}{file.name}")
    try:
        with open(draft, "xb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.rename(draft, file)
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
