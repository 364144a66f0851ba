from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import Place

SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture
def two_disks(place: Place) -> Iterator[Place]:
    """A place whose happy/ and sad/ lie on another file system than its inbox."""
    if not SHARED_MEMORY.is_dir() or SHARED_MEMORY.stat().st_dev == place.inbox.stat().st_dev:
        pytest.skip("there is no second file system at /dev/shm")
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as folder:
        place.file_on(Path(folder))
        yield place
