"""One self-contained HTML page about how good a model is."""

from __future__ import annotations

import html
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from PIL import Image

from trainer import contact_sheet, figures, page
from trainer.bundle import Bundle, BundleInfo
from trainer.comparing import Comparison
from trainer.contact_sheet import Item, Tile
from trainer.dataset import CLASSES
from trainer.errors import ImageError
from trainer.evaluation import Decision, Judged, Metrics, decisions, intervals, measure
from trainer.image import DecodedImage, decode

MISTAKES = 32
"""How many of the most confident mistakes are shown."""

EXPLAINED = 8
"""How many of the surest right decisions of each class are explained, and of the mistakes."""

EXPLANATION = """<h2>What decided</h2>
<p>Each image as the network saw it, and below it where the network found what spoke for its answer:
red most, blue nothing (Grad-CAM, each image on a scale of its own, in coarse cells smoothed over).
It tells where the network looked, right or wrong; it is no proof that the answer is right, nor that
it was found for a good reason.</p>
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
    bundle: Bundle,
    parts: Mapping[str, Judged],
    history: Mapping[str, Sequence[float]] | None = None,
    held_out: Mapping[str, Comparison] | None = None,
) -> str:
    """The page: what the bundle says of itself, its figures on the `parts`, pictures of the last.

    `history`: figures by epoch, where the model was just trained. `held_out`: how it compares with
    the one that it was made from, by the name of the images.
    """
    threshold = bundle.info.threshold
    measured = {name: measure(part.labels, part.p_sad, threshold) for name, part in parts.items()}
    last, judged = list(parts.items())[-1]
    decided = decisions(judged, threshold)
    sections = [
        _facts(bundle.info),
        "<h2>Figures</h2>",
        _table(parts, measured, threshold),
        "<p>In brackets: 95 % of 500 bootstrap samples lie between. A figure on few images says "
        "little, however good it is.</p>",
        _before_and_after(held_out or {}),
        f"<h2>On {html.escape(last)} images</h2>",
        _picture(figures.confusion(measured[last], last), "confusion matrix"),
        _picture(figures.trade_offs(judged), "precision-recall and ROC curves"),
        _picture(figures.reliability(judged, threshold), "reliability, and accuracy by threshold"),
        _mistakes(decided),
        *_explained(decided, bundle),
    ]
    if history:
        sections += ["<h2>Learning</h2>", _picture(figures.curves(history), "learning curves")]
    return page.render(title, sections)


def _facts(info: BundleInfo) -> str:
    counts = ", ".join(
        f"{part['images']} {name} (fingerprint {part['fingerprint'][:12]})"
        for name, part in info.data.items()
    )
    facts = {
        **_stages(info),
        "images": counts,
        "made with": info.command,
        "made at": info.created_at,
        "versions": ", ".join(f"{name} {v}" for name, v in info.versions.items()),
    }
    return page.facts(facts)


def _stages(info: BundleInfo) -> dict[str, str]:
    stages = {"judges faces": info.faces, "judges whole images": info.whole}
    told = {
        about: f"{stage.network}, {stage.input.width} x {stage.input.height}, {stage.input.mode}, "
        f"temperature {stage.temperature:.3f}"
        for about, stage in stages.items()
        if stage
    }
    if fusion := info.fusion:
        told["both together"] = (
            f"{fusion.faces:.2f} x logit of the faces + {fusion.whole:.2f} x logit of the whole "
            f"{fusion.bias:+.2f}"
        )
    return told


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
    return page.table(rows)


def _before_and_after(held_out: Mapping[str, Comparison]) -> str:
    if not held_out:
        return ""
    rows = ["<tr><th>held out images</th><th></th><th>right before</th><th>right now</th></tr>"]
    for name, compared in held_out.items():
        counts = (compared.images, compared.right_before, compared.right_after)
        cells = "".join(f'<td class="number">{count}</td>' for count in counts)
        rows.append(f"<tr><th>{html.escape(name)}</th>{cells}</tr>")
    return f"<h2>Before and after</h2>{page.table(rows)}"


def _mistakes(decided: Sequence[Decision]) -> str:
    """The most confident of the mistakes; `decided` is in that order."""
    wrong = [decision for decision in decided if not decision.right]
    if not wrong:
        return "<p>There are no mistakes.</p>"
    shown = [
        Item(d.path, f"called {d.called} {d.probability:.2f}", [face.box for face in d.faces])
        for d in wrong[:MISTAKES]
    ]
    boxes = "<p>Framed: the faces that counted.</p>" if any(item.boxes for item in shown) else ""
    return (
        f"<h3>The most confident of {len(wrong)} mistakes</h3>{boxes}"
        f"{_sheet(contact_sheet.draw(shown), 'the most confident mistakes')}"
    )


def _explained(decided: Sequence[Decision], bundle: Bundle) -> Iterator[str]:
    """Where the network found what decided, in the surest decisions of each kind."""
    kinds = {
        f"rightly called {name}": [d for d in decided if d.right and d.called == name]
        for name in CLASSES
    }
    kinds["called wrongly"] = [d for d in decided if not d.right]
    sheets = [
        f"<h3>The surest {kind}</h3>{_sheet(contact_sheet.arrange(tiles), kind)}"
        for kind, some in kinds.items()
        if (tiles := _tiles(some, bundle))
    ]
    if sheets:
        yield EXPLANATION
        yield from sheets


def _tiles(some: Sequence[Decision], bundle: Bundle) -> list[Tile]:
    """The first of `some` as the network sees them, with their heat; none if it has none."""
    seen = list(islice(_seen(some, bundle.info), EXPLAINED))
    explained = bundle.explain([image for _, image in seen])
    if explained is None:
        return []
    return [
        Tile(
            figures.with_heat(pixels, heat),
            f"{d.called} {d.probability:.2f}, is {d.truth}",
            d.path.name,
        )
        for (d, _), (pixels, heat) in zip(seen, explained, strict=True)
    ]


def _seen(some: Sequence[Decision], info: BundleInfo) -> Iterator[tuple[Decision, DecodedImage]]:
    """Each with its image; without those that are gone by now."""
    for decision in some:
        try:
            image = decode(decision.path.read_bytes(), info.view)
        except (OSError, ImageError):
            continue
        yield decision, image


def _sheet(image: Image.Image, about: str) -> str:
    png = io.BytesIO()
    image.save(png, "PNG")
    return _picture(png.getvalue(), about)


def _picture(png: bytes, about: str) -> str:
    return f"<p>{page.image(png, about)}</p>"
