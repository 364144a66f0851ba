"""moodsort bulk."""

from __future__ import annotations

import json
import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daemon import settings as configuration
from daemon.extras import extra
from db.text import one_line

if TYPE_CHECKING:
    from daemon.reporting import Tally


@click.command(epilog="Example: moodsort bulk /archive/photos --to /archive/moods")
@click.argument("source")
@click.option("--to", required=True, metavar="PLACE", help="Where the Parquet files are written.")
@click.option(
    "--links",
    type=configuration.FOLDER,
    help="Also link each image below happy/, sad/ … of this folder, on the same disk.",
)
@click.option(
    "--address",
    metavar="ADDRESS",
    help="A Ray that runs: HOST:6379, ray://HOST:10001 or auto. Default: one of its own, here.",
)
@configuration.options({*configuration.JUDGING, "unsure_below", "decode_workers"})
@click.option("--json", "as_json", is_flag=True, help="The counts at the end as a JSON object.")
def bulk(
    source: str,
    to: str,
    *,
    links: Path | None,
    address: str | None,
    config: Path | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Judge an archive of any size on Ray, into Parquet files; move nothing.

    SOURCE and PLACE are folders, or addresses such as s3://bucket/photos or gs://bucket/photos.
    What is judged is written every half minute. Interrupted, the same command does what is left.
    Ends with 1 if a file could not be read: the next time it is tried again.

    Settings come from flags, the environment and a file as those of `run`.
    """
    settings = configuration.load(config, os.environ, flags)
    with extra("ray", "ray", "pyarrow"):
        from daemon.bulk import job
    from daemon import signals
    from daemon.bulk.progress import shown

    logging.getLogger("daemon").addHandler(logging.NullHandler())  # What it does is told here.
    stop = threading.Event()
    unread = 0
    with signals.heeded(stop, None), job.opened(settings, source, to, links) as work:
        done = len(work.done)
        with shown(work.folder, done) as progress:
            tally = progress.tally
            for batch in work.batches(address, stop):
                progress.show(batch.labels)
                unread += len(batch.problems)
                for name, why in batch.problems:
                    click.echo(one_line(f"{name}: {why}"), err=True)
    _sum_up(tally, done, unread, stopped=stop.is_set(), as_json=as_json)
    if stop.is_set():
        raise click.exceptions.Exit(130)
    if unread:
        raise click.exceptions.Exit(1)


def _sum_up(tally: Tally, done: int, unread: int, *, stopped: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({**tally.counts(), "unread": unread, "done_before": done}))
        return
    before = f"; {done} were done before" if done else ""
    click.echo(f"{'Stopped' if stopped else 'Done'}: {tally}{before}.")
    if unread:
        click.echo(f"{unread} could not be read. The same command tries them again.")
    elif stopped:
        click.echo("The same command does what is left.")
