from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.faces import draw_folder
from tests.trainer.people import people
from tests.trainer.small import seen
from tests.trainer.watching import CROWD, EIGHT, VIEW, Watched
from trainer import bundle
from trainer.bundle import Bundle
from trainer.detection import Detector
from trainer.image import DecodedImage


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 faces of each mood; not to be changed."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_folder(folder, 30, seed=4)
    return folder


@pytest.fixture
def data(drawn: Path, tmp_path: Path) -> Path:
    """The same for one test, to be changed at will."""
    return shutil.copytree(drawn, tmp_path / "data")


@pytest.fixture(scope="session")
def faces_alone(shipped: Bundle) -> Bundle:
    """The shipped bundle without a network for whole images, if it has one."""
    from tests.trainer.small import bundle_of

    return bundle_of(shipped, faces=shipped.faces)


@pytest.fixture(scope="session")
def detector() -> Detector:
    return Detector(bundle.face_finder().network)


@pytest.fixture
def watched(detector: Detector) -> Watched:
    return Watched(detector)


@pytest.fixture(scope="session")
def crowd() -> DecodedImage:
    return seen(people((1600, 1200), *CROWD), VIEW)


@pytest.fixture(scope="session")
def eight() -> DecodedImage:
    return seen(people((800, 600), *EIGHT), VIEW)
