"""moodsort resort."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daemon import settings as configuration
from db.cli import which_results
from db.text import one_line, printable

if TYPE_CHECKING:
    from daemon.resorting import Left, Resorted


@click.command(epilog="Example: moodsort resort --label sad --max-probability 0.7 --apply")
@configuration.options(
    {
        *configuration.FOLDERS,
        *configuration.JUDGING,
        *("database", "unsure_below", "decode_workers"),
    }
)
@which_results("label", "since", "until", "min_probability", "max_probability", "path")
@click.option("--judged-by", metavar="NAME", help="Only what the model of this name decided.")
@click.option("--limit", type=click.IntRange(1), help="Most images. Default: all of them.")
@click.option("--again", is_flag=True, help="Also what this very model has decided.")
@click.option("--apply", is_flag=True, help="Record it, and move what is another label now.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, counts at the end.")
def resort(
    config: Path | None,
    *,
    label: str | None,
    since: Any,
    until: Any,
    min_probability: float | None,
    max_probability: float | None,
    path: str | None,
    judged_by: str | None,
    limit: int | None,
    again: bool,
    apply: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Decide filed images again with the model of now, and say which ones become another label.

    Nothing is recorded nor moved without --apply. What a person has said, with `correct` or by
    moving a file, stays. What this very model has decided is left out: interrupted, the same
    command goes on where it was. After a change of unsure_below or of [faces], give --again. Works
    beside the service. Ends with 1 if an image could not be decided or moved.

    Settings come from flags, the environment and a file as those of `run`.
    """
    from daemon import resorting
    from db.queries import Filter

    settings = configuration.load(config, os.environ, flags)
    logging.getLogger("daemon").addHandler(logging.NullHandler())  # What it does is told here.
    wanted = Filter(
        label=label,
        since=since,
        until=until,
        min_probability=min_probability,
        max_probability=max_probability,
        path=path,
        model=judged_by,
        limit=limit,
    )
    counts: Counter[str] = Counter()
    for answer in resorting.resort(settings, wanted, again=again, apply=apply):
        if isinstance(answer, resorting.Left):
            counts["left"] += 1
            _print_left(answer, as_json=as_json)
        else:
            counts["judged"] += 1
            counts["changed"] += answer.is_changed
            if answer.is_changed:
                _print_changed(answer, as_json=as_json)
    _sum_up(counts, apply=apply, as_json=as_json)
    if counts["left"]:
        raise click.exceptions.Exit(1)


def _print_changed(one: Resorted, *, as_json: bool) -> None:
    if as_json:
        row = {
            "id": one.id,
            "path": printable(one.image),
            "before": one.before,
            "label": one.label,
            "probability": one.probability,
            "destination": printable(one.destination),
        }
        click.echo(json.dumps(row))
    else:
        said = f"{one.before} → {one.label} {one.probability:.3f}"
        click.echo(one_line(f"{printable(one.image)}: {said}, {printable(one.destination)}"))


def _print_left(one: Left, *, as_json: bool) -> None:
    name = printable(one.image)
    if as_json:
        click.echo(json.dumps({"id": one.id, "path": name, "reason": one.reason}))
    else:
        click.echo(one_line(f"{name}: {one.reason}"), err=True)


def _sum_up(counts: Counter[str], *, apply: bool, as_json: bool) -> None:
    changed, judged, left = counts["changed"], counts["judged"], counts["left"]
    if as_json:
        click.echo(json.dumps({"judged": judged, "changed": changed, "left": left}))
        return
    could_not = f", {left} could not be judged or moved" if left else ""
    click.echo(f"{judged} judged again, {changed} of them are another label now{could_not}.")
    if judged and not apply:
        click.echo("Nothing is recorded nor moved; --apply does it.")
