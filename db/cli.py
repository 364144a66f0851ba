"""moodsort results | stats."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from db.text import one_line

if TYPE_CHECKING:
    pass

TABLE_ROWS = 20
"""Rows that a table shows where no limit is given."""

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Moment(click.ParamType[datetime]):
    """A time (ISO 8601, local where no zone is given), or an age like 30m, 24h or 7d -> UTC."""

    name = "TIME"

    def convert(self, value: Any, param: Any, ctx: Any) -> datetime:
        """Raises click.BadParameter for anything else."""
        if isinstance(value, datetime):
            return value
        try:
            if age := re.fullmatch(r"(\d{1,6})([smhdw])", str(value)):
                return datetime.now(UTC) - timedelta(**{UNITS[age[2]]: int(age[1])})
            return datetime.fromisoformat(str(value)).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is no time like 2026-01-31T18:00, and no age like 24h", param, ctx
            )


database_option = click.option(
    "--database",
    envvar="MOODSORT_DATABASE",
    default="moodsort-data/moodsort.db",
    show_default=True,
    help="SQLite file or database URL.",
)


@click.command(epilog="Example: moodsort results --label sad --since 24h --json")
@database_option
@click.option("--label", type=click.Choice(["happy", "sad", "unsure"]))
@click.option("--state", type=click.Choice(["claimed", "decided", "filed", "failed"]))
@click.option("--since", type=Moment(), help="A time (2026-01-31T18:00) or an age (30m, 24h, 7d).")
@click.option(
    "--limit",
    type=click.IntRange(0, 2**62),
    help=f"Most rows. Default: {TABLE_ROWS} in a table, all in JSON and CSV.",
)
@click.option("--faces", is_flag=True, help="Also show the faces that counted in each image.")
@click.option("--json", "form", flag_value="json", help="One JSON object a line.")
@click.option("--csv", "form", flag_value="csv", help="Comma-separated values with a header.")
def results(
    database: str,
    label: str | None,
    state: str | None,
    since: datetime | None,
    limit: int | None,
    faces: bool,
    form: str | None,
) -> None:
    """Show decisions, newest first."""
    from db.engine import reading
    from db.queries import Filter, find

    if limit is None and form is None:
        limit = TABLE_ROWS
    with reading(database) as engine:
        rows = find(engine, Filter(label, state, since, limit), with_faces=faces)
        if form == "json":
            _print_json(rows)
        elif form == "csv":
            _print_csv(rows, faces=faces)
        else:
            _print_table(rows, faces=faces)


@click.command(epilog="Example: moodsort stats --json")
@database_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def stats(database: str, as_json: bool) -> None:
    """Show how many images were decided, and how."""
    from db import queries
    from db.engine import reading

    with reading(database) as engine:
        totals = queries.stats(engine)
    if as_json:
        click.echo(json.dumps({name: _plain(value) for name, value in asdict(totals).items()}))
        return
    where_sure = " where sure" if "unsure" in totals.labels else ""
    share = "" if totals.share_happy is None else f" ({totals.share_happy:.1%} happy{where_sure})"
    click.echo(f"images  {totals.images}")
    click.echo(f"waiting {totals.waiting}")
    click.echo(f"filed   {totals.filed}{share}")
    for label, count in totals.labels.items():
        click.echo(f"  {label:14} {count}")
    for what, count in totals.decided_by.items():
        click.echo(f"  {'by ' + what.replace('_', ' '):14} {count}")
    click.echo(f"failed  {totals.failed}")
    for code, count in totals.errors.items():
        click.echo(f"  {code:14} {count}")
    if totals.last_filed_at:
        click.echo(f"last    {_local(totals.last_filed_at)}")


def _print_json(rows: Iterator[dict[str, Any]]) -> None:
    for row in rows:
        click.echo(json.dumps({name: _plain(value) for name, value in row.items()}))


def _print_csv(rows: Iterator[dict[str, Any]], *, faces: bool) -> None:
    from db.queries import COLUMNS

    out = csv.writer(sys.stdout)
    out.writerow((*COLUMNS, "faces") if faces else COLUMNS)
    for row in rows:
        cells = [_plain(row[name]) for name in COLUMNS]
        out.writerow([*cells, json.dumps(row["faces"])] if faces else cells)


def _print_table(rows: Iterator[dict[str, Any]], *, faces: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    about = ["id", "decided", "state", "label", "prob.", *(["faces"] if faces else []), "file"]
    table = Table(*about, box=None, pad_edge=False)
    for row in rows:
        label = row["label"] or row["error_code"] or ""
        probability = "" if row["probability"] is None else f"{row['probability']:.3f}"
        path = _near(row["destination_path"] or row["source_path"])
        cells = [str(row["id"]), _local(row["decided_at"]), row["state"], label, probability]
        cells += [*([_counted(row)] if faces else []), path]
        table.add_row(*(Text(one_line(cell), overflow="fold") for cell in cells))
    console = Console()
    if table.row_count:
        console.print(table)
    else:
        console.print("No results.")


def _counted(row: dict[str, Any]) -> str:
    """How many faces, and how many of them are rather sad; nothing where nothing was decided."""
    if row["decided_by"] is None:
        return ""
    sad = sum(face["p_sad"] >= 0.5 for face in row["faces"])
    return f"{len(row['faces'])} ({sad} sad)" if row["faces"] else "0"


def _near(path: str) -> str:
    """Relative to the current folder where it lies below it."""
    return path.removeprefix(f"{Path.cwd()}/")


def _plain(value: Any) -> Any:
    """As JSON and CSV take it: times in UTC, ISO 8601."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value


def _local(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
