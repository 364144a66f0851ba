"""moodsort browse."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from daemon import pages
from daemon import settings as configuration
from daemon.extras import extra

DEFAULT_LISTEN = "127.0.0.1:8266"


@click.command(epilog="Example: moodsort browse --open")
@configuration.options({*configuration.FOLDERS, "database"})
@pages.listen_option(DEFAULT_LISTEN, "Where to serve the pages, HOST:PORT of this machine.")
@pages.cache_option
@pages.open_option
def browse(
    config: Path | None, listen: str, cache: Path | None, *, opens: bool, **flags: Any
) -> None:
    """Ask the database in SQL, in a browser.

    Serves it with Datasette until Ctrl-C, for reading only: all rows, with filters and counts by
    any column, questions that are ready, and those that you ask in SQL; images are shown where
    they are told of. Only this machine can reach it. It opens SQLite files.

    Settings come from flags, the environment and a file as those of `run`.
    """
    with extra("browse", "datasette", "uvicorn"):
        from daemon.browse import serving

    ready = pages.announcing("Browse it at", opens=opens)
    settings = configuration.load(config, os.environ, flags)
    serving.serve(settings, listen or DEFAULT_LISTEN, cache=cache, ready=ready)
