"""moodsort browse."""

from __future__ import annotations

import os
import webbrowser
from pathlib import Path
from typing import Any

import click

from daemon import settings as configuration
from daemon.errors import SettingsError

DEFAULT_LISTEN = "127.0.0.1:8266"


@click.command(epilog="Example: moodsort browse --open")
@configuration.options({*configuration.FOLDERS, "database"})
@click.option(
    "--listen",
    type=configuration.Address(),
    default=DEFAULT_LISTEN,
    show_default=True,
    help="Where to serve the pages, HOST:PORT of this machine.",
)
@configuration.cache_option
@configuration.open_option
def browse(
    config: Path | None, listen: str, cache: Path | None, *, opens: bool, **flags: Any
) -> None:
    """Ask the database in SQL, in a browser.

    Serves it with Datasette until Ctrl-C, for reading only: all rows, with filters and counts by
    any column, questions that are ready, and those that you ask in SQL; images are shown where
    they are told of. Only this machine can reach it. It opens SQLite files.

    Settings come from flags, the environment and a file as those of `run`.
    """
    try:
        from daemon.browse import serving
    except ModuleNotFoundError as error:
        if error.name not in ("datasette", "uvicorn"):
            raise
        raise SettingsError(
            "To browse needs the extra browse: pip install -e '.[browse]'."
        ) from None

    def ready(address: str) -> None:
        click.echo(f"Browse it at {address} (Ctrl-C ends it)")
        if opens:
            webbrowser.open(address)

    settings = configuration.load(config, os.environ, flags)
    serving.serve(settings, listen or DEFAULT_LISTEN, cache=cache, ready=ready)
