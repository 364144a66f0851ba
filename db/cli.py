"""moodsort results | stats | export."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from db.printing import Form, Printer, plain, print_groups, print_stats
from db.terms import By, Order

if TYPE_CHECKING:
    from db.queries import Filter
    from db.statistics import Group

TABLE_ROWS = 20
"""Rows that a table shows where no limit is given."""

FOLLOW_SECONDS = 1.0
"""How often new decisions are looked for."""

STATES = ("claimed", "decided", "filed", "failed", "correcting", "resorting")
LABELS = ("happy", "sad", "unsure")

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


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

database_option = click.option(
    "--database",
    envvar="MOODSORT_DATABASE",
    default="moodsort-data/moodsort.db",
    # That of a configuration may hold a password, and is not to be shown.
    help="SQLite file or database URL. Default: moodsort-data/moodsort.db.",
)

since_option = click.option(
    "--since",
    type=Moment(),
    help="Not earlier than a time (2026-01-31T18:00) or an age (30m, 24h, 7d).",
)
until_option = click.option("--until", type=Moment(), help="Earlier than a time or an age.")


FILTERS: dict[str, Decorator] = {
    "label": click.option("--label", type=click.Choice(LABELS), help="What was decided."),
    "state": click.option("--state", type=click.Choice(STATES)),
    "since": since_option,
    "until": until_option,
    "min_probability": click.option(
        "--min-probability", type=click.FloatRange(0, 1), help="Of the label."
    ),
    "max_probability": click.option(
        "--max-probability", type=click.FloatRange(0, 1), help="Of the label."
    ),
    "model": click.option("--model", metavar="NAME", help="What decided, by its name."),
    "path": click.option(
        "--path",
        metavar="GLOB",
        help="Where it came from or lies now: '*.png', 'holiday/*', '/home/me/*'.",
    ),
    "corrected": click.option(
        "--corrected/--not-corrected",
        default=None,
        help="Only what a person has judged, or has not.",
    ),
    "error": click.option("--error", metavar="CODE", help="Why it failed: truncated, empty …"),
}
"""The flags of `db.queries.Filter`, but order and limits."""


def which_results(*names: str) -> Decorator:
    """A decorator that gives a command these flags of FILTERS; all of them if none is named."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(names or tuple(FILTERS)):
            command = FILTERS[name](command)
        return command

    return decorate


@click.command(epilog="Example: moodsort results --label sad --since 24h --json")
@database_option
@which_results()
@click.option(
    "--sort", type=click.Choice([order.value for order in Order]), help="Default: newest."
)
@click.option(
    "--limit",
    type=click.IntRange(0, 2**62),
    help=f"Most rows. Default: {TABLE_ROWS} in a table, all in JSON and CSV.",
)
@click.option("--offset", type=click.IntRange(0, 2**62), help="So many rows are left out first.")
@click.option("--follow", is_flag=True, help="Wait for new decisions, and print them as they come.")
@click.option("--faces", is_flag=True, help="Also show the faces that counted in each image.")
@click.option("--json", "form", flag_value="json", help="One JSON object a line.")
@click.option("--csv", "form", flag_value="csv", help="Comma-separated values with a header.")
def results(
    database: str,
    sort: str | None,
    limit: int | None,
    offset: int | None,
    follow: bool,
    faces: bool,
    form: Form | None,
    **wanted: Any,
) -> None:
    """Show decisions, newest first.

    Times are those of the claim. In a table they are local; in JSON and CSV they are UTC.
    """
    from db.engine import reading
    from db.queries import Filter, find

    if follow:
        if (sort, limit, offset) != (None, None, None):
            raise click.UsageError(
                "--follow shows what comes, as it comes: leave out --sort, --limit and --offset."
            )
        _follow(database, Filter(**wanted), form, faces=faces)
        return
    if limit is None and form is None:
        limit = TABLE_ROWS
    asked = Filter(**wanted, order=Order(sort or Order.NEWEST), limit=limit, offset=offset or 0)
    with reading(database) as engine:
        Printer(form or "table", faces=faces).print(find(engine, asked, with_faces=faces))


