"""Results into a file: CSV, JSON lines, Parquet or SQLite, of any number, in steady memory."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from db.chunks import chunks
from db.errors import ExportError
from db.printing import plain
from db.queries import COLUMNS
from db.schema import UtcDateTime, results

if TYPE_CHECKING:
    import pyarrow

Row = dict[str, Any]

AT_ONCE = 10_000
"""Rows that a Parquet file keeps together; so many are held in memory."""


def export(rows: Iterable[Row], file: Path) -> int:
    """Write rows of the view `results`, in the form that the suffix names; says how many.

    The file appears when it is whole. Times are UTC: in ISO 8601, in Parquet as such.

    Raises:
        ExportError: there is such a file already, its suffix is unknown, or pyarrow is missing.
        OSError: it cannot be written.
    """
    write = WRITERS.get(file.suffix.lower())
    if write is None:
        raise ExportError(f"{file} must end in {', '.join(WRITERS)}: that says what it will be.")
    counted = _Counted(rows)
    with drafted(file) as draft:
        write(counted, draft)
    return counted.count


@contextlib.contextmanager
def drafted(file: Path) -> Iterator[Path]:
    """Another name to write to; when all is written, it becomes the file, else it is removed.

    Raises:
        ExportError: there is such a file already.
        OSError: it cannot be renamed.
    """
    if os.path.lexists(file):
        raise ExportError(f"{file} exists already, and is not replaced. Name another file.")
    draft = file.with_name(f".moodsort-{os.getpid()}{file.suffix}")
    try:
        yield draft
        os.rename(draft, file)
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()


class _Counted:
    """Rows that are counted as they go by."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = rows
        self.count = 0

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            self.count += 1
            yield row


def _write_csv(rows: Iterable[Row], file: Path) -> None:
    with open(file, "x", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(COLUMNS)
        writer.writerows(_cells(row) for row in rows)


def _write_json_lines(rows: Iterable[Row], file: Path) -> None:
    with open(file, "x", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps({name: plain(value) for name, value in row.items()}) + "\n")


def _write_sqlite(rows: Iterable[Row], file: Path) -> None:
    columns = ", ".join(f"{name} {_sqlite_type(results.c[name].type)}" for name in COLUMNS)
    places = ", ".join("?" * len(COLUMNS))
    try:
        with contextlib.closing(sqlite3.connect(file)) as link, link:
            # The file is nobody's until it is whole: then it needs no journal.
            link.execute("PRAGMA journal_mode=OFF")
            link.execute(f"CREATE TABLE results ({columns})")
            link.executemany(f"INSERT INTO results VALUES ({places})", map(_cells, rows))  # noqa: S608
    except sqlite3.Error as error:
        raise ExportError(f"The SQLite file cannot be written: {error}.") from None


def _sqlite_type(kind: sa.types.TypeEngine[Any]) -> str:
    if isinstance(kind, sa.Integer):
        return "INTEGER"
    return "REAL" if isinstance(kind, sa.Double) else "TEXT"


def _write_parquet(rows: Iterable[Row], file: Path) -> None:
    try:
        import pyarrow.parquet
    except ImportError:
        raise ExportError(
            "Parquet needs pyarrow, which is not installed: pip install 'moodsort[parquet]'."
        ) from None
    schema = arrow_schema()
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for chunk in chunks(rows, AT_ONCE):
            writer.write_table(pyarrow.Table.from_pylist(chunk, schema))


def arrow_schema() -> pyarrow.Schema:
    """The columns of the view `results`, as Parquet has them; it needs pyarrow."""
    import pyarrow

    return pyarrow.schema([(name, _arrow_type(results.c[name].type)) for name in COLUMNS])


def _arrow_type(kind: sa.types.TypeEngine[Any]) -> pyarrow.DataType:
    import pyarrow

    if isinstance(kind, UtcDateTime):
        return pyarrow.timestamp("us", tz="UTC")
    if isinstance(kind, sa.Integer):
        return pyarrow.int64()
    return pyarrow.float64() if isinstance(kind, sa.Double) else pyarrow.string()


WRITERS: dict[str, Callable[[Iterable[Row], Path], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_json_lines,
    ".parquet": _write_parquet,
    ".sqlite": _write_sqlite,
}


def _cells(row: Row) -> list[Any]:
    return [plain(row[name]) for name in COLUMNS]
