"""Decoding gone wrong, in the process that decodes: `begin` instead of that of `daemon.reading`."""

from __future__ import annotations

import ctypes
import io
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from daemon import classifier, pictures, reading
from daemon.pictures import Wanted
from daemon.reading import Read
from trainer.image import DecodedImage, View, decode

Begin = Callable[..., Callable[[Sequence[Path]], list[Read | None]]]


def disturb(monkeypatch: pytest.MonkeyPatch, begin: Begin) -> None:
    """Let readers that are made from now on begin like this."""
    monkeypatch.setattr(reading, "begin", begin)


def at_the_first_decoding(what: Callable[[], object]) -> Begin:
    """Something happens before the first image is decoded; it has to be picklable."""
    return partial(_begin_before, what)


def frail(mark: Path) -> Begin:
    """Some images end their decoder; the one that crashes once leaves a `mark`."""
    return partial(_begin_frail, mark)


def slow(*args: Any) -> Callable[[Sequence[Path]], list[Read | None]]:
    """Each image takes 0.4 seconds."""

    def decode_slowly(data: bytes, view: View) -> DecodedImage:
        threading.Event().wait(0.4)
        return decode(data, view)

    classifier.decode = decode_slowly  # type: ignore[attr-defined]
    return reading.begin(*args)


def as_nobody(*args: Any) -> Callable[[Sequence[Path]], list[Read | None]]:
    """As an ordinary user: root may read everything."""
    if os.geteuid() == 0:
        os.seteuid(65534)
    return reading.begin(*args)


def _begin_before(
    what: Callable[[], object], *args: Any
) -> Callable[[Sequence[Path]], list[Read | None]]:
    to_do = [what]

    def decode_then(data: bytes, view: View) -> DecodedImage:
        while to_do:
            to_do.pop()()
        return decode(data, view)

    classifier.decode = decode_then  # type: ignore[attr-defined]
    return reading.begin(*args)


def frail_pictures(mark: Path) -> Callable[[int], Callable[[Wanted], bytes]]:
    """The same for the gallery, instead of `daemon.pictures.begin`."""
    return partial(_begin_frail_pictures, mark)


def _begin_frail_pictures(mark: Path, seconds: int) -> Callable[[Wanted], bytes]:
    _be_frail(mark)
    return pictures.begin(seconds)


def _begin_frail(mark: Path, *args: Any) -> Callable[[Sequence[Path]], list[Read | None]]:
    _be_frail(mark)
    return reading.begin(*args)


def _be_frail(mark: Path) -> None:
    real = Image.open

    def frail_open(file: io.BytesIO, **options: Any) -> Image.Image:
        data = file.getvalue()
        if data.endswith(b"crash") or (data.endswith(b"crash once") and not mark.exists()):
            mark.touch()
            os.abort()
        if data.endswith(b"hang"):
            ctypes.PyDLL(None).sleep(1000)  # and lets no other Python code run
        if data.endswith(b"greedy"):
            bytearray(5 * 1024**3)
        return real(file, **options)

    Image.open = frail_open  # type: ignore[assignment]
