from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from db.engine import open_for_writing
from db.errors import LedgerUnavailable
from db.ledger import Correction, Decision, FaceRecord, Ledger, ModelRecord, Redecision, Source
from tests.helpers import Place

MODEL = ModelRecord("m", "a" * 64, ("happy", "sad"), 48, 48, 1, {"test": {"accuracy": 0.9}})
LARGE = FaceRecord(x=-3, y=40, width=120, height=130, score=0.9, p_sad=0.8)
SMALL = FaceRecord(x=700, y=8, width=24, height=25, score=0.7, p_sad=0.1)


@pytest.fixture
def place(either_place: Place) -> Place:
    return either_place


@pytest.fixture
def ledger(place: Place):
    ledger = Ledger(open_for_writing(str(place.database)))
    yield ledger
    ledger.close()


def source(name: str | bytes) -> Source:
    return Source(Path("/inbox") / os.fsdecode(name), 100, 1_000)


def good(
    id: int,
    model_id: int,
    destination: str = "/happy/a.jpg",
    faces: Sequence[FaceRecord] = (),
) -> Decision:
    return Decision(
        id=id,
        destination=Path(destination),
        size_bytes=100,
        mtime_ns=1_000,
        sha256="b" * 64,
        width=10,
        height=20,
        format="JPEG",
        label="happy",
        probability=0.9,
        p_sad=0.1,
        model_id=model_id,
        decided_by="faces" if faces else "whole_image",
        faces=faces,
    )


def bad(id: int, destination: str = "/failed/a.jpg") -> Decision:
    return Decision(id, Path(destination), 100, 1_000, None, error_code="empty", error_detail="!")


def claim_one(ledger: Ledger, name: str | bytes = "a.jpg") -> int:
    [id] = ledger.claim([source(name)])
    assert id is not None
    return id


def states(place: Place) -> list[str]:
    return [row["state"] for row in place.rows()]


def faces(place: Place) -> list[tuple[int, FaceRecord]]:
    """All that are stored, in order, each after the id of its image."""
    rows = [dict(row) for row in place.rows("faces")]
    return [(row["image_id"], FaceRecord(**{k: row[k] for k in asdict(LARGE)})) for row in rows]


def test_a_good_image_is_claimed_decided_and_filed(ledger: Ledger, place: Place) -> None:
    id = claim_one(ledger)
    assert states(place) == ["claimed"]
    ledger.decide([good(id, ledger.register(MODEL))])
    assert states(place) == ["decided"]
    ledger.finish([id])
    [row] = place.rows()
    assert (row["state"], row["label"], row["probability"]) == ("filed", "happy", 0.9)
    assert row["destination_path"] == "/happy/a.jpg"
    assert row["claimed_at"] <= row["decided_at"] <= row["filed_at"]


def test_a_bad_image_ends_as_failed(ledger: Ledger, place: Place) -> None:
    id = claim_one(ledger)
    ledger.decide([bad(id)])
    ledger.finish([id])
    [row] = place.rows()
    assert (row["state"], row["error_code"], row["error_detail"]) == ("failed", "empty", "!")
    assert row["label"] is None


def test_faces_are_stored_with_the_decision(ledger: Ledger, place: Place) -> None:
    one, other, third = (claim_one(ledger, f"{name}.jpg") for name in "abc")
    model = ledger.register(MODEL)
    ledger.decide(
        [good(one, model, "/happy/a.jpg", [LARGE, SMALL]), good(other, model, "/happy/b.jpg")]
    )
    ledger.decide([bad(third)])
    assert faces(place) == [(one, LARGE), (one, SMALL)]
    assert [row["decided_by"] for row in place.rows()] == ["faces", "whole_image", None]


def test_a_repeated_decision_replaces_its_faces(ledger: Ledger, place: Place) -> None:
    id = claim_one(ledger)
    decision = good(id, ledger.register(MODEL), faces=[LARGE, SMALL])
    ledger.decide([decision])
    ledger.decide([decision])
    assert faces(place) == [(id, LARGE), (id, SMALL)]
    ledger.decide([replace(decision, faces=[SMALL])])
    assert faces(place) == [(id, SMALL)]


def test_of_a_decision_that_is_refused_no_face_is_stored(ledger: Ledger, place: Place) -> None:
    one, other = claim_one(ledger, "a.jpg"), claim_one(ledger, "b.jpg")
    model = ledger.register(MODEL)
    with pytest.raises(LedgerUnavailable):  # Both want the same place.
        ledger.decide([good(one, model, faces=[LARGE]), good(other, model, faces=[SMALL])])
    assert faces(place) == []


def test_faces_go_with_an_unfinished_row_and_stay_with_a_finished_one(
    ledger: Ledger, place: Place
) -> None:
    one, other = claim_one(ledger, "a.jpg"), claim_one(ledger, "b.jpg")
    model = ledger.register(MODEL)
    ledger.decide(
        [good(one, model, "/happy/a.jpg", [LARGE]), good(other, model, "/happy/b.jpg", [SMALL])]
    )
    ledger.finish([one])
    ledger.release([one, other])
    assert faces(place) == [(one, LARGE)]


def test_a_file_has_one_claim_at_a_time(ledger: Ledger) -> None:
    id = claim_one(ledger)
    other = source("b.jpg")
    assert ledger.claim([source("a.jpg"), other, other])[0] is None
    assert ledger.claim([other]) == [None]
    ledger.decide([bad(id)])
    assert ledger.claim([source("a.jpg")]) == [None]
    ledger.finish([id])
    assert ledger.claim([source("a.jpg")]) != [None]


