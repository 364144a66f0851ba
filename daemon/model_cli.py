"""moodsort resort | models."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daemon import settings as configuration
from db.cli import which_results
from db.printing import percent, plain
from db.text import local, one_line, printable

if TYPE_CHECKING:
    from daemon.promotion import Known
    from daemon.resorting import Left, Resorted
    from daemon.settings import Settings
    from db.statistics import Use
    from trainer.comparing import Comparison


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


CHOOSING = ("model", "models", "inbox")
"""The settings that say which model is used, by which service."""


@click.group(
    invoke_without_command=True, epilog="Example: moodsort models promote models/mine --on photos"
)
@configuration.options({"model", "models", "database"})
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_context
def models(ctx: click.Context, /, config: Path | None, *, as_json: bool, **flags: Any) -> None:
    """Tell which models were used, and how often those who checked agreed; choose another.

    The one that the settings name is marked with *. Agreement is about the images that somebody has
    judged: where only what is wrong is corrected, it says little of the rest.

    Settings come from flags, the environment and a file as those of `run`.
    """
    if ctx.invoked_subcommand:
        return
    from daemon import promotion
    from db import statistics
    from db.engine import reading

    settings = configuration.load(config, os.environ, flags)
    present = promotion.known(settings.bundle)
    with reading(settings.database) as engine:
        used = statistics.uses(engine)
    if as_json:
        for use in used:
            click.echo(json.dumps(_flat(use, in_use=use.sha256 == present.sha256)))
    else:
        _print_uses(used, present)


def _flat(use: Use, *, in_use: bool) -> dict[str, Any]:
    flat = {name: plain(value) for name, value in asdict(use).items()}
    return flat | {"agreement": use.agreement, "in_use": in_use}


def _print_uses(used: Sequence[Use], present: Known) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("model", overflow="fold")
    for name in ("hash", "since", "images", "checked", "right %", "tests %"):
        table.add_column(name, justify="right", no_wrap=True)
    for use in used:
        cells = [
            "*" if use.sha256 == present.sha256 else "",
            *(use.name, use.sha256[:12], local(use.first_used_at)[:10]),
            *(str(use.images), str(use.corrected or ""), percent(use.agreement)),
            percent(use.metrics.get("test", {}).get("accuracy")),
        ]
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    Console().print(table)
    if all(use.sha256 != present.sha256 for use in used):
        name, sha256 = present.info.name, present.sha256[:12]
        click.echo(one_line(f"The settings name {name} ({sha256}), which has decided nothing yet."))


@models.command(epilog="Example: moodsort models promote models/next --on photos")
@click.argument("new_model", metavar="BUNDLE")
@configuration.options(CHOOSING)
@click.option(
    "--on",
    "data",
    type=click.Path(path_type=Path),
    help="Let both models judge this data set, which neither has learnt from.",
)
@click.option("--force", is_flag=True, help="Also if it is worse, or nothing is known of that.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def promote(
    new_model: str,
    config: Path | None,
    *,
    data: Path | None,
    force: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Let the service use BUNDLE from now on, if it is not worse than the one in use.

    Both are compared on the images of --on. Without, BUNDLE has to be made from the one in use by
    `train --corrections`: then its own record counts, of what both make of images that were held
    out. It is copied into the folder of models, and the service loads it at once.
    """
    from daemon import promotion
    from daemon.errors import ServiceError

    settings = _choosing(config, flags)
    new, present = promotion.known(new_model), promotion.known(settings.bundle)
    if new.sha256 == present.sha256:
        raise ServiceError(f"{new.info.name} is the model in use already.")
    compared = _compared(present, new, data)
    if not force:
        _require_no_worse(compared, present, new)
    service = promotion.promote(settings, new)
    _tell_choice(new, present, service, compared, as_json=as_json)


@models.command(epilog="Example: moodsort models rollback")
@configuration.options(CHOOSING)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def rollback(config: Path | None, *, as_json: bool, **flags: Any) -> None:
    """Let the service use the model again that it used before; twice undoes itself."""
    from daemon import promotion

    settings = _choosing(config, flags)
    present = promotion.known(settings.bundle)
    new, service = promotion.roll_back(settings)
    _tell_choice(new, present, service, None, as_json=as_json)


def _choosing(config: Path | None, flags: dict[str, Any]) -> Settings:
    """The settings, from what is said after the name of a command within `models`, or before."""
    before = click.get_current_context().parent
    assert before  # A command within a group has one.
    said = {name: value for name, value in before.params.items() if value is not None}
    return configuration.load(
        config or said.get("config"),
        os.environ,
        said | {name: value for name, value in flags.items() if value is not None},
    )


def _compared(present: Known, new: Known, data: Path | None) -> Comparison | None:
    from trainer import bundle, comparing

    if data is None:
        return comparing.recorded(new.info, present.sha256)
    both = (bundle.load(present.where), bundle.load(new.where))
    return comparing.compare(*both, data, workers=os.cpu_count() or 1)


def _require_no_worse(compared: Comparison | None, present: Known, new: Known) -> None:
    from daemon.errors import ServiceError

    if compared is None:
        raise ServiceError(
            f"Whether {new.info.name} is better than {present.info.name}, which is in use, is not "
            "known. Let both judge a data set with --on DATA, or insist with --force."
        )
    if compared.is_worse:
        raise ServiceError(
            f"{new.info.name} is worse: {_figures(compared)}. The model in use stays; "
            "--force would change it."
        )


def _figures(compared: Comparison) -> str:
    return (
        f"right in {compared.right_after} of {compared.images} held out images, the model in use "
        f"in {compared.right_before}"
    )


def _tell_choice(
    new: Known, before: Known, service: str, compared: Comparison | None, *, as_json: bool
) -> None:
    if as_json:
        row = {
            **{"name": new.info.name, "sha256": new.sha256},
            **{"before": before.info.name, "before_sha256": before.sha256},
            "compared": asdict(compared) if compared else None,
            "service": service,
        }
        click.echo(json.dumps(row))
        return
    if compared:
        click.echo(one_line(f"{new.info.name}: {_figures(compared)}."))
    click.echo(one_line(f"{new.info.name} is used instead of {before.info.name}. {service}"))
