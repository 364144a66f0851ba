"""What commands have in common that serve pages for a browser."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from daemon.settings import Address

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

cache_option = click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for thumbnails, up to 256 MiB. Default: moodsort/thumbnails in the user's cache.",
)
open_option = click.option("--open", "opens", is_flag=True, help="Open it in a browser.")


def listen_option(default: str, about: str) -> Decorator:
    """The flag --listen."""
    return click.option("--listen", type=Address(), default=default, show_default=True, help=about)


def announcing(invitation: str, *, opens: bool) -> Callable[[str], None]:
    """What tells where the pages are, after the invitation, and opens them if it is asked to."""

    def ready(address: str) -> None:
        click.echo(f"{invitation} {address} (Ctrl-C ends it)")
        if opens:
            webbrowser.open(address)

    return ready
