"""Killed at random times while files arrive; `make torture` is the long form."""

from __future__ import annotations

from tests.crash.torture import torture
from tests.helpers import Place


def test_killed_at_random(place: Place) -> None:
    assert torture(place, kills=15, files=300, seed=1) >= 8


def test_killed_at_random_across_disks(two_disks: Place) -> None:
    assert torture(two_disks, kills=3, files=60, seed=2) >= 1
