from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.faces import MOODS, draw_face
from trainer.bundle import Bundle
from trainer.cleaning import CleanData
from trainer.dataset import Example
from trainer.distillation import TAUGHT, soften
from trainer.errors import DataError
from trainer.image import InputSpec
from trainer.logits import probability

TRUTHFUL, UPSIDE_DOWN = 0, 1


def faces(spec: InputSpec) -> CleanData:
    """40 drawn faces of two sources; those of the second are labelled as the opposite."""
    rng = random.Random(3)
    mood = np.arange(40) % 2
    source = np.arange(40) // 20
    drawn = [draw_face(rng, MOODS[m]).convert("L").resize((spec.width, spec.height)) for m in mood]
    return CleanData(
        examples=[
            Example(Path(f"{i}.png"), int(m ^ s), int(s))
            for i, (m, s) in enumerate(zip(mood, source, strict=True))
        ],
        sha256s=[f"{i:064}" for i in range(40)],
        labels=mood ^ source,
        groups=np.arange(40),
        pixels=np.stack([_pixels(face) for face in drawn]),
        flagged=[],
    )


def _pixels(face: Image.Image) -> np.ndarray:
    return np.asarray(face)[:, :, None]


def test_without_a_teacher_the_labels_are_learnt(faces_alone: Bundle) -> None:
    data = faces(faces_alone.info.main.input)
    assert soften(data, []).tolist() == data.labels.tolist()


def test_a_teacher_is_trusted_where_it_knows_better_than_chance(faces_alone: Bundle) -> None:
    data = faces(faces_alone.info.main.input)
    targets = soften(data, [faces_alone])
    source = np.array([example.source for example in data.examples])
    known, unknown = source == TRUTHFUL, source == UPSIDE_DOWN
    assert targets[unknown].tolist() == data.labels[unknown].tolist()
    said = (targets[known] - (1 - TAUGHT) * data.labels[known]) / TAUGHT
    assert ((said > 0) & (said < 1)).all()
    views = (data.pixels[known], data.pixels[known][:, :, ::-1])
    logits = [faces_alone.main.logits(view) / faces_alone.main.temperature for view in views]
    assert said == pytest.approx(probability(np.mean(logits, axis=0)), abs=1e-3)


def test_a_teacher_of_other_images_is_refused(faces_alone: Bundle) -> None:
    with pytest.raises(DataError, match=r"takes images of \(48, 48, 1\).*those of \(64, 64, 1\)"):
        soften(faces(InputSpec(64, 64, 1)), [faces_alone])
