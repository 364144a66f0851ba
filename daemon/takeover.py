"""What services that are gone have left half done, taken over while this one works."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from daemon.pipeline import Folders, Stopped, recover
from db.ledger import Ledger

log = logging.getLogger(__name__)


class Takeover:
    """Looks for it again and again, on a thread of its own: to move files may take long."""

    def __init__(
        self,
        ledger: Ledger,
        folders: Callable[[], Folders],
        *,
        every_seconds: float,
        on_given_back: Callable[[], None],
    ) -> None:
        """`on_given_back` is told that there are files to be claimed anew."""
        self._ledger = ledger
        self._folders = folders
        self._every_seconds = every_seconds
        self._on_given_back = on_given_back
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="takeover")
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is not finished is left to the others, or to the next start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.wait(self._every_seconds):
                self._take_over()
        except Stopped:
            pass
        except BaseException as error:
            self.failure = error

    def _take_over(self) -> None:
        recovered = recover(self._ledger, self._folders(), self._stopping)
        if recovered.moved:
            log.info("finished what was interrupted", extra={"images": recovered.moved})
        if recovered.given_back:
            self._on_given_back()
