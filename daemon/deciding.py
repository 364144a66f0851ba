"""What is said of a photo -> what is recorded of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from daemon.classifier import Photo
from db.ledger import Decision, FaceRecord
from trainer.bundle import Verdict
from trainer.errors import ImageError
from trainer.image import DecodedImage

UNSURE = "unsure"
"""The label of an image whose likelier one is not probable enough."""


def label_of(verdict: Verdict | ImageError, unsure_below: float) -> str | None:
    """The label that decides where a file goes; None of a bad image."""
    if isinstance(verdict, ImageError):
        return None
    return UNSURE if verdict.probability < unsure_below else verdict.label


def decision_of(
    id: int,
    photo: Photo,
    verdict: Verdict | ImageError,
    destination: Path,
    label: str | None,
    model_id: int,
) -> Decision:
    """What is recorded of the image `id`, whose file is to go to `destination`, as `label`."""
    seen = Decision(id, destination, *photo.identity, photo.sha256)
    if isinstance(verdict, ImageError):
        return replace(seen, error_code=verdict.code, error_detail=str(verdict))
    image = photo.outcome
    assert isinstance(image, DecodedImage)  # or there would be no verdict on it
    return replace(
        seen,
        width=image.width,
        height=image.height,
        format=image.format,
        label=label,
        probability=verdict.probability,
        p_sad=verdict.p_sad,
        model_id=model_id,
        decided_by=verdict.decided_by,
        faces=[FaceRecord(**face.flat()) for face in verdict.faces],
    )
