"""Run moodsort, to die at a step: python -m tests.crash.dying STEP ARGUMENT…

Dying is all that is added: the functions on the way do what they always do.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

from daemon.cli import main


@dataclass(frozen=True)
class Step:
    """Before or after the `nth` call of a function, counted only `within` calls of another.

    Functions are named like `daemon.filing:place`. A call that fails is one, too.
    """

    moment: str
    function: str
    nth: int = 1
    within: str | None = None

    def __str__(self) -> str:
        where = f" within {self.within}" if self.within else ""
        return f"{self.moment} {self.function} {self.nth}{where}"

    def as_argument(self) -> str:
        """For the command line of this module."""
        return json.dumps(asdict(self))


def die_at(step: Step) -> None:
    """Let this process be killed when it comes to the step."""
    inside = _Inside()
    if step.within:
        _wrap(step.within, inside.around)
    calls = count(1)

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            now = (not step.within or inside.depth > 0) and next(calls) == step.nth
            if now and step.moment == "before":
                _die()
            try:
                return function(*args, **kwargs)
            finally:
                if now:
                    _die()

        return call

    _wrap(step.function, dying)


class _Inside(threading.local):
    """Whether this thread is within a function."""

    depth = 0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            self.depth += 1
            try:
                return function(*args, **kwargs)
            finally:
                self.depth -= 1

        return call


def _wrap(name: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    module, path = name.split(":")
    *owners, last = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    setattr(owner, last, wrapper(getattr(owner, last)))


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    die_at(Step(**json.loads(sys.argv[1])))
    main(sys.argv[2:])
