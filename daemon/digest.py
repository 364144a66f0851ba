"""One self-contained HTML page about what was decided in a period."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from daemon import pictures
from daemon.describing import describe, name
from daemon.pictures import NoPicture, Pictures
from daemon.pipeline import Folders
from daemon.settings import Settings
from db import queries, statistics
from db.engine import reading
from db.queries import Filter
from db.statistics import Group, Period, Stats
from db.terms import By, Order
from db.text import local, one_line
from trainer import page

if TYPE_CHECKING:
    import sqlalchemy as sa

SHOWN = 12
"""Images that are shown of each kind, and failed files that are named."""

SIDE = 160
"""Pixels of the longer side of an image."""

BINS = 20
"""Of the probabilities from 0 to 1."""

HOURLY, DAILY = timedelta(days=3), timedelta(days=180)
"""Up to so long a period is counted by hours, and by days; beyond, by months."""

SHORTEST_MONTH = timedelta(days=28)

COLOURS = {"happy": "#c98a1b", "sad": "#2f6fb7", "unsure": "#8a7cc2", "failed": "#b3202a"}

STYLE = """
.images { display: flex; flex-wrap: wrap; gap: 1rem; padding: 0; list-style: none; }
.images li { width: 160px; font-size: .85rem; overflow-wrap: anywhere; }
.images img { display: block; width: 160px; height: 160px; object-fit: contain; background: #eee; }
"""


def render(settings: Settings, period: Period) -> str:
    """The page: counts, when they came about, probabilities, some images, and what failed.

    Raises:
        LedgerError: the database cannot be read.
        OSError: no process to decode images can be started.
    """
    pictures.prepare()
    with (
        reading(settings.database) as engine,
        closing(Pictures(Folders.of(settings.folders), None, pictures.PROCESSES)) as drawn,
    ):
        totals = statistics.stats(engine, period)
        sections = [
            page.facts(_facts(totals)),
            *_over_time(engine, period, totals),
            *_probabilities(engine, period),
            *_images(engine, period, drawn, Order.LEAST_CERTAIN, "The least certain"),
            *_images(engine, period, drawn, Order.MOST_CERTAIN, "The most certain"),
            *_failures(engine, period, totals),
        ]
    return page.render(_title(period), sections, STYLE)


def _title(period: Period) -> str:
    since = f" since {local(period.since)}" if period.since else ""
    until = f" until {local(period.until)}" if period.until else ""
    return f"What moodsort decided{since}{until}"


def _facts(totals: Stats) -> dict[str, str]:
    share, agreement = totals.share_happy, totals.agreement
    told = {
        "images": f"{totals.images:,}",
        **{label: f"{count:,}" for label, count in totals.labels.items()},
        "failed": f"{totals.failed:,}",
        "waiting": f"{totals.waiting:,}" if totals.waiting else None,
        "share of happy": None if share is None else f"{share:.1%}",
        "checked by a person": f"{totals.corrected:,}" if totals.corrected else None,
        "of these right": None if agreement is None else f"{agreement:.1%}",
        "first": local(totals.first_claimed_at) if totals.first_claimed_at else None,
        "last": local(totals.last_filed_at) if totals.last_filed_at else None,
    }
    return {about: text for about, text in told.items() if text is not None}


def _over_time(engine: sa.Engine, period: Period, totals: Stats) -> Iterator[str]:
    """Bars, with a gap where nothing came."""
    if not totals.first_claimed_at:
        return
    first = totals.first_claimed_at
    by, unit, begin_of = _unit((totals.last_filed_at or first) - first)
    found = statistics.groups(engine, by, period, begin_of)
    starts = [datetime.fromisoformat(group.key) for group in found]
    heights = {label: [int(getattr(group, label)) for group in found] for label in COLOURS}
    if not any(map(sum, heights.values())):
        return
    figure, axes = _axes()
    with rc_context({"date.converter": "concise"}):
        _stack(axes, starts, heights, unit)
    yield "<h2>Over time</h2>"
    yield _chart(figure, axes, f"Images over time: {_spoken(found)}")


def _unit(span: timedelta) -> tuple[By, timedelta, Callable[[datetime], str]]:
    """What is counted together: by what, how long that is, and its begin here, in ISO 8601."""
    if span <= HOURLY:
        return By.HOUR, timedelta(hours=1), lambda time: f"{time.astimezone():%Y-%m-%dT%H:00}"
    if span <= DAILY:
        return By.DAY, timedelta(days=1), lambda time: f"{time.astimezone():%Y-%m-%d}"
    return By.DAY, SHORTEST_MONTH, lambda time: f"{time.astimezone():%Y-%m-01}"


def _spoken(found: Sequence[Group]) -> str:
    most = max(found, key=lambda group: group.images)
    return f"most came in {most.key.replace('T', ' ')}, {most.images:,}"


def _probabilities(engine: sa.Engine, period: Period) -> Iterator[str]:
    """A histogram, of the bins from the first that is not empty."""
    counts = statistics.probabilities(engine, period, BINS)
    if not counts:
        return
    first = min(n for bins in counts.values() for n, count in enumerate(bins) if count)
    figure, axes = _axes()
    starts = [n / BINS for n in range(first, BINS)]
    _stack(axes, starts, {label: bins[first:] for label, bins in counts.items()}, 1 / BINS)
    axes.set(xlabel="probability of the label", xlim=(first / BINS, 1))
    surest = sum(bins[-1] for bins in counts.values()) / sum(map(sum, counts.values()))
    yield "<h2>How sure</h2>"
    yield _chart(figure, axes, f"Images by probability: {surest:.0%} have 95 % or more")


def _axes() -> tuple[Figure, Any]:
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.set_ylabel("images")
    return figure, axes


def _stack(
    axes: Any, starts: Sequence[Any], heights: Mapping[str, Sequence[int]], width: Any
) -> None:
    """Bars by label, upon each other; each from its start on, and nearly as wide as `width`."""
    below = [0] * len(starts)
    for label, counts in heights.items():
        if any(counts):
            colour = COLOURS.get(label, "gray")
            axes.bar(starts, counts, width * 0.9, below, align="edge", color=colour, label=label)
            below = [low + count for low, count in zip(below, counts, strict=True)]


def _chart(figure: Figure, axes: Any, about: str) -> str:
    axes.legend()
    svg = io.BytesIO()
    figure.savefig(svg, format="svg")
    return f"<p>{page.image(svg.getvalue(), about, 'svg+xml')}</p>"


def _images(
    engine: sa.Engine, period: Period, drawn: Pictures, order: Order, title: str
) -> Iterator[str]:
    wanted = Filter(since=period.since, until=period.until, order=order, limit=SHOWN)
    rows = list(queries.find(engine, wanted))
    if rows:
        items = "".join(f"<li>{_picture(row, drawn)}{_caption(row)}</li>" for row in rows)
        yield f'<h2>{title}</h2><ul class="images">{items}</ul>'


def _picture(row: Mapping[str, Any], drawn: Pictures) -> str:
    try:
        return page.image(drawn.of(row, SIDE), name(row), "jpeg")
    except NoPicture as why:
        return f"<p>{html.escape(one_line(str(why)))}</p>"


def _caption(row: Mapping[str, Any]) -> str:
    return f"{html.escape(describe(row))}<br>{html.escape(name(row))}"


def _failures(engine: sa.Engine, period: Period, totals: Stats) -> Iterator[str]:
    if not totals.errors:
        return
    counts = {code: f"{count:,}" for code, count in totals.errors.items()}
    wanted = Filter(state="failed", since=period.since, until=period.until, limit=SHOWN)
    rows = "".join(
        f"<tr><td>{html.escape(name(row))}</td><td>{html.escape(describe(row))}</td></tr>"
        for row in queries.find(engine, wanted)
    )
    yield f"<h2>What failed</h2>{page.facts(counts)}<h3>The newest</h3>{page.table([rows])}"
