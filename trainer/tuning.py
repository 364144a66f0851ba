"""Corrections of what a model said, and perhaps the data it learnt from -> a model made from it.

Each network of the bundle learns from what it looks at: one that judges faces from the largest face
of each photo, one that judges whole images from the whole. How both are weighed stays as it is.

What it knew must not be forgotten: the rate is low, the epochs are few, and the weights that are
kept are those that do best on validation images, or those from before if none do better. Without
the original data the new weights are then averaged with those before (Wortsman et al. 2022, "Robust
fine-tuning of zero-shot models"), and the calibration stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer import figures, report
from trainer.assessment import origin
from trainer.bundle import Bundle, Stage
from trainer.cleaning import CleanData, clean, require_enough
from trainer.comparing import HELD_OUT, Comparison, right_in
from trainer.dataset import CLASSES, CORRECTIONS, Example, decoded_batches
from trainer.errors import TrainerError
from trainer.evaluation import Judged, fit_temperature, judge, measure
from trainer.finding import FaceFinder
from trainer.graph import Graph
from trainer.judging import FaceJudge, Predictor
from trainer.networks import network
from trainer.splitting import split
from trainer.stored import StoredNetwork
from trainer.training import Fitted, Plan, Say, fit, validation_figures

EPOCHS = 12
"""So few that none is left out by default: the loss may rise at first, and then fall below."""

AVERAGED = 0.5
"""How much of a weight is what it was before, where the original data is not there.