def test_a_released_claim_leaves_no_row(ledger: Ledger, place: Place) -> None:
    ledger.release([claim_one(ledger)])
    assert place.rows() == []


def test_what_is_finished_cannot_be_released(ledger: Ledger) -> None:
    id = claim_one(ledger)
    ledger.decide([bad(id)])
    ledger.finish([id])
    ledger.release([id])
    assert ledger.unfinished() == []
    assert ledger.taken([Path("/failed/a.jpg")]) == {Path("/failed/a.jpg")}


def test_unfinished_rows_tell_how_far_they_came(ledger: Ledger) -> None:
    claimed = claim_one(ledger, "a.jpg")
    decided = claim_one(ledger, "b.jpg")
    ledger.decide([bad(decided)])
    ledger.redirect({decided: Path("/failed/b-2.jpg")})
    one, other = ledger.unfinished()
    assert (one.id, one.destination, one.source) == (claimed, None, source("a.jpg"))
    assert (other.id, other.destination) == (decided, Path("/failed/b-2.jpg"))


def test_names_that_are_no_text_come_back_byte_for_byte(ledger: Ledger, place: Place) -> None:
    name = b"\xff\xfe-'\n.jpg"
    claim_one(ledger, name)
    assert os.fsencode(ledger.unfinished()[0].source.path) == b"/inbox/" + name
    assert place.rows()[0]["source_path"] == "/inbox/\\xff\\xfe-'\n.jpg"


def test_a_destination_belongs_to_one_row_for_ever(ledger: Ledger) -> None:
    one, other = claim_one(ledger, "a.jpg"), claim_one(ledger, "b.jpg")
    ledger.decide([bad(one)])
    ledger.finish([one])
    with pytest.raises(LedgerUnavailable):
        ledger.decide([bad(other)])
    assert [row.destination for row in ledger.unfinished()] == [None]


def test_a_model_is_registered_once(ledger: Ledger) -> None:
    assert ledger.register(MODEL) == ledger.register(MODEL)


def refiled(id: int, model_id: int, destination: str) -> Redecision:
    """Decided anew, and other faces found, of the one that lies at /happy/a.jpg."""
    decision = replace(good(id, model_id, destination, [LARGE]), label="sad", p_sad=0.9)
    return Redecision(Path("/happy/a.jpg"), decision)


@pytest.fixture
def filed(ledger: Ledger) -> int:
    id = claim_one(ledger)
    ledger.decide([good(id, ledger.register(MODEL), faces=[SMALL])])
    ledger.finish([id])
    return id


def test_a_new_decision_takes_the_place_of_the_one_before(
    ledger: Ledger, place: Place, filed: int
) -> None:
    other = ledger.register(replace(MODEL, name="other", sha256="c" * 64))
    assert ledger.redecide([refiled(filed, other, "/sad/a.jpg")]) == {filed}
    assert states(place) == ["resorting"]
    [moving] = ledger.moving()
    assert (moving.source.path, moving.destination) == (Path("/happy/a.jpg"), Path("/sad/a.jpg"))
    assert ledger.taken([Path("/happy/a.jpg"), Path("/sad/a.jpg")]) == {
        *(Path("/happy/a.jpg"), Path("/sad/a.jpg"))
    }
    ledger.finish([filed])
    [row] = place.rows()
    assert (row["state"], row["label"], row["model_id"]) == ("filed", "sad", other)
    assert faces(place) == [(filed, LARGE)]
    [earlier] = place.rows("earlier_decisions")
    assert (earlier["label"], earlier["p_sad"], earlier["image_id"]) == ("happy", 0.1, filed)


def test_a_new_decision_that_comes_to_nothing_leaves_all_as_it_was(
    ledger: Ledger, place: Place, filed: int
) -> None:
    before, faces_before = [dict(row) for row in place.rows()], faces(place)
    ledger.redecide([refiled(filed, 1, "/sad/a.jpg")])
    ledger.release([filed])
    after = [dict(row) for row in place.rows()]
    assert after == before
    assert faces(place) == faces_before == [(filed, SMALL)]
    assert place.rows("earlier_decisions") == []


def test_what_a_person_says_or_moves_is_not_decided_anew(
    ledger: Ledger, place: Place, filed: int
) -> None:
    elsewhere = replace(refiled(filed, 1, "/sad/a.jpg"), source=Path("/happy/b.jpg"))
    assert ledger.redecide([elsewhere]) == set()
    said = Correction(filed, "happy", Path("/happy/a.jpg"), Path("/happy/a.jpg"), 1_000)
    assert ledger.correct([said]) == {filed}
    assert ledger.redecide([refiled(filed, 1, "/happy/a.jpg")]) == set()
    assert place.rows("earlier_decisions") == []


def test_threads_take_turns(ledger: Ledger, place: Place) -> None:
    def work(number: int) -> None:
        for i in range(20):
            ledger.decide([bad(claim_one(ledger, f"{number}-{i}"), f"/failed/{number}-{i}")])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states(place) == ["decided"] * 80


def test_a_locked_database_is_unavailable_and_then_takes_the_same_call(
    sqlite_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.sqlite.WRITER_PATIENCE_MS", 50)
    ledger = Ledger(open_for_writing(str(sqlite_place.database)))
    other = sqlite3.connect(sqlite_place.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailable, match="locked"):
        ledger.claim([source("a.jpg")])
    other.close()
    claim_one(ledger)
    ledger.close()
