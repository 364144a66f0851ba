"""From a fitted model to what its bundle says and shows of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer import figures, fusion, report
from trainer.bundle import FACES_FILE, FORMAT, MODEL_FILE, Bundle, BundleInfo, Stage
from trainer.cleaning import CleanData
from trainer.dataset import CLASSES, Example, decoded_batches
from trainer.evaluation import fit_temperature, judge, measure
from trainer.finding import FaceFinder
from trainer.fusion import Fusion
from trainer.image import View
from trainer.judging import FaceJudge, Predictor
from trainer.networks import network
from trainer.splitting import fingerprint
from trainer.stored import StoredNetwork
from trainer.training import Fitted

THRESHOLD = 0.5
"""Probability of sad from which an image is sad; after calibration the likelier class wins."""


@dataclass(frozen=True)
class Training:
    """What a bundle is made of, and with: the `network` by name, the `command` that was typed.

    `beside`: what judges faces beside a network that judges whole images. `finder`: what found the
    faces that a network has learnt to judge.
    """

    name: str
    network: str
    command: str
    finder: FaceFinder | None = None
    beside: Bundle | None = None


def assess(
    fitted: Fitted,
    data: CleanData,
    parts: Mapping[str, NDArray[np.int64]],
    training: Training,
    *,
    workers: int,
    say: Callable[[str], None],
) -> tuple[Bundle, dict[str, bytes]]:
    """Calibrate on the validation images, then measure on those and on the test images.

    `parts`: the indices of each part of the data. `say` is told the figures. Back come the bundle,
    and by name the files that are to lie in it beside the models.
    """
    validation = parts["validation"]
    stored = StoredNetwork.of(fitted.model, int8=network(training.network).int8)
    raw = Predictor(stored).at(validation, data.pixels)
    temperature = fit_temperature(data.labels[validation], raw)
    bundle = _bundle(Predictor(stored, temperature), training, data, parts)
    if bundle.faces and bundle.whole:
        examples = [data.examples[i] for i in validation]
        fitted_to = _fusion(bundle.faces, bundle.whole, examples, workers=workers)
        bundle = bundle.with_info(replace(bundle.info, fusion=fitted_to))
    judged = {
        part: judge(bundle, [data.examples[i] for i in parts[part]], workers=workers)
        for part in ("validation", "test")
    }
    measured = {part: measure(j.labels, j.p_sad, THRESHOLD) for part, j in judged.items()}
    for part, result in measured.items():
        say(
            f"{part}: accuracy {result.accuracy:.3f}, precision {result.precision:.3f}, "
            f"recall {result.recall:.3f} (of sad), AUC {result.auc:.3f}, {result.images} images."
        )
    metrics = {part: asdict(result) for part, result in measured.items()}
    bundle = bundle.with_info(replace(bundle.info, metrics=metrics))
    page = report.render(f"Model {training.name}", bundle, judged, fitted.history)
    return bundle, {
        "report.html": page.encode(),
        "curves.png": figures.curves(fitted.history),
        "confusion.png": figures.confusion(measured["test"], "test"),
    }


def _fusion(
    faces: FaceJudge, whole: Predictor, examples: Sequence[Example], *, workers: int
) -> Fusion:
    """Fitted to the examples that have faces."""
    terms: list[tuple[float, float, float, int]] = []
    view = View(whole.spec, faces.photo_side)
    for good, images in decoded_batches(examples, view, workers):
        of_whole = whole.logits(np.stack([image.pixels for image in images])) / whole.temperature
        for judged, logit, example in zip(faces.judge(images), of_whole, good, strict=True):
            if judged:
                of_faces = judged.logit / faces.predict.temperature
                terms.append((of_faces, float(logit), judged.rest, example.label))
    columns = np.array(terms).reshape(-1, 4).T
    return fusion.fit(columns[0], columns[1], columns[2], columns[3].astype(np.int64))


def _bundle(
    predict: Predictor,
    training: Training,
    data: CleanData,
    parts: Mapping[str, NDArray[np.int64]],
) -> Bundle:
    """Not yet measured."""
    trained = Stage(training.network, MODEL_FILE, predict.spec, predict.temperature)
    beside = training.beside
    judges_faces = training.finder is not None
    info = BundleInfo(
        format=FORMAT,
        name=training.name,
        classes=CLASSES,
        threshold=THRESHOLD,
        faces=trained if judges_faces else _stage_of(beside),
        whole=None if judges_faces else trained,
        files={},
        fusion=None,
        metrics={},
        **origin(data, parts, training.command),
    )
    if training.finder:
        return Bundle(info, "", faces=FaceJudge(training.finder, predict))
    return Bundle(info, "", faces=beside.faces if beside else None, whole=predict)


def origin(data: CleanData, parts: Mapping[str, NDArray[np.int64]], command: str) -> dict[str, Any]:
    """What a bundle that is made now says of that: fields of `BundleInfo`."""
    return {
        "data": {
            part: {"images": len(indices), "fingerprint": fingerprint(data, indices)}
            for part, indices in parts.items()
        },
        "versions": {name: version(name) for name in ("tensorflow", "keras", "numpy", "pillow")},
        "command": command,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _stage_of(beside: Bundle | None) -> Stage | None:
    """What judges faces in another bundle, as a stage of this one."""
    stage = beside.info.faces if beside else None
    return replace(stage, file=FACES_FILE) if stage else None
