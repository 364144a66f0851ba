"""Images that crash or hang their decoder: made up, as no drawn one does, by a Pillow that does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from daemon import classifier, reading
from daemon.reading import Read, Readers
from tests.daemon.disturbed import disturb, frail, slow
from tests.daemon.test_pipeline import Line
from tests.helpers import Place, encoded, jpeg, sha256, wait_until
from trainer.bundle import Bundle
from trainer.errors import ImageError
from trainer.image import DecodedImage


@pytest.fixture(autouse=True)
def _frail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disturb(monkeypatch, frail(tmp_path / "crashed"))


@pytest.fixture
def readers(shipped: Bundle) -> Iterator[Readers]:
    with closing(Readers(shipped, 2, seconds=1)) as some:
        yield some


def write(folder: Path, *ends: bytes) -> list[Path]:
    """Images that end in these bytes."""
    paths = [folder / f"{n}.jpg" for n in range(len(ends))]
    for n, (path, end) in enumerate(zip(paths, ends, strict=True)):
        path.write_bytes(jpeg("sad", n) + end)
    return paths


def outcomes(future: Future[list[Read | None]]) -> list[str]:
    """Labels and error codes."""
    verdicts = [one.verdict for one in future.result() if one]
    return [v.code if isinstance(v, ImageError) else v.label for v in verdicts if v]


def test_it_is_the_same_as_reading_and_judging_here(
    readers: Readers, shipped: Bundle, tmp_path: Path
) -> None:
    [path] = write(tmp_path, b"")
    [read] = readers.read([path]).result()
    here = classifier.read(path, shipped.info.view)
    assert read
    assert [read.verdict] == classifier.judge(shipped, [here])
    assert read.photo.sha256 == sha256(path.read_bytes())
    assert isinstance(read.photo.outcome, DecodedImage)
    assert read.photo.outcome.pixels.size == 0


def test_what_crashes_a_worker_harms_nothing_else(
    readers: Readers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = write(tmp_path, b"", b"crash", b"", b"crash", b"")
    futures = [readers.read(paths[:3]), readers.read(paths[3:]), readers.read(paths[:1])]
    assert [outcomes(one) for one in futures] == [
        ["sad", "undecodable", "sad"],
        ["undecodable", "sad"],
        ["sad"],
    ]
    refused = futures[0].result()[1]
    assert refused
    assert str(refused.verdict) == "Its decoder fails: it died of SIGABRT."
    assert refused.photo.sha256 == sha256(paths[1].read_bytes())
    assert caplog.text.count("a worker ended (it died of SIGABRT), trying each") == 2


def test_what_crashes_only_once_is_an_image(readers: Readers, tmp_path: Path) -> None:
    assert outcomes(readers.read(write(tmp_path, b"crash once", b""))) == ["sad", "sad"]


def test_what_hangs_is_ended(readers: Readers, tmp_path: Path) -> None:
    hanging = readers.read(write(tmp_path, b"hang", b""))
    assert outcomes(hanging) == ["undecodable", "sad"]
    [read, _] = hanging.result()
    assert read
    assert str(read.verdict) == "Its decoder fails: it takes too long."


def test_memory_has_a_limit(readers: Readers, tmp_path: Path) -> None:
    assert outcomes(readers.read(write(tmp_path, b"greedy", b""))) == ["too_large", "sad"]


def test_what_is_gone_is_not_read(readers: Readers, tmp_path: Path) -> None:
    [path] = write(tmp_path, b"")
    assert readers.read([tmp_path / "none.jpg", path]).result()[0] is None


def test_to_stop_does_not_wait_for_what_hangs(
    shipped: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "STOP_SECONDS", 0.2)
    readers = Readers(shipped, 1)
    hanging, waiting = (readers.read(write(tmp_path, b"hang")) for _ in range(2))
    wait_until(hanging.running, "it has begun")
    begin = time.monotonic()
    readers.close()
    assert time.monotonic() - begin < reading.SECONDS
    assert (hanging.result(), waiting.result()) == ([None], [None])


def test_closed_readers_read_nothing(shipped: Bundle, tmp_path: Path) -> None:
    readers = Readers(shipped, 1)
    readers.close()
    assert readers.read(write(tmp_path, b"")).result() == [None]


def test_many_that_take_long_are_tried_each_alone(
    shipped: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """So that an answer, which is a sign of life, is never long in coming."""
    disturb(monkeypatch, slow)
    with closing(Readers(shipped, 1, seconds=1)) as readers:
        together = readers.read(write(tmp_path, b"", b"", b""))
        assert outcomes(together) == ["sad"] * 3
    assert "it takes too long" in caplog.text


def test_a_bad_image_is_filed_and_the_service_goes_on(place: Place, shipped: Bundle) -> None:
    line = Line(place, shipped)
    bad = jpeg() + b"crash"
    line.drop("bad.jpg", bad)
    for n in range(3):
        line.drop(f"good-{n}.jpg", jpeg("sad", n))
    line.run()
    row = place.row("bad.jpg")
    assert (row["state"], row["error_code"], row["sha256"]) == (
        "failed",
        "undecodable",
        sha256(bad),
    )
    assert (place.failed / "bad.jpg").read_bytes() == bad
    assert [row["state"] for row in place.rows()].count("filed") == 3


def test_libraries_do_not_write_into_the_log(
    readers: Readers, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = bytearray(encoded(Image.new("1", (200, 200)), "TIFF", compression="group4"))
    broken[8:40] = b"\xa5" * 32
    path = tmp_path / "broken.tif"
    path.write_bytes(broken)
    readers.read([path]).result()
    assert capfd.readouterr().err == ""
