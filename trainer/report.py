"""One self-contained HTML page about how good a model is."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from trainer import contact_sheet, figures
from trainer.evaluation import Judged, Metrics, intervals, measure

MISTAKES = 32
"""How many of the most confident mistakes are shown."""

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .25rem .75rem; border-bottom: 1px solid #ddd; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; }
code { overflow-wrap: anywhere; }
"""

FIGURES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "precision": "precision of sad",
    "recall": "recall of sad",
    "f1": "F1 of sad",
    "auc": "area under the ROC curve",
    "ece": "expected calibration error",
}


def render(
    title: str,
    facts: Mapping[str, str],
    parts: Mapping[str, Judged],
    threshold: float,
    history: Mapping[str, Sequence[float]] | None = None,
) -> str:
    """The page: `facts` as a table, the figures of each of the `parts`, pictures of the last.

    `history`: figures by epoch, where the model was just trained.
    """
    measured = {name: measure(part.labels, part.p_sad, threshold) for name, part in parts.items()}
    last, judged = list(parts.items())[-1]
    sections = [
        f"<h1>{html.escape(title)}</h1>",
        _facts(facts),
        "<h2>Figures</h2>",
        _table(parts, measured, threshold),
        "<p>In brackets: 95 % of 500 bootstrap samples lie between. A figure on few images says "
        "little, however good it is.</p>",
        f"<h2>On {html.escape(last)} images</h2>",
        _picture(figures.confusion(measured[last], last), "confusion matrix"),
        _picture(figures.trade_offs(judged), "precision-recall and ROC curves"),
        _picture(figures.reliability(judged, threshold), "reliability, and accuracy by threshold"),
        _mistakes(judged, threshold),
    ]
    if history:
        sections += ["<h2>Learning</h2>", _picture(figures.curves(history), "learning curves")]
    body = "\n".join(sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _facts(facts: Mapping[str, str]) -> str:
    rows = (
        f"<tr><th>{html.escape(name)}</th><td><code>{html.escape(value)}</code></td></tr>"
        for name, value in facts.items()
    )
    return _rows(rows)


def _table(parts: Mapping[str, Judged], measured: Mapping[str, Metrics], threshold: float) -> str:
    spread = {name: intervals(part.labels, part.p_sad, threshold) for name, part in parts.items()}
    head = "".join(f"<th>{html.escape(name)}</th>" for name in parts)
    rows = [f"<tr><th></th>{head}</tr>"]
    counts = "".join(f'<td class="number">{m.images}</td>' for m in measured.values())
    rows.append(f"<tr><th>images</th>{counts}</tr>")
    for key, about in FIGURES.items():
        cells = ""
        for name, result in measured.items():
            low, high = spread[name][key]
            value = getattr(result, key)
            cells += f'<td class="number">{value:.3f} ({low:.3f} to {high:.3f})</td>'
        rows.append(f"<tr><th>{about}</th>{cells}</tr>")
    return _rows(rows)


def _mistakes(judged: Judged, threshold: float) -> str:
    called = judged.p_sad >= threshold
    wrong = np.flatnonzero(called != (judged.labels == 1))
    sure = np.where(called, judged.p_sad, 1 - judged.p_sad)
    worst = wrong[np.argsort(-sure[wrong])][:MISTAKES]
    if not len(worst):
        return "<p>There are no mistakes.</p>"
    shown: list[tuple[Path, str]] = [
        (judged.paths[i], f"called {'sad' if called[i] else 'happy'} {sure[i]:.2f}") for i in worst
    ]
    sheet = io.BytesIO()
    contact_sheet.draw(shown).save(sheet, "PNG")
    return (
        f"<h3>The most confident of {len(wrong)} mistakes</h3>"
        f"{_picture(sheet.getvalue(), 'the most confident mistakes')}"
    )


def _rows(rows: Iterable[str]) -> str:
    return f"<table>{''.join(rows)}</table>"


def _picture(png: bytes, about: str) -> str:
    data = base64.b64encode(png).decode()
    return f'<p><img alt="{about}" src="data:image/png;base64,{data}"></p>'
