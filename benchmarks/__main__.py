"""Measure, print a table, and write it beside the benchmarks."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
import psutil

from benchmarks import (
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

BENCHMARKS = {
    module.NAME: module.measure
    for module in (
        *(startup, latency, queries, durability, databases, rows),
        *(throughput, bursts, training, backlog),
    )
}

LOOK_SECONDS = 2.0
"""How long it is looked, before each benchmark, what other programs do."""


@click.command()
@click.option(
    "--photos",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Measure with the JPEG photos below this folder, rather than with drawn ones.",
)
@click.option("--only", multiple=True, type=click.Choice(list(BENCHMARKS)), help="Just these.")
@click.option(
    "--out",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(__file__).parent,
    help="Where to write RESULTS.md and results.json. Default: beside the benchmarks.",
)
def main(photos: Path | None, only: tuple[str, ...], out: Path) -> None:
    """Measure how fast moodsort is on this machine, while it does nothing else."""
    measured, busy = [], []
    for name in only or BENCHMARKS:
        click.echo(f"{name} …", err=True)
        busy.append(psutil.cpu_percent(LOOK_SECONDS))
        with tempfile.TemporaryDirectory(prefix="moodsort-bench-") as temporary:
            folder = Path(temporary)
            measured += BENCHMARKS[name](find_photos(photos, folder), folder)
    click.echo(figures.write(measured, out, busy), nl=False)
    sys.exit(any(figure.holds is False for figure in measured))


if __name__ == "__main__":
    main()
