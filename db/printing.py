"""Results and counts for people and for programs: tables, JSON, CSV."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from db.text import local, one_line, utc

if TYPE_CHECKING:
    from rich.table import Table

    from db.statistics import Group, Stats

Form = Literal["table", "json", "csv"]

BAR_WIDTH = 24
"""Characters of the longest bar of a chart."""

WIDTHS = {"id": 6, "decided": 19, "state": 7, "label": 12, "prob.": 5, "faces": 8}
"""At least so wide are the columns of a table that goes on, so that its parts fit together."""


class Printer:
    """Prints results, batch after batch; what stands above the first stands there once.

    `goes_on`: there will be more batches, of which the widths are not known.
    """

    def __init__(self, form: Form, *, faces: bool, goes_on: bool = False) -> None:
        self._form = form
        self._faces = faces
        self._goes_on = goes_on
        self._begun = False

    def print(self, rows: Iterable[dict[str, Any]]) -> None:
        """Print a batch."""
        if self._form == "json":
            for row in rows:
                click.echo(json.dumps({name: plain(value) for name, value in row.items()}))
        elif self._form == "csv":
            self._print_csv(rows)
        else:
            self._print_table(rows)
        self._begun = True
        sys.stdout.flush()

    def _print_csv(self, rows: Iterable[dict[str, Any]]) -> None:
        from db.queries import COLUMNS

        out = csv.writer(sys.stdout)
        if not self._begun:
            out.writerow((*COLUMNS, "faces") if self._faces else COLUMNS)
        for row in rows:
            cells = [plain(row[name]) for name in COLUMNS]
            out.writerow([*cells, json.dumps(row["faces"])] if self._faces else cells)

    def _print_table(self, rows: Iterable[dict[str, Any]]) -> None:
        from rich.console import Console

        table = self._table()
        for row in rows:
            table.add_row(*_texts(_cells(row, faces=self._faces)))
        if table.row_count:
            Console().print(table)
        elif not self._goes_on:
            click.echo("No results.")

    def _table(self) -> Table:
        from rich.table import Table

        names = ["id", "decided", "state", "label", "prob.", *(["faces"] if self._faces else [])]
        table = Table(box=None, pad_edge=False, show_header=not self._begun)
        for name in (*names, "file"):
            table.add_column(name, min_width=WIDTHS.get(name) if self._goes_on else None)
        return table


def print_stats(totals: Stats) -> None:
    """Totals for people."""
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
    if totals.agreement is not None:
        click.echo(f"checked {totals.corrected} ({totals.agreement:.1%} were right)")
    if totals.last_filed_at:
        click.echo(f"last    {local(totals.last_filed_at)}")


def print_groups(title: str, groups: Sequence[Group]) -> None:
    """Counts for people, with a bar for each."""
    from rich.bar import Bar
    from rich.console import Console
    from rich.table import Table

    if not groups:
        click.echo(f"Nothing to count by {title}.")
        return
    columns = {
        "images": [str(group.images) for group in groups],
        "happy": [str(group.happy or "") for group in groups],
        "sad": [str(group.sad or "") for group in groups],
        "unsure": [str(group.unsure or "") for group in groups],
        "failed": [str(group.failed or "") for group in groups],
        "happy %": [percent(group.share_happy) for group in groups],
        "checked": [str(group.corrected or "") for group in groups],
        "right %": [percent(group.agreement) for group in groups],
    }
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    table = Table(box=None, pad_edge=False)
    table.add_column(title, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(max_width=BAR_WIDTH)
    most = max(group.images for group in groups)
    for group, *cells in zip(groups, *columns.values(), strict=True):
        table.add_row(*_texts([group.key, *cells]), Bar(most, 0, group.images))
    Console().print(table)


def plain(value: Any) -> Any:
    """As JSON and CSV take it: times in UTC, ISO 8601."""
    return utc(value) if isinstance(value, datetime) else value


def _cells(row: dict[str, Any], *, faces: bool) -> list[str]:
    probability = "" if row["probability"] is None else f"{row['probability']:.3f}"
    cells = [str(row["id"]), _told(row["decided_at"]), row["state"], _said(row), probability]
    path = _near(row["destination_path"] or row["source_path"])
    return [*cells, *([_counted(row)] if faces else []), path]


def _told(moment: datetime | None) -> str:
    return local(moment) if moment else ""


def _said(row: dict[str, Any]) -> str:
    """The label, or why there is none; and what a person says who says something else."""
    label: str = row["label"] or row["error_code"] or ""
    corrected = row["corrected_label"]
    return label if corrected in (None, label) else f"{label} → {corrected}"


def _counted(row: dict[str, Any]) -> str:
    """How many faces, and how many of them are rather sad; nothing where nothing was decided."""
    if row["decided_by"] is None:
        return ""
    sad = sum(face["p_sad"] >= 0.5 for face in row["faces"])
    return f"{len(row['faces'])} ({sad} sad)" if row["faces"] else "0"


def _texts(cells: Iterable[str]) -> list[Any]:
    """Safe to look at, and not taken for markup."""
    from rich.text import Text

    return [Text(one_line(cell), overflow="fold") for cell in cells]


def _near(path: str) -> str:
    """Relative to the current folder where it lies below it."""
    return path.removeprefix(f"{Path.cwd()}/")


def percent(share: float | None) -> str:
    """For people; nothing where there is none."""
    return "" if share is None else f"{share:.1%}"
