"""Much of anything, a part at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size` items, as itertools.batched of Python 3.12 gives tuples."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
