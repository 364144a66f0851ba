"""How a training is getting on, on a terminal."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class Epoch:
    """Counts an epoch's images, averages their figures and shows both on a bar."""

    def __init__(self, bar: Progress, title: str, images: int) -> None:
        self._bar, self._task = bar, bar.add_task(title, total=images, figures="")
        self._began = time.monotonic()
        self._done = 0
        self._sums: defaultdict[str, float] = defaultdict(float)

    @property
    def per_second(self) -> float:
        """Images per second so far."""
        return self._done / (time.monotonic() - self._began)

    @property
    def figures(self) -> dict[str, float]:
        """Each figure's mean over the images so far."""
        return {name: total / self._done for name, total in self._sums.items()}

    def advance(self, images: int, figures: Mapping[str, float]) -> None:
        """So many more are done, and these are the figures of theirs."""
        self._done += images
        for name, value in figures.items():
            self._sums[name] += images * float(value)
        told = ", ".join(f"{name} {value:.3f}" for name, value in self.figures.items())
        self._bar.update(
            self._task, advance=images, figures=f"{told}, {self.per_second:.0f} images/s"
        )


@contextmanager
def epoch(title: str, images: int) -> Iterator[Epoch]:
    """An epoch of `images` images; its bar is on standard error, if that is a terminal."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        yield Epoch(bar, title, images)
