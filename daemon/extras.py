"""Commands that need packages which are installed only where somebody wants them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from daemon.errors import ServiceError


@contextmanager
def extra(name: str, *packages: str) -> Iterator[None]:
    """What is imported within needs the packages of this extra of moodsort.

    Raises:
        ServiceError: one is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in packages:
            raise
        raise ServiceError(
            f"It needs the extra {name}, which is not installed: pip install -e '.[{name}]'."
        ) from None
