"""What was measured, as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

TRIALS = 5
"""How often each thing is measured; what counts is the median."""


@dataclass(frozen=True)
class Figure:
    """The median of what was measured, in a unit; `runs` are all of it.

    `at_least` or `at_most`: the bar that it is held against, if there is one.
    """

    benchmark: str
    name: str
    unit: str
    runs: Sequence[float]
    at_least: float | None = None
    at_most: float | None = None

    @property
    def value(self) -> float:
        """The median."""
        return median(self.runs)

    @property
    def holds(self) -> bool | None:
        """Whether the bar is met; None without one."""
        if self.at_least is not None:
            return self.value >= self.at_least
        return self.value <= self.at_most if self.at_most is not None else None

    @property
    def bar(self) -> str:
        """The bar in words, with what came of it."""
        if self.holds is None:
            return ""
        wanted = f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"
        return f"{wanted}: {'holds' if self.holds else 'FAILS'}"


def machine(busy: Sequence[float]) -> dict[str, str]:
    """What the figures are of; `busy`: percent of the processor that others used, at times."""
    return {
        "measured": datetime.now(UTC).isoformat(timespec="minutes"),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "libraries": ", ".join(
            f"{name} {version(name)}" for name in ("tensorflow", "ai-edge-litert", "pillow")
        ),
        "others": f"before each benchmark other programs kept the processor busy to "
        f"{min(busy):.0f} to {max(busy):.0f} %",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # Another system than Linux.
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def write(figures: Sequence[Figure], folder: Path, busy: Sequence[float]) -> str:
    """Put RESULTS.md and results.json into the folder; the Markdown text comes back.

    `busy`: see `machine`.
    """
    about = machine(busy)
    rows = [asdict(figure) | {"value": figure.value, "holds": figure.holds} for figure in figures]
    text = json.dumps({"machine": about, "figures": rows}, indent=1)
    (folder / "results.json").write_text(f"{text}\n")
    page = _page(about, figures)
    (folder / "RESULTS.md").write_text(page)
    return page


def _page(about: dict[str, str], figures: Sequence[Figure]) -> str:
    lines = ["# What the benchmarks gave", ""]
    lines += [f"- {name}: {text}" for name, text in about.items()]
    lines += [f"- each figure is the median of {TRIALS} or more runs, where it has a range"]
    lines += ["- where a ratio has a wide range, something else was busy: its bar is undecided"]
    lines += [""]
    lines += ["| benchmark | what | median | from | to | unit | bar |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for figure in figures:
        low, high = (
            (f"{min(figure.runs):.4g}", f"{max(figure.runs):.4g}")
            if len(figure.runs) > 1
            else ("", "")
        )
        cells = (
            *(figure.benchmark, figure.name, f"{figure.value:.4g}"),
            *(low, high, figure.unit, figure.bar),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
