"""What becomes of a verdict: the stages, with real files and a real database, without a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from daemon import classifier
from daemon.classifier import Photo
from daemon.inbox import Inbox
from daemon.pipeline import Filed, Folders, Pipeline
from db.engine import open_for_writing
from db.ledger import Ledger, ModelRecord
from tests.helpers import Place, jpeg, wait_until
from trainer.bundle import Verdict
from trainer.errors import ImageError
from trainer.faces import Box, JudgedFace
from trainer.image import InputSpec

SPEC = InputSpec(48, 48, 1)


@dataclass
class Line:
    """A pipeline on a place, whose model says by name what was put into `verdicts`."""

    place: Place
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    filed: list[Filed] = field(default_factory=list)
    unsure_below: float = 0.0

    def drop(self, name: str, verdict: Verdict) -> Path:
        (self.place.inbox / name).write_bytes(jpeg())
        self.verdicts[name] = verdict
        return self.place.inbox / name

    def judge(self, bundle: object, photos: list[Photo]) -> list[Verdict | ImageError]:
        return [self.verdicts[photo.path.name] for photo in photos]

    def run(self) -> None:
        """File all that was dropped."""
        place = self.place
        folders = Folders(place.inbox, place.happy, place.sad, place.failed, place.unsure)
        for folder in (place.happy, place.sad, place.failed, place.unsure):
            folder.mkdir(exist_ok=True)
        ledger = Ledger(open_for_writing(str(place.database)))
        model = ModelRecord("m", "a" * 64, ("happy", "sad"), 48, 48, 1, {})
        inbox = Inbox(
            place.inbox, settle_seconds=0.1, rescan_seconds=300, recursive=True, once=True
        )
        bundle: Any = SimpleNamespace(info=SimpleNamespace(input=SPEC))
        line = Pipeline(
            inbox,
            folders,
            ledger,
            bundle,
            ledger.register(model),
            batch_size=8,
            max_wait_ms=20,
            unsure_below=self.unsure_below,
            decode_workers=1,
            on_filed=self.filed.extend,
        )
        inbox.start()
        line.start()
        wait_until(lambda: inbox.drained.is_set() or line.failure, "all is filed")
        line.stop()
        inbox.stop()
        ledger.close()
        assert line.failure is None


@pytest.fixture
def line(place: Place, monkeypatch: pytest.MonkeyPatch) -> Line:
    line = Line(place)
    monkeypatch.setattr(classifier, "judge", line.judge)
    return line


def test_what_decided_is_recorded_with_the_faces(line: Line, place: Place) -> None:
    large = JudgedFace(Box(-2, 3, 40, 50), 0.9, 0.8)
    small = JudgedFace(Box(60, 4, 24, 25), 0.7, 0.1)
    line.drop("people.jpg", Verdict("sad", 0.7, 0.7, "faces", (large, small)))
    line.drop("scene.jpg", Verdict("happy", 0.8, 0.2))
    line.run()
    people, scene = place.row("people.jpg"), place.row("scene.jpg")
    assert (people["state"], people["decided_by"]) == ("filed", "faces")
    assert (scene["state"], scene["decided_by"]) == ("filed", "whole_image")
    got = [tuple(row)[1:] for row in place.rows("faces")]
    assert got == [
        (people["id"], -2, 3, 40, 50, 0.9, 0.8),
        (people["id"], 60, 4, 24, 25, 0.7, 0.1),
    ]


def test_what_is_not_probable_enough_is_unsure(line: Line, place: Place) -> None:
    line.unsure_below = 0.75
    line.drop("sure.jpg", Verdict("sad", 0.75, 0.75))
    line.drop("hardly happy.jpg", Verdict("happy", 0.7, 0.3))
    line.drop("hardly sad.jpg", Verdict("sad", 0.6, 0.6))
    line.run()
    assert place.row("sure.jpg")["destination_path"] == str(place.sad / "sure.jpg")
    for name, probability, p_sad in (("hardly happy.jpg", 0.7, 0.3), ("hardly sad.jpg", 0.6, 0.6)):
        row = place.row(name)
        assert (row["state"], row["label"], row["decided_by"]) == ("filed", "unsure", "whole_image")
        assert (row["probability"], row["p_sad"]) == (probability, p_sad)
        assert row["destination_path"] == str(place.unsure / name)
        assert (place.unsure / name).exists()
    assert sorted(one.decision.label or "" for one in line.filed) == ["sad", "unsure", "unsure"]
