"""Rows and files that do not fit together: real files, a real database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from daemon import lock
from daemon.cli import main
from daemon.doctor import Problem, examine
from daemon.identity import identity
from db.engine import open_for_writing
from db.ledger import Decision, Ledger, Source
from tests.helpers import Place, Service, jpeg, json_lines, sha256


@pytest.fixture
def ledger(place: Place) -> Iterator[Ledger]:
    for folder in (place.happy, place.sad, place.failed):
        folder.mkdir()
    ledger = Ledger(open_for_writing(str(place.database)))
    yield ledger
    ledger.close()


def claim(place: Place, ledger: Ledger, name: str) -> tuple[int, Path]:
    """A file in the inbox that a service has claimed."""
    source = place.inbox / name
    source.write_bytes(jpeg())
    [id] = ledger.claim([Source(source, *identity(source.stat()))])
    assert id is not None
    return id, source


def decide(place: Place, ledger: Ledger, name: str) -> tuple[int, Path, Path]:
    """One that is to go to happy/."""
    id, source = claim(place, ledger, name)
    destination = place.happy / name
    seen = identity(source.stat())
    ledger.decide([Decision(id, destination, *seen, sha256(jpeg()), label="happy")])
    return id, source, destination


def file(place: Place, ledger: Ledger, name: str) -> tuple[int, Path]:
    """One that has gone there."""
    id, source, destination = decide(place, ledger, name)
    source.rename(destination)
    ledger.finish([id])
    return id, destination


def doctor(place: Place, *options: str) -> Result:
    args = ["doctor", "--inbox", place.inbox, *place.destinations(), *options]
    return CliRunner().invoke(main, [str(arg) for arg in args])


def findings(place: Place, *options: str) -> list[tuple[str, int | None, str]]:
    shown = doctor(place, "--json", *options)
    lines = json_lines(shown.stdout)
    assert shown.exit_code == (1 if any("problem" in line for line in lines) else 0)
    assert shown.stderr == ""
    return [
        (line.get("problem") or line["repaired"], line["id"], Path(line["path"]).name)
        for line in lines
    ]


def test_all_is_well(place: Place, ledger: Ledger) -> None:
    file(place, ledger, "a.jpg")
    (place.inbox / "waiting.jpg").write_bytes(jpeg())
    (place.happy / ".DS_Store").touch()
    assert findings(place, "--deep") == []
    shown = doctor(place)
    assert (shown.exit_code, shown.stdout) == (0, "All is well.\n")


def test_what_is_wrong_is_told_with_row_file_and_sentence(place: Place, ledger: Ledger) -> None:
    gone, shorter = file(place, ledger, "gone.jpg"), file(place, ledger, "shorter.jpg")
    linked = file(place, ledger, "linked.jpg")
    gone[1].unlink()
    shorter[1].write_bytes(b"short")
    linked[1].unlink()
    linked[1].symlink_to(shorter[1])
    (place.sad / "album").mkdir()
    (place.sad / "album" / "stray.jpg").touch()
    assert findings(place) == [
        ("missing", gone[0], "gone.jpg"),
        ("changed", shorter[0], "shorter.jpg"),
        ("missing", linked[0], "linked.jpg"),
        ("orphan", None, "stray.jpg"),
    ]
    shown = doctor(place)
    assert shown.exit_code == 1
    assert f"\nchanged      {shorter[0]:8}  {shorter[1]}\n" in shown.stdout
    assert "\n2 missing: The file of the row is not there." in shown.stdout


def test_other_bytes_are_seen_by_a_deep_look(place: Place, ledger: Ledger) -> None:
    id, path = file(place, ledger, "a.jpg")
    path.write_bytes(jpeg()[:-1] + b"!")
    assert findings(place) == []
    assert findings(place, "--deep") == [("changed", id, "a.jpg")]


def test_rows_between_states_are_wrong_only_where_no_service_works(
    place: Place, ledger: Ledger
) -> None:
    claimed, decided = claim(place, ledger, "a.jpg"), decide(place, ledger, "b.jpg")
    with lock.hold(place.inbox):
        assert findings(place) == []
    assert findings(place) == [
        ("stale_claim", claimed[0], "a.jpg"),
        ("unfinished", decided[0], "b.jpg"),
    ]
    with lock.hold(place.inbox):
        assert findings(place, "--inbox", str(place.root / "another")) == []


def test_repair_does_what_the_next_start_would_do(place: Place, ledger: Ledger) -> None:
    claimed, decided = claim(place, ledger, "a.jpg"), decide(place, ledger, "b.jpg")
    taken, filed = decide(place, ledger, "c.jpg"), file(place, ledger, "d.jpg")
    taken[1].unlink()
    (place.sad / f".moodsort-{filed[0]}.part").write_bytes(b"the rest of a copy")
    assert findings(place)[-1] == ("leftover", filed[0], f".moodsort-{filed[0]}.part")
    assert findings(place, "--repair") == [
        ("given back", claimed[0], "a.jpg"),
        ("filed", decided[0], "b.jpg"),
        ("forgotten, for it is gone", taken[0], "c.jpg"),
        ("removed", filed[0], f".moodsort-{filed[0]}.part"),
    ]
    assert [path.name for path in place.files(place.inbox)] == ["a.jpg"]
    assert sorted(path.name for path in place.filed()) == ["b.jpg", "d.jpg"]
    assert [row["id"] for row in place.rows()] == [decided[0], filed[0]]


def test_repair_touches_nothing_else(place: Place, ledger: Ledger) -> None:
    id, path = file(place, ledger, "a.jpg")
    path.rename(place.happy / "renamed.jpg")
    wrong = [("missing", id, "a.jpg"), ("orphan", None, "renamed.jpg")]
    assert findings(place, "--repair") == wrong
    assert (place.happy / "renamed.jpg").exists()
    assert len(place.rows()) == 1


def test_repair_is_refused_while_a_service_works(place: Place, ledger: Ledger) -> None:
    claim(place, ledger, "a.jpg")
    with lock.hold(place.inbox):
        refused = doctor(place, "--repair")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("Error: Another moodsort works on")
    assert [row["state"] for row in place.rows()] == ["claimed"]


def test_repair_does_not_wait_for_a_missing_disk(place: Place, ledger: Ledger) -> None:
    _, source, _ = decide(place, ledger, "a.jpg")
    place.happy.rmdir()
    shown = doctor(place, "--repair")
    assert shown.exit_code == 1
    assert shown.stderr.startswith("Error: Not everything could be repaired: ")
    assert str(place.happy) in shown.stderr
    assert source.exists()


def test_the_draft_of_a_move_under_way_is_no_leftover(place: Place, ledger: Ledger) -> None:
    id, *_ = decide(place, ledger, "a.jpg")
    (place.happy / f".moodsort-{id}.part").touch()
    with lock.hold(place.inbox):
        assert findings(place) == []


def test_names_that_no_database_takes_are_orphans(place: Place, ledger: Ledger) -> None:
    (place.happy / os.fsdecode(b"odd \xff\n.jpg")).touch()
    assert findings(place) == [("orphan", None, "odd \\xff\n.jpg")]
    assert "odd \\xff\\n.jpg\n" in doctor(place).stdout


def test_folders_inside_others_are_looked_at_once(place: Place, ledger: Ledger) -> None:
    place.failed.rmdir()
    place.failed = place.happy / "failed"
    place.failed.mkdir()
    (place.failed / "stray.jpg").touch()
    assert findings(place) == [("orphan", None, "stray.jpg")]


def test_the_database_itself_is_no_orphan(place: Place) -> None:
    place.happy.mkdir()
    place.database = place.happy / "moodsort.db"
    ledger = Ledger(open_for_writing(str(place.database)))
    file(place, ledger, "a.jpg")
    assert (place.happy / "moodsort.db-wal").exists()
    assert findings(place) == []
    ledger.close()


@pytest.mark.parametrize("options", [(), ("--repair",)])
def test_without_a_database_there_is_nothing_to_compare(
    place: Place, options: tuple[str, ...]
) -> None:
    shown = doctor(place, *options)
    assert shown.exit_code == 1
    assert shown.stderr.startswith("Error: There is no database")
    assert [path.name for path in place.root.iterdir()] == ["inbox"]


def test_page_by_page(place: Place, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("db.queries.FETCHED", 2)
    monkeypatch.setattr("daemon.doctor.AT_ONCE", 3)
    for n in range(7):
        file(place, ledger, f"{n}.jpg")
        claim(place, ledger, f"claimed-{n}.jpg")
        (place.sad / f"{n}.jpg").touch()
    (place.happy / "5.jpg").unlink()
    found = [finding.problem for finding in examine(place.settings(), deep=False)]
    assert found == [Problem.STALE_CLAIM] * 7 + [Problem.MISSING] + [Problem.ORPHAN] * 7


def test_beside_a_busy_service_nothing_seems_wrong(place: Place) -> None:
    for n in range(200):
        (place.inbox / f"{n}.jpg").write_bytes(jpeg("sad" if n % 2 else "happy", n % 20))
    with Service(place, "--settle-seconds", "0.1", "--batch-size", "4") as service:
        service.wait_for(lambda: len(place.filed()) > 0, "it is amid the work")
        looks = 0
        while place.files(place.inbox):
            assert list(examine(place.settings(), deep=True)) == []
            looks += 1
        assert looks > 1
        service.wait_drained(200)
        assert service.stop() == 0
