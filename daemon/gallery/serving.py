"""The server of the pages, until it is told to end."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import waitress

from daemon import pictures
from daemon.cache import thumbnails
from daemon.errors import ServiceError
from daemon.gallery.access import Access, token_for
from daemon.gallery.app import LARGEST_REQUEST, create_app
from daemon.pipeline import Folders
from daemon.settings import Settings, host_and_port
from db.engine import reading

THREADS = 8
"""Requests that are answered at once; a correction may wait for another."""


def serve(
    settings: Settings,
    listen: str,
    *,
    token_file: Path | None,
    cache: Path | None,
    ready: Callable[[str], None],
) -> None:
    """Serve pages at HOST:PORT until Ctrl-C or SIGTERM; `ready` is told their address before.

    Raises:
        LedgerError: the database cannot be read.
        SettingsError: the token is no good.
        ServiceError: nothing can listen there, or the cache cannot be made.
    """
    with reading(settings.database):
        pass  # What is wrong with it is better said now than on each page.
    host, port = host_and_port(listen)
    token = token_for(host, token_file)
    pictures.prepare()
    drawn = pictures.Pictures(Folders.of(settings.folders), thumbnails(cache), pictures.PROCESSES)
    with contextlib.closing(drawn):
        app = create_app(settings, drawn, Access(host, port, token))
        try:
            server = waitress.create_server(
                app,
                host=host,
                port=port,
                threads=THREADS,
                max_request_body_size=LARGEST_REQUEST,
                ident=None,
            )
        except (OSError, socket.gaierror) as error:
            raise ServiceError(
                f"The gallery cannot listen at {listen}: {error.strerror or error}."
            ) from None
        with contextlib.closing(server), contextlib.suppress(KeyboardInterrupt):
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            ready(_address(host, port, token))
            server.run()


def _address(host: str, port: int, token: str | None) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104  (to be told as something that can be opened)
        host = socket.gethostname()
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/" + (f"?token={token}" if token else "")
