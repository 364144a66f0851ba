"""A ledger with a bit of everything in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from db.engine import open_for_writing
from db.ledger import Decision, FaceRecord, Ledger, ModelRecord, Source
from tests.helpers import Place

FACES = [FaceRecord(-4, 8, 60, 70, 0.9, 0.8), FaceRecord(90, 8, 30, 30, 0.7, 0.2)]


def judge(
    place: Place, name: str, p_sad: float, *, model: str = "m", faces: Sequence[FaceRecord] = ()
) -> int:
    """Let an image be claimed, decided and filed; gives the id of its row."""
    ledger = Ledger(open_for_writing(str(place.database)))
    about: dict[str, Any] = {
        "label": "sad" if p_sad >= 0.5 else "happy",
        "probability": max(p_sad, 1 - p_sad),
        "p_sad": p_sad,
        "decided_by": "faces" if faces else "whole_image",
        "faces": faces,
        "model_id": ledger.register(
            ModelRecord(model, (model * 64)[:64], ("happy", "sad"), 48, 48, 1, {})
        ),
    }
    id = finish(ledger, name, **about)
    ledger.close()
    return id


def fail(place: Place, name: str, code: str = "empty") -> int:
    """Let a file be one that cannot be judged; gives the id of its row."""
    ledger = Ledger(open_for_writing(str(place.database)))
    id = finish(ledger, name, error_code=code, error_detail="The file is empty.")
    ledger.close()
    return id


def finish(ledger: Ledger, name: str, **about: Any) -> int:
    """Bring a new row to its end; gives its id."""
    [id] = ledger.claim([Source(Path("/inbox") / name, 10, 0)])
    assert id is not None
    ledger.decide([Decision(id, Path("/out") / name, 10, 0, "c" * 64, **about)])
    ledger.finish([id])
    return id
