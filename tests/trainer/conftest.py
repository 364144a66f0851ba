from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.faces import draw_folder
from trainer.bundle import SHIPPED, Bundle, load


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 faces of each mood; not to be changed."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_folder(folder, 30, seed=3)
    return folder


@pytest.fixture
def data(drawn: Path, tmp_path: Path) -> Path:
    """The same for one test, to be changed at will."""
    return shutil.copytree(drawn, tmp_path / "data")


@pytest.fixture(scope="session")
def shipped() -> Bundle:
    return load(SHIPPED)
