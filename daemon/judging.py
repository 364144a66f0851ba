"""Files -> what is said of them, for who has many at hand at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from daemon import classifier
from daemon.reading import Read, Readers, share_of
from db.chunks import chunks
from trainer.bundle import Bundle


def judged(model: Bundle, readers: Readers, paths: Sequence[Path]) -> list[Read | None]:
    """Each file with its verdict, in order; None: not settled, or the readers are closed.

    The readers are of the model; all of them have a share.

    Raises:
        OSError, Unstarted: a process cannot be started.
    """
    share = share_of(len(paths), readers.count)
    parts = [readers.read(part) for part in chunks(paths, share)]
    read = [one for part in parts for one in part.result()]
    said = iter(classifier.judge(model, [r.photo for r in read if r and not r.verdict]))
    return [one and replace(one, verdict=one.verdict or next(said)) for one in read]
