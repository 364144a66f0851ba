"""`moodsort bulk` where images crash their decoder, and one of them an actor of Ray, once.

To be called in a process of its own, with the file that is the mark of what happened once.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa

from daemon import reading
from daemon.bulk import engine
from daemon.bulk.judge import Judge
from daemon.cli import main
from tests.daemon.disturbed import frail

MARK = Path(os.environ["FRAIL_MARK"])
"""Its actors have it from the environment, too."""


class FrailJudge(Judge):
    def __init__(self, *args: Any) -> None:
        reading.begin = frail(MARK.with_suffix(".decoder"))
        super().__init__(*args)

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = super().__call__(table)
        is_fatal = any(path.endswith(b"fatal.jpg") for path in table["path"].to_pylist())
        if is_fatal and not MARK.exists():
            MARK.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return rows


def frail_main(*args: str) -> None:
    engine.Judge = FrailJudge  # type: ignore[misc]
    main(args)
