"""The last warnings and errors of the service, for those who ask how it does."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from daemon import status
from daemon.status import Trouble

MOST = 10


class Troubles(logging.Handler):
    """Keeps them as lines of the log."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(formatter)
        self.last: deque[Trouble] = deque(maxlen=MOST)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.last.append(Trouble(status.now(), record.levelname, self.format(record)))

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Keep what is logged meanwhile."""
        logger = logging.getLogger("daemon")
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)
