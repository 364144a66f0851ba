from __future__ import annotations

import os
from pathlib import Path

import pytest

from daemon import classifier
from daemon.classifier import Photo, Unsettled, read
from tests.helpers import jpeg, sha256
from trainer.errors import ImageError
from trainer.image import DecodedImage, InputSpec, View

VIEW = View(InputSpec(48, 48, 1))


def error_of(photo: Photo) -> str:
    assert isinstance(photo.outcome, ImageError)
    return photo.outcome.code


def test_a_photo_is_its_bytes_and_its_pixels(tmp_path: Path) -> None:
    data = jpeg()
    (tmp_path / "a.jpg").write_bytes(data)
    photo = read(tmp_path / "a.jpg", VIEW)
    assert (photo.sha256, photo.identity.size_bytes) == (sha256(data), len(data))
    assert isinstance(photo.outcome, DecodedImage)


def test_what_is_no_settled_file_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(jpeg())
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "fifo")
    for name in ("folder", "link", "fifo", "none", "file/below", "x" * 300):
        with pytest.raises(Unsettled):
            read(tmp_path / name, VIEW)
    with (tmp_path / "file").open("r+b"), pytest.raises(Unsettled):
        read(tmp_path / "file", VIEW)
    read(tmp_path / "file", VIEW)


def test_a_file_that_is_too_large_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "MAX_BYTES", 100)
    (tmp_path / "a.jpg").write_bytes(jpeg())
    photo = read(tmp_path / "a.jpg", VIEW)
    assert error_of(photo) == "too_large"
    assert photo.sha256 is None
