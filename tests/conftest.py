from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import Place
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
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "place")


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
