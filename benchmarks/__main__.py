"""Measure, print a table, and write it beside the benchmarks."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
import psutil

from benchmarks import (
    archive,
    backlog,
    bursts,
    databases,
    durability,
    figures,
    latency,
    queries,
    rows,
    startup,
    throughput,
    training,
)
from benchmarks.photos import photos as find_photos

USUAL = (startup, latency, queries, durability, databases, throughput, training, backlog)
ASKED_FOR = (rows, bursts, archive)
"""Three minutes and more each, for docs/scaling.md and docs/bulk.md; the usual ones together shall
not take ten."""

BENCHMARKS = {module.NAME: module.measure for module in (*USUAL, *ASKED_FOR)}

LOOK_SECONDS = 2.0
"""How long it is looked, before each benchmark, what other programs do."""


@click.command()
@click.option(
    "--photos",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Measure with the JPEG photos below this folder, rather than with drawn ones.",
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(list(BENCHMARKS)),
    help="Just these. Default: all but rows, bursts and archive.",
)
@click.option(
    "--out",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(__file__).parent,
    help="Where to write RESULTS.md and results.json. Default: beside the benchmarks.",
)
def main(photos: Path | None, only: tuple[str, ...], out: Path) -> None:
    """Measure how fast moodsort is on this machine, while it does nothing else."""
    measured, busy = [], []
    for name in only or [module.NAME for module in USUAL]:
        click.echo(f"{name} …", err=True)
        busy.append(psutil.cpu_percent(LOOK_SECONDS))
        with tempfile.TemporaryDirectory(prefix="moodsort-bench-") as temporary:
            folder = Path(temporary)
            measured += BENCHMARKS[name](find_photos(photos, folder), folder)
    click.echo(figures.write(measured, out, busy), nl=False)
    sys.exit(any(figure.holds is False for figure in measured))


if __name__ == "__main__":
    main()
