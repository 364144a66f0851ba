"""Images that end their decoder: made up, as no drawn one does, by a Pillow that gives way."""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import encoded, jpeg
from tests.isolation import Decoders
from tests.trainer.test_image import GRAY
from trainer.errors import ImageError
from trainer.image import InputSpec, View, decode

FRAIL = """
import ctypes, os, pathlib, PIL.Image

real = PIL.Image.open
crashed = pathlib.Path(__file__).with_name("crashed")

def frail(file, **options):
    data = file.getvalue()
    if data.endswith(b"crash") or (data.endswith(b"crash once") and not crashed.exists()):
        crashed.touch()
        os.abort()
    if data.endswith(b"hang"):
        ctypes.PyDLL(None).sleep(1000)  # and lets no other Python code run
    if data.endswith(b"greedy"):
        bytearray(5 * 1024**3)
    return real(file, **options)

PIL.Image.open = frail
"""

PHOTO = View(InputSpec(48, 48, 3), 400)


def at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let every Python process that is started from now on run this first."""
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "sitecustomize.py").write_text(code)
    others = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'first'}{os.pathsep}{others}")


@pytest.fixture
def frail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_the_start(tmp_path, monkeypatch, FRAIL)


def error(decoders: Decoders, data: bytes) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decoders.decode(data, GRAY)
    return caught.value


def test_it_is_the_same_as_decoding_here() -> None:
    data = jpeg("sad", 1, (900, 600))
    with Decoders(1) as decoders:
        for view in (GRAY, PHOTO):
            here, there = decode(data, view), decoders.decode(data, view)
            assert np.array_equal(here.pixels, there.pixels)
            assert (here.width, here.height, here.format) == (there.width, there.height, "JPEG")
            assert here.encoded == there.encoded
        assert there.photo is not None
        assert np.array_equal(there.photo, decode(data, PHOTO).photo)  # type: ignore[arg-type]
        assert str(error(decoders, b"")) == "The file is empty."
        assert error(decoders, data[:3000]).code == "truncated"


def test_libraries_do_not_write_into_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    broken = bytearray(encoded(Image.new("1", (200, 200)), "TIFF", compression="group4"))
    broken[8:40] = b"\xa5" * 32
    with Decoders(1) as decoders:
        with contextlib.suppress(ImageError):
            decoders.decode(bytes(broken), GRAY)
        error(decoders, bytes(broken[:100]))
    assert capfd.readouterr().err == ""


def test_what_crashes_is_tried_once_more_and_harms_no_other(frail: None) -> None:
    with Decoders(2) as decoders, ThreadPoolExecutor(8) as pool:
        good = [pool.submit(decoders.decode, jpeg("happy", n), GRAY) for n in range(20)]
        bad = [pool.submit(error, decoders, jpeg() + b"crash") for _ in range(4)]
        good += [pool.submit(decoders.decode, jpeg("sad", n), GRAY) for n in range(20)]
        assert {one.result().code for one in bad} == {"undecodable"}
        assert str(bad[0].result()) == "Its decoder fails: it died of SIGABRT."
        assert {one.result().width for one in good} == {96}


def test_what_crashes_only_once_is_an_image(frail: None) -> None:
    with Decoders(1) as decoders:
        assert decoders.decode(jpeg() + b"crash once", GRAY).width == 96


def test_what_hangs_is_ended(frail: None) -> None:
    with Decoders(1, seconds=1) as decoders:
        hanging = error(decoders, jpeg() + b"hang")
        assert (hanging.code, str(hanging)) == (
            "undecodable",
            "Its decoder fails: it takes too long.",
        )
        assert decoders.decode(jpeg(), GRAY).width == 96


def test_memory_has_a_limit(frail: None) -> None:
    with Decoders(1) as decoders:
        assert error(decoders, jpeg() + b"greedy").code == "too_large"
        assert decoders.decode(jpeg(), GRAY).width == 96


def test_a_process_that_cannot_start_is_no_fault_of_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_start(tmp_path, monkeypatch, "import os; os._exit(3)")
    with Decoders(1) as decoders:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="cannot be started: it ended with 3"):
                decoders.decode(jpeg(), GRAY)
    monkeypatch.setattr("sys.executable", str(tmp_path / "none"))
    with pytest.raises(RuntimeError, match="cannot be started: No such file"):
        Decoders(1)


def test_threads_share_few_processes() -> None:
    barrier = threading.Barrier(4)

    def ask(n: int) -> int:
        barrier.wait(30)
        return decoders.decode(jpeg("sad", n, (n, n)), GRAY).width

    with Decoders(1) as decoders, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(1, 5))) == [1, 2, 3, 4]
