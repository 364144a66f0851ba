"""From a fitted model to what its bundle says and shows of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from trainer import figures, report
from trainer.bundle import FORMAT, Bundle, BundleInfo, Predictor, with_temperature
from trainer.cleaning import CleanData
from trainer.dataset import CLASSES
from trainer.evaluation import Judged, fit_temperature, measure
from trainer.splitting import fingerprint
from trainer.training import Fitted

THRESHOLD = 0.5
"""Probability of sad from which an image is sad; after calibration the likelier class wins."""


def assess(
    fitted: Fitted,
    data: CleanData,
    parts: Mapping[str, NDArray[np.int64]],
    *,
    name: str,
    network: str,
    command: str,
    say: Callable[[str], None],
) -> tuple[BundleInfo, dict[str, bytes]]:
    """Calibrate on the validation images, then measure on those and on the test images.

    `parts`: the indices of each part of the data. `command`: what the model was made with. `say` is
    told the figures. Back come what the bundle is to say, and by name the files that are to lie in
    it beside the model.
    """
    predict = Predictor(fitted.model)
    raw = {part: predict.at(parts[part], data.pixels) for part in ("validation", "test")}
    temperature = fit_temperature(data.labels[parts["validation"]], raw["validation"])
    judged = {
        part: Judged(
            paths=[data.examples[i].path for i in parts[part]],
            labels=data.labels[parts[part]],
            raw=p,
            p_sad=with_temperature(p, temperature),
        )
        for part, p in raw.items()
    }
    measured = {part: measure(j.labels, j.p_sad, THRESHOLD) for part, j in judged.items()}
    for part, result in measured.items():
        say(
            f"{part}: accuracy {result.accuracy:.3f}, precision {result.precision:.3f}, "
            f"recall {result.recall:.3f} (of sad), AUC {result.auc:.3f}, {result.images} images."
        )
    info = BundleInfo(
        format=FORMAT,
        name=name,
        network=network,
        classes=CLASSES,
        input=predict.spec,
        threshold=THRESHOLD,
        temperature=temperature,
        model_sha256="",
        metrics={part: asdict(result) for part, result in measured.items()},
        data={
            part: {"images": len(indices), "fingerprint": fingerprint(data, indices)}
            for part, indices in parts.items()
        },
        versions={name: version(name) for name in ("tensorflow", "keras", "numpy", "pillow")},
        command=command,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    page = report.render(f"Model {name}", Bundle(info, "", predict), judged, fitted.history)
    return info, {
        "report.html": page.encode(),
        "curves.png": figures.curves(fitted.history),
        "confusion.png": figures.confusion(measured["test"], "test"),
    }
