"""moodsort gallery."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import click

from daemon import pages
from daemon import settings as configuration
from daemon.extras import extra

DEFAULT_LISTEN = "127.0.0.1:8265"


@click.command(epilog="Example: moodsort gallery --open")
@configuration.options({*configuration.FOLDERS, "database"})
@pages.listen_option(DEFAULT_LISTEN, "Where to serve the pages, HOST:PORT.")
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Its first line is the token that is asked for, also on this machine.",
)
@pages.cache_option
@pages.open_option
def gallery(
    config: Path | None,
    listen: str,
    token_file: Path | None,
    cache: Path | None,
    *,
    opens: bool,
    **flags: Any,
) -> None:
    """Look at decisions in a browser, and correct them with a key.

    Serves pages until Ctrl-C: thumbnails of the newest or the least certain images, with filters;
    h and s say that one is happy or sad. Only this machine can reach them; with --listen others
    can, too, and then need the token in the address that is printed.

    Settings come from flags, the environment and a file as those of `run`.
    """
    with extra("gallery", "flask", "waitress"):
        from daemon.gallery import serving
    settings = configuration.load(config, os.environ, flags)
    logging.getLogger("daemon").setLevel(logging.ERROR)  # What it does is told on its pages.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # That it is busy is no trouble.

    ready = pages.announcing("Look at it at", opens=opens)
    serving.serve(
        settings, listen or DEFAULT_LISTEN, token_file=token_file, cache=cache, ready=ready
    )
