"""What becomes of a verdict: the stages, with real files, a real database and the shipped model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from daemon import classifier
from daemon.inbox import Inbox
from daemon.pipeline import Filed, Folders, Pipeline
from daemon.reading import Readers
from db.engine import open_for_writing
from db.ledger import Ledger, ModelRecord
from tests.faces import MOODS, draw_face
from tests.helpers import Place, encoded, jpeg, wait_until
from trainer.bundle import Bundle, Verdict


@dataclass
class Line:
    """A pipeline on a place."""

    place: Place
    bundle: Bundle
    filed: list[Filed] = field(default_factory=list)

    def drop(self, name: str, data: bytes) -> Path:
        (self.place.inbox / name).write_bytes(data)
        return self.place.inbox / name

    def verdicts(self, paths: Sequence[Path]) -> list[Verdict]:
        """What the model says of files."""
        photos = [classifier.read(path, self.bundle.info.view) for path in paths]
        said = classifier.judge(self.bundle, photos)
        return [verdict for verdict in said if isinstance(verdict, Verdict)]

    def run(self, unsure_below: float = 0.0) -> None:
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
        line = Pipeline(
            inbox,
            folders,
            ledger,
            self.bundle,
            Readers(self.bundle, 1),
            ledger.register(model),
            batch_size=8,
            max_wait_ms=20,
            unsure_below=unsure_below,
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
def line(place: Place, shipped: Bundle) -> Line:
    return Line(place, shipped)


def test_what_decided_is_recorded_with_the_faces(line: Line, place: Place) -> None:
    group = Image.new("RGB", (500, 300), "gray")
    group.paste(draw_face(random.Random(1), "sad", (260, 260)), (10, 20))
    group.paste(draw_face(random.Random(2), "happy", (130, 130)), (340, 90))
    people = line.drop("people.png", encoded(group, "PNG"))
    line.drop("scene.png", encoded(Image.linear_gradient("L"), "PNG"))
    [verdict] = line.verdicts([people])
    line.run()
    row, scene = place.row("people.png"), place.row("scene.png")
    assert (row["state"], row["decided_by"]) == ("filed", "faces")
    assert (scene["state"], scene["decided_by"]) == ("filed", "whole_image")
    large, small = (tuple(face)[1:] for face in place.rows("faces"))
    for got, want in zip((large, small), verdict.faces, strict=True):
        box = want.box
        assert got[:5] == (row["id"], box.x, box.y, box.width, box.height)
        assert got[5:] == pytest.approx((want.score, want.p_sad), abs=1e-4)
    assert (large[1] + large[3] / 2, small[1] + small[3] / 2) == pytest.approx((140, 405), abs=30)
    assert large[-1] > 0.5 > small[-1]


def test_what_is_not_probable_enough_is_unsure(line: Line, place: Place) -> None:
    paths = [line.drop(f"{mood}-{i}.jpg", jpeg(mood, i)) for mood in MOODS for i in range(4)]
    said = dict(zip((path.name for path in paths), line.verdicts(paths), strict=True))
    hardly = {
        label: min(
            (name for name in said if said[name].label == label),
            key=lambda name: said[name].probability,
        )
        for label in MOODS
    }
    probabilities = sorted(verdict.probability for verdict in said.values())
    least = max(said[name].probability for name in hardly.values())
    above = min(p for p in probabilities if p > least)
    line.run(unsure_below=float(np.mean([least, above])))
    for name, verdict in said.items():
        row = place.row(name)
        unsure = verdict.probability <= least
        label, home = (
            ("unsure", place.unsure) if unsure else (verdict.label, place.root / verdict.label)
        )
        assert (row["state"], row["label"]) == ("filed", label)
        assert row["decided_by"] == verdict.decided_by
        assert (row["probability"], row["p_sad"]) == pytest.approx(
            (verdict.probability, verdict.p_sad), abs=1e-4
        )
        assert row["destination_path"] == str(home / name)
        assert (home / name).exists()
    assert {said[name].label for name in said if place.row(name)["label"] == "unsure"} == set(MOODS)
    labels = [one.decision.label for one in line.filed]
    assert labels.count("unsure") == sum(p <= least for p in probabilities) < len(labels) == 8


def test_just_as_probable_as_wanted_is_sure(line: Line, place: Place) -> None:
    path = line.drop("a.jpg", jpeg("sad", 1))
    [verdict] = line.verdicts([path])
    line.run(unsure_below=verdict.probability)
    assert place.row("a.jpg")["label"] == verdict.label
