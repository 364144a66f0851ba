"""Datasette on the database, until it is told to end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from datasette.app import Datasette
from datasette.database import Database
from datasette.plugins import pm

from daemon import pictures
from daemon.browse.plugin import Plugin
from daemon.cache import Cache, thumbnails
from daemon.errors import ServiceError, SettingsError
from daemon.hosts import is_loopback
from daemon.pictures import Pictures
from daemon.pipeline import Folders
from daemon.settings import Settings, host_and_port
from db.engine import file_of, reading
from db.glossary import RESULTS
from db.questions import QUESTIONS

NAME = "moodsort"
"""Of the database, in addresses and on pages."""

GRACE_SECONDS = 3
"""How long a request may go on when the server ends."""

SETTINGS = {
    "default_page_size": 50,  # Each row may have an image.
    "sql_time_limit_ms": 10_000,  # Some questions read all rows.
    "suggest_facets": False,  # That tries each column, on each page.
    "allow_csv_stream": False,  # Page by page it reads all before again: moodsort export does not.
}

INNER = ("images", "earlier_decisions", "services", "alembic_version")
"""Tables that may change from version to version; views tell what is in them."""

METADATA = {
    "title": "moodsort",
    "description": "What was decided about images. Times are UTC.",
    "databases": {
        NAME: {
            "tables": {
                "results": {
                    "description": "A row for each file that came through an inbox.",
                    "columns": RESULTS,
                    "sort_desc": "id",
                },
                "decisions": {
                    "description": "A row for each decision: those that hold, and earlier ones."
                },
                "faces": {
                    "description": "The faces that counted; boxes in pixels of the upright image."
                },
                "models": {
                    "description": "The models that have decided something.",
                    "label_column": "name",
                },
                **{name: {"hidden": True} for name in INNER},
            },
            "queries": {name: question._asdict() for name, question in QUESTIONS.items()},
        }
    },
}


class ReadOnly(Database):  # type: ignore[misc]  # Datasette tells no types.
    """A file that is never written, and whose name may have any characters."""

    def connect(self, write: bool = False) -> sqlite3.Connection:
        """A connection for one of Datasette's threads."""
        address = f"{Path(self.path).absolute().as_uri()}?mode=ro"
        return sqlite3.connect(address, uri=True, check_same_thread=False)


def serve(
    settings: Settings, listen: str, *, cache: Path | None, ready: Callable[[str], None]
) -> None:
    """Serve pages at HOST:PORT until Ctrl-C or SIGTERM; `ready` is told their address before.

    Raises:
        SettingsError: others than this machine could reach it, or the database is no SQLite file.
        LedgerError: the database cannot be read.
        ServiceError: nothing can listen there, or the cache cannot be made.
    """
    host, port = host_and_port(listen)
    if not is_loopback(host):
        raise SettingsError(
            f"Only this machine may browse the database, and {host} is for others, too. From "
            f"afar use ssh -L {port}:127.0.0.1:{port} machine, or moodsort gallery with a token."
        )
    file = file_of(settings.database)
    if file is None:
        raise SettingsError(
            "Datasette opens SQLite files only. Use moodsort results or moodsort gallery; or copy "
            "decisions with moodsort export FILE.sqlite, and open that with datasette."
        )
    with reading(settings.database):
        pass  # What is wrong with it is better said now than on each page.
    kept = thumbnails(cache)
    with (
        _listening(host, port) as link,
        contextlib.closing(_pictures(settings, kept)) as drawn,
    ):
        pm.register(Plugin(settings.database, drawn, host))
        server = uvicorn.Server(
            uvicorn.Config(
                _application(file),
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        with contextlib.suppress(KeyboardInterrupt):
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            ready(f"http://{f'[{host}]' if ':' in host else host}:{port}/{NAME}")
            server.run(sockets=[link])


def _pictures(settings: Settings, kept: Cache) -> Pictures:
    pictures.prepare()
    return Pictures(Folders.of(settings.folders), kept, pictures.PROCESSES)


def _application(file: Path) -> Any:
    # With rich, it shows a traceback of each page that is not there, and fails to make some.
    pm.get_plugin("datasette.handle_exception").rich = None
    datasette = Datasette([], metadata=METADATA, settings=SETTINGS)
    datasette.remove_database("_memory")  # It has one where it is given no files.
    datasette.add_database(ReadOnly(datasette, str(file)), name=NAME)
    return datasette.app()


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ServiceError(
            f"Nothing can listen at {host}:{port}: {os.strerror(error.errno or 0)}. "
            "Choose another port with --listen."
        ) from None
