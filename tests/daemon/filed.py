"""Files that lie where the service would have moved them, with their rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from daemon.identity import identity
from db.engine import open_for_writing
from db.ledger import Decision, Ledger, Source
from tests.helpers import Place, jpeg, sha256


def filed(
    place: Place, label: str, name: str = "a.jpg", data: bytes | None = None, p_sad: float = 0.5
) -> Path:
    """One file, of which the row says that it was decided to be `label`."""
    data = jpeg(label, len(name)) if data is None else data
    path = {"happy": place.happy, "sad": place.sad, "unsure": place.unsure}[label] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    size, mtime = identity(path.stat())
    ledger = Ledger(open_for_writing(str(place.database)))
    [id] = ledger.claim([Source(place.inbox / name, size, mtime)])
    assert id is not None
    about: dict[str, Any] = {"label": label, "p_sad": p_sad, "probability": max(p_sad, 1 - p_sad)}
    about |= {"width": 240, "height": 240, "format": "JPEG"}
    ledger.decide([Decision(id, path, size, mtime, sha256(data), **about)])
    ledger.finish([id])
    ledger.close()
    return path
