"""What a killed service leaves, state by state, and what the next start makes of it."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from daemon.pipeline import Folders, Stopped, persist, recover
from db.engine import open_for_writing
from db.errors import LedgerUnavailable
from db.ledger import Decision, Ledger, Source
from db.schema import Image
from tests.helpers import Place, jpeg, sha256

DATA = jpeg()


@pytest.fixture
def place(either_place: Place) -> Place:
    return either_place


@pytest.fixture
def ledger(place: Place) -> Iterator[Ledger]:
    for folder in (place.happy, place.sad, place.failed, place.unsure):
        folder.mkdir()
    ledger = Ledger(open_for_writing(str(place.database)))
    yield ledger
    ledger.close()


def decided(
    place: Place, ledger: Ledger, label: str = "happy", name: str = "a.jpg"
) -> tuple[Path, Path]:
    """A file in the inbox whose row says that it goes to the folder of its label."""
    source, destination = place.inbox / name, place.root / label / name
    source.parent.mkdir(exist_ok=True)
    source.write_bytes(DATA)
    found = source.stat()
    [id] = ledger.claim([Source(source, found.st_size, found.st_mtime_ns)])
    assert id is not None
    decision = Decision(
        id, destination, found.st_size, found.st_mtime_ns, sha256(DATA), label=label
    )
    ledger.decide([decision])
    return source, destination


def restart(place: Place, ledger: Ledger, stopping: threading.Event | None = None) -> int:
    folders = Folders(place.inbox, place.happy, place.sad, place.failed, place.unsure)
    return recover(ledger, folders, stopping or threading.Event()).moved


def test_killed_before_the_move(place: Place, ledger: Ledger) -> None:
    decided(place, ledger)
    assert restart(place, ledger) == 1
    place.assert_promise(Counter({sha256(DATA): 1}))


def test_killed_before_the_move_into_a_new_folder(place: Place, ledger: Ledger) -> None:
    _, destination = decided(place, ledger, "unsure", "2024/a.jpg")
    assert restart(place, ledger) == 1
    assert destination.exists()
    place.assert_promise(Counter({sha256(DATA): 1}))


def test_killed_between_link_and_unlink(place: Place, ledger: Ledger) -> None:
    os.link(*decided(place, ledger))
    assert restart(place, ledger) == 1
    place.assert_promise(Counter({sha256(DATA): 1}))


def test_killed_before_the_row_was_closed(place: Place, ledger: Ledger) -> None:
    source, destination = decided(place, ledger)
    source.rename(destination)
    assert restart(place, ledger) == 1
    place.assert_promise(Counter({sha256(DATA): 1}))


def test_killed_after_the_claim(place: Place, ledger: Ledger) -> None:
    source = place.inbox / "a.jpg"
    source.write_bytes(DATA)
    ledger.claim([Source(source, 1, 1)])
    assert restart(place, ledger) == 0
    assert place.rows() == []
    assert source.exists()


def test_another_file_took_the_destination_meanwhile(place: Place, ledger: Ledger) -> None:
    _, destination = decided(place, ledger)
    destination.write_bytes(b"somebody else's")
    restart(place, ledger)
    [row] = place.rows()
    assert row["state"] == "filed"
    assert Path(row["destination_path"]).read_bytes() == DATA
    assert destination.read_bytes() == b"somebody else's"


def test_the_file_was_taken_away_meanwhile(place: Place, ledger: Ledger) -> None:
    decided(place, ledger)[0].unlink()
    assert restart(place, ledger) == 0
    assert place.rows() == []


def test_a_file_that_may_have_been_moved_to_a_disk_that_is_away(
    place: Place, ledger: Ledger
) -> None:
    source, destination = decided(place, ledger)
    source.rename(destination)
    away = place.happy.rename(place.root / "away")
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(Stopped):
        restart(place, ledger, stopping)
    assert [row["state"] for row in place.rows()] == ["decided"]
    away.rename(place.happy)
    assert restart(place, ledger) == 1
    place.assert_promise(Counter({sha256(DATA): 1}))


def rewrite(place: Place, column: str, path: str) -> None:
    place.change(sa.update(Image).values({column: path}))


@pytest.mark.parametrize("row_says", ["{root}/outside/a.jpg", "{root}/happy/../outside/a.jpg"])
def test_a_destination_that_is_not_configured(
    place: Place, ledger: Ledger, caplog: pytest.LogCaptureFixture, row_says: str
) -> None:
    outside = place.root / "outside"
    outside.mkdir()
    source, _ = decided(place, ledger)
    rewrite(place, "destination_path", row_says.format(root=place.root))
    away = source.rename(place.root / "away")
    assert restart(place, ledger) == 0
    assert [row["state"] for row in place.rows()] == ["decided"]
    assert "start once with its folder" in caplog.text
    away.rename(source)
    assert restart(place, ledger) == 0
    assert "judging the file anew" in caplog.text
    assert place.rows() == []
    assert source.exists()
    assert place.files(outside) == []


def test_a_source_that_leads_out_of_the_inbox(place: Place, ledger: Ledger) -> None:
    source, _ = decided(place, ledger)
    outside = source.rename(place.root / "a.jpg")
    rewrite(place, "source_path", f"{place.inbox}/../a.jpg")
    assert restart(place, ledger) == 0
    assert outside.exists()
    assert place.filed() == []


def test_rows_of_another_inbox_are_left_alone(place: Place, ledger: Ledger) -> None:
    ledger.claim([Source(Path("/elsewhere/a.jpg"), 1, 1)])
    restart(place, ledger)
    assert [row["state"] for row in place.rows()] == ["claimed"]


def test_persist_tries_until_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.pipeline.FIRST_RETRY_SECONDS", 0.01)
    answers: list[Exception | str] = [OSError(28, "No space left"), LedgerUnavailable("x"), "done"]

    def action() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert persist(action, threading.Event()) == "done"
    assert answers == []


def test_persist_gives_way_to_a_stop() -> None:
    def action() -> None:
        raise OSError(28, "No space left")

    stopping = threading.Event()
    stopping.set()
    with pytest.raises(Stopped):
        persist(action, stopping)