def _follow(database: str, wanted: Filter, form: Form | None, *, faces: bool) -> None:
    """Until somebody has seen enough: Ctrl-C is the way to end it."""
    from db import queries
    from db.engine import reading

    printer = Printer(form or "table", faces=faces, goes_on=True)
    with contextlib.suppress(KeyboardInterrupt), reading(database) as engine:
        for rows in queries.follow(engine, wanted, with_faces=faces):
            if rows:
                printer.print(rows)
            else:
                time.sleep(FOLLOW_SECONDS)


@click.command(epilog="Example: moodsort export january.parquet --until 2026-02-01")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option(
    "--corrections",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Rather lay out the corrected images in DIR, in a folder for each label.",
)
@database_option
@which_results()
def export(file: Path | None, corrections: Path | None, database: str, **wanted: Any) -> None:
    """Write decisions to FILE: .csv, .jsonl, .parquet or .sqlite, as its name ends.

    All of them, or those that the options say, the oldest first, with the columns of the view
    `results` and times in UTC. FILE must not exist; it appears when it is whole.

    DIR must be new or empty. It is a data set to train with; its images are links where that can
    be, else copies.
    """
    from db import exporting, laying_out
    from db.engine import reading
    from db.queries import Filter, find

    if (file is None) == (corrections is None):
        raise click.UsageError("Name either a FILE, or a DIR with --corrections.")
    if corrections:
        wanted |= {"corrected": True, "state": wanted["state"] or "filed"}
    with reading(database) as engine:
        rows = find(engine, Filter(**wanted, order=Order.OLDEST))
        if file:
            count = exporting.export(rows, file)
            click.echo(f"{count} rows in {click.format_filename(file)}")
        elif corrections:
            laid_out = laying_out.lay_out(rows, corrections)
            lost = f", {laid_out.missing} are not where they were" if laid_out.missing else ""
            click.echo(f"{laid_out.images} images in {click.format_filename(corrections)}{lost}")


@click.command(epilog="Example: moodsort stats --by day --since 7d")
@database_option
@since_option
@until_option
@click.option(
    "--by", type=click.Choice([by.value for by in By]), help="Also count by this, with a chart."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def stats(
    database: str, since: datetime | None, until: datetime | None, by: str | None, as_json: bool
) -> None:
    """Show how many images were decided, and how.

    Days and hours are local; in JSON they are those of UTC.
    """
    from db import statistics
    from db.engine import reading

    period = statistics.Period(since, until)
    groups: list[Group] = []
    with reading(database) as engine:
        totals = statistics.stats(engine, period)
        if by:
            name = _utc(By(by)) if as_json else _here(By(by))
            groups = statistics.groups(engine, By(by), period, name)
    if as_json:
        shown = {name: plain(value) for name, value in asdict(totals).items()}
        click.echo(json.dumps(shown | ({f"by_{by}": list(_told(groups, by))} if by else {})))
        return
    print_stats(totals)
    if by:
        click.echo()
        print_groups(by, groups)


def _told(groups: list[Group], by: str) -> Iterator[dict[str, Any]]:
    """As JSON has them."""
    for group in groups:
        counts = asdict(group)
        shares = {"share_happy": group.share_happy, "agreement": group.agreement}
        yield {by: counts.pop("key")} | counts | shares


def _utc(by: By) -> Callable[[datetime], str]:
    form = "%Y-%m-%d" if by is By.DAY else "%Y-%m-%dT%H:00:00Z"
    return lambda moment: f"{moment:{form}}"


def _here(by: By) -> Callable[[datetime], str]:
    form = "%Y-%m-%d" if by is By.DAY else "%Y-%m-%d %H:00"
    return lambda moment: f"{moment.astimezone():{form}}"