Measured on drawn faces, of which the model before was right in 0.81: with 49 mistakes corrected and
nothing else, it is right in 0.83 with this, and in 0.85 without, on others of the same kind. It is
what protects images that are unlike the corrected ones. To let a part of each target be what the
network said before kept it from learning anything.
"""

Parts = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Tuning:
    """How to learn; see `trainer.splitting.split` and `trainer.training.Plan`.

    `scratch`: a folder for what is needed meanwhile.
    """

    name: str
    command: str
    shares: tuple[float, float, float]
    group_by: re.Pattern[str] | None
    epochs: int
    patience: int
    seed: int
    precision: str
    logs: Path
    scratch: Path
    workers: int


def tune(
    base: Bundle,
    examples: Sequence[Example],
    tuning: Tuning,
    *,
    say: Say,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Bundle, dict[str, bytes]]:
    """A bundle made from `base`, and by name the files that are to lie in it beside the models.

    Examples with the source CORRECTIONS are corrections, all others the data that it learnt from.
    `say` is told the figures, `progress` once of each example for each network.

    Raises:
        DataError: there are too few examples.
        TrainerError: they teach nothing that makes it better; or as `fit`.
    """
    tuned = base
    data, parts, histories = None, None, []
    for stage in base.info.stages:
        finder = base.faces.finder if base.faces and stage == base.info.faces else None
        data = _cleaned(stage, finder, examples, tuning, progress)
        if parts is None:
            parts = _parts(data, tuning, say)
        rows = _concerned(base, stage, data, parts, tuning)
        fitted = _fitted(_predictor(base, stage), stage, data, rows, tuning, say)
        if fitted:
            alone = all(example.source == CORRECTIONS for example in data.examples)
            tuned = _exchanged(tuned, stage, fitted, data, rows["validation"], calibrate=not alone)
            histories.append(fitted.history)
    if not histories:
        raise TrainerError(
            "The corrections teach nothing by which the model does better on held out ones. It is "
            "left as it is; correct more images."
        )
    assert data  # There is no bundle without a network,
    assert parts  # nor without having divided the data.
    return _assessed(base, tuned, data, parts, histories[-1], tuning, say)


def _cleaned(
    stage: Stage,
    finder: FaceFinder | None,
    examples: Sequence[Example],
    tuning: Tuning,
    progress: Callable[[int], None],
) -> CleanData:
    """As the network sees them."""
    return clean(
        examples,
        stage.input,
        tuning.scratch / f"{stage.network}.npy",
        workers=tuning.workers,
        progress=progress,
        finder=finder,
    )


def _parts(data: CleanData, tuning: Tuning, say: Say) -> Parts:
    require_enough(data)
    parts = split(data, tuning.shares, tuning.group_by)
    corrected = _corrected(data)
    for name, part in parts.items():
        say(f"{name}: {corrected[part].sum()} corrections, {(~corrected[part]).sum()} others.")
    return parts


def _corrected(data: CleanData) -> NDArray[np.bool_]:
    return np.array([example.source == CORRECTIONS for example in data.examples])


def _concerned(base: Bundle, stage: Stage, data: CleanData, parts: Parts, tuning: Tuning) -> Parts:
    """Those that the network has a say in: faces have none where there are none."""
    if not (base.faces and base.whole and stage == base.info.faces):
        return parts
    view = base.info.view
    has_say = [
        judged is not None
        for _, images in decoded_batches(data.examples, view, tuning.workers)
        for judged in base.faces.judge(images)
    ]
    return {name: part[np.array(has_say)[part]] for name, part in parts.items()}


def _predictor(bundle: Bundle, stage: Stage) -> Predictor:
    predictor = bundle.faces.predict if bundle.faces and stage == bundle.info.faces else None
    predictor = predictor or bundle.whole
    assert predictor  # A stage is one of the two.
    return predictor


def _fitted(
    before: Predictor, stage: Stage, data: CleanData, rows: Parts, tuning: Tuning, say: Say
) -> Fitted | None:
    """The network as it has learnt; None where that makes it no better."""
    say(f"Network {stage.network}:")
    train, validation = rows["train"], rows["validation"]
    if any(len(np.unique(data.labels[part])) < len(CLASSES) for part in (train, validation)):
        say("There is too little for it to learn from: it stays as it is.")
        return None
    model = before.network.model
    weights = model.get_weights()
    labels, pixels = data.labels, data.pixels
    p_sad = Graph(model).at(validation, pixels)[0][:, 0]
    loss = validation_figures(labels[validation], p_sad)["val_loss"]
    plan = Plan(
        targets=labels.astype(np.float32),
        epochs=tuning.epochs,
        patience=tuning.patience,
        seed=tuning.seed,
        precision=tuning.precision,
        logs=tuning.logs / stage.network,
        state=tuning.scratch / f"{stage.network}.npz",
        run={},
        begin=weights,
    )
    fitted = fit(network(stage.network), data, train, validation, plan, say)
    if min(fitted.history["val_loss"]) >= loss:
        say(f"No better than before (val_loss {loss:.3f}): it stays as it is.")
        return None
    if _corrected(data).all():
        new = fitted.model.get_weights()
        mixed = [AVERAGED * b + (1 - AVERAGED) * n for b, n in zip(weights, new, strict=True)]
        fitted.model.set_weights(mixed)
    return fitted


def _exchanged(
    bundle: Bundle,
    stage: Stage,
    fitted: Fitted,
    data: CleanData,
    validation: NDArray[np.int64],
    *,
    calibrate: bool,
) -> Bundle:
    """With another network in the place of one."""
    stored = StoredNetwork.of(fitted.model, int8=network(stage.network).int8)
    temperature = stage.temperature
    if calibrate:
        raw = Predictor(stored).at(validation, data.pixels)
        temperature = fit_temperature(data.labels[validation], raw)
    predict, new = Predictor(stored, temperature), replace(stage, temperature=temperature)
    if bundle.faces and stage == bundle.info.faces:
        faces = FaceJudge(bundle.faces.finder, predict)
        return Bundle(replace(bundle.info, faces=new), "", faces=faces, whole=bundle.whole)
    return Bundle(replace(bundle.info, whole=new), "", faces=bundle.faces, whole=predict)


def _assessed(
    base: Bundle,
    tuned: Bundle,
    data: CleanData,
    parts: Parts,
    history: Mapping[str, Sequence[float]],
    tuning: Tuning,
    say: Say,
) -> tuple[Bundle, dict[str, bytes]]:
    """Measured, before and after, on images that neither has learnt from nor was chosen by."""
    threshold = tuned.info.threshold
    judged = {
        part: judge(tuned, [data.examples[i] for i in parts[part]], workers=tuning.workers)
        for part in ("validation", "test")
    }
    test = [data.examples[i] for i in parts["test"]]
    before = judge(base, test, workers=tuning.workers)
    held_out = _held_out(test, before, judged["test"], threshold)
    measured = {part: measure(j.labels, j.p_sad, threshold) for part, j in judged.items()}
    metrics: dict[str, Any] = {part: asdict(result) for part, result in measured.items()}
    metrics[HELD_OUT] = {"before": base.sha256} | {n: asdict(c) for n, c in held_out.items()}
    for name, compared in held_out.items():
        say(
            f"Held out, {name}: right in {compared.right_before} of {compared.images} before, "
            f"in {compared.right_after} now."
        )
    about = origin(data, parts, tuning.command)
    info = replace(tuned.info, name=tuning.name, files={}, metrics=metrics, **about)
    made = tuned.with_info(info)
    page = report.render(f"Model {tuning.name}", made, judged, history, held_out)
    return made, {
        "report.html": page.encode(),
        "curves.png": figures.curves(history),
        "confusion.png": figures.confusion(measured["test"], "test"),
    }


def _held_out(
    examples: Sequence[Example], before: Judged, after: Judged, threshold: float
) -> dict[str, Comparison]:
    """By the name of the images; see HELD_OUT."""
    right = np.stack([right_in(before, threshold), right_in(after, threshold)])
    corrected = np.array([example.source == CORRECTIONS for example in examples])
    kinds = {
        "all": np.ones(len(examples), bool),
        "corrections": corrected,
        "original": ~corrected,
    }
    return {
        name: Comparison(int(kind.sum()), *(int(n) for n in right[:, kind].sum(axis=1)))
        for name, kind in kinds.items()
        if kind.any()
    }
