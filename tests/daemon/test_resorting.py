from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from daemon import doctor
from daemon.cli import main
from daemon.loading import make_folders
from tests.crash.dying import Step
from tests.daemon.filed import filed
from tests.daemon.test_correcting import correct
from tests.helpers import PATIENCE, Place, Service, jpeg, json_lines, moodsort, sha256

WORKERS = ("--decode-workers", "1")


@pytest.fixture
def home(place: Place) -> Place:
    make_folders(place.settings())
    return place


def command(place: Place, *options: str) -> list[str | Path]:
    return ["resort", "--inbox", place.inbox, *place.destinations(), *WORKERS, *options]


def resort(place: Place, *options: str) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in command(place, *options)])


def resorted(place: Place, *options: str) -> dict[str, int]:
    """The counts at the end."""
    done = resort(place, *options, "--json")
    assert done.exit_code == 0, done.output
    return json_lines(done.stdout)[-1]


def wrong(place: Place, name: str = "a.jpg", seed: int = 1) -> Path:
    """A sad face that was taken for a happy one."""
    return filed(place, "happy", name, jpeg("sad", seed))


def history(place: Place) -> dict[int, list[tuple[str, int | None]]]:
    """Of each image all decisions, label and model, the oldest first."""
    with contextlib.closing(sqlite3.connect(place.database)) as link:
        rows = link.execute("SELECT image_id, label, model_id FROM decisions ORDER BY decided_at")
        decisions: dict[int, list[tuple[str, int | None]]] = {}
        for id, label, model in rows:
            decisions.setdefault(id, []).append((label, model))
    return decisions


def test_without_apply_it_is_only_told(home: Place) -> None:
    path = wrong(home, "2024/a.jpg")
    before = home.row("a.jpg")
    done = resort(home)
    assert done.exit_code == 0, done.output
    told, summary, hint = done.stdout.splitlines()
    assert told.startswith(f"{path}: happy → sad 0.")
    assert told.endswith(f", {home.sad}/2024/a.jpg")
    assert summary == "1 judged again, 1 of them are another label now."
    assert "--apply" in hint
    assert path.exists()
    assert home.row("a.jpg") == before
    assert home.rows("models") == []


def test_what_is_another_label_now_is_moved_and_keeps_its_history(home: Place) -> None:
    wrong(home, "2024/a.jpg")
    right = filed(home, "happy", "b.jpg", jpeg("happy", 1))
    dropped = home.contents()
    before = home.row("a.jpg")
    [told, counts] = json_lines(resort(home, "--apply", "--json").stdout)
    assert counts == {"judged": 2, "changed": 1, "left": 0}
    assert told["destination"] == str(home.sad / "2024" / "a.jpg")
    row = home.row("a.jpg")
    assert (row["label"], row["state"], row["moved_from"]) == ("sad", "filed", None)
    assert row["destination_path"] == told["destination"]
    assert row["probability"] == told["probability"] > 0.5
    assert row["filed_at"] == before["filed_at"]
    assert right.exists()
    [model] = home.rows("models")
    both = history(home)
    assert both[row["id"]] == [("happy", None), ("sad", model["id"])]
    assert both[home.row("b.jpg")["id"]] == [("happy", None), ("happy", model["id"])]
    home.assert_promise(dropped)


def test_what_this_model_has_decided_is_left_out_unless_asked_for(home: Place) -> None:
    wrong(home)
    assert resorted(home, "--apply")["judged"] == 1
    assert resorted(home, "--apply")["judged"] == 0
    assert resorted(home, "--apply", "--again") == {"judged": 1, "changed": 0, "left": 0}
    assert len(home.rows("earlier_decisions")) == 1  # The same is not written twice.
    again = resorted(home, "--apply", "--again", "--unsure-below", "1")
    assert again == {"judged": 1, "changed": 1, "left": 0}
    assert home.row("a.jpg")["destination_path"] == str(home.unsure / "a.jpg")


def large_face(mood: str) -> bytes:
    """In which the detector sees a face, and which is no crop of one."""
    return jpeg(mood, 1, (300, 200))


def test_faces_go_with_their_decision(home: Place) -> None:
    filed(home, "happy", "a.jpg", large_face("sad"))
    resort(home, "--apply")
    [face] = home.rows("faces")
    resort(home, "--apply", "--again", "--no-faces")
    assert home.rows("faces") == []
    _, last = home.rows("earlier_decisions")
    [kept] = json.loads(last["faces"])
    assert {name: face[name] for name in kept} == kept
    assert last["decided_by"] == "faces"


def test_what_a_person_said_stays(home: Place) -> None:
    said = wrong(home, "said.jpg", 1)
    correct(home, "happy", said)
    moved = filed(home, "happy", "moved.jpg", jpeg("happy", 2))
    correct(home, "sad", moved)
    before = [dict(row) for row in home.rows()]
    assert resorted(home, "--apply", "--again")["judged"] == 0
    assert [dict(row) for row in home.rows()] == before


def test_only_what_is_wanted(home: Place) -> None:
    wrong(home, "a.jpg", 1)
    wrong(home, "b.png", 2)
    filed(home, "sad", "c.jpg", jpeg("happy", 1))
    assert resorted(home, "--path", "*.png")["judged"] == 1
    assert resorted(home, "--label", "sad")["judged"] == 1
    assert resorted(home, "--until", "1d")["judged"] == 0
    assert resorted(home, "--limit", "2")["judged"] == 2
    assert resorted(home, "--judged-by", "nobody")["judged"] == 0
    assert resorted(home)["judged"] == 3


def test_what_cannot_be_decided_is_told_and_left(home: Place) -> None:
    changed, gone = wrong(home, "changed.jpg", 1), wrong(home, "gone.jpg", 2)
    wrong(home, "good.jpg", 3)
    filed(home, "happy", "bad.jpg", b"no image any more")
    changed.write_bytes(jpeg("sad", 9))
    gone.unlink()
    done = resort(home, "--apply")
    assert done.exit_code == 1
    assert f"{changed}: The file was changed since." in done.stderr
    assert f"{gone}: The file is not there" in done.stderr
    assert "bad.jpg: " in done.stderr
    assert "1 judged again, 1 of them" in done.stdout
    assert "3 could not be judged or moved" in done.stdout
    assert (home.sad / "good.jpg").exists()
    assert home.row("changed.jpg")["label"] == "happy"


def test_nothing_is_replaced(home: Place) -> None:
    wrong(home)
    (home.sad / "a.jpg").write_bytes(b"somebody else's")
    [told, _] = json_lines(resort(home, "--apply", "--json").stdout)
    assert (home.sad / "a.jpg").read_bytes() == b"somebody else's"
    assert Path(told["destination"]).read_bytes() == jpeg("sad", 1)


def test_across_disks(two_disks: Place) -> None:
    two_disks.sad = two_disks.root / "sad"  # happy stays on the other disk
    make_folders(two_disks.settings())
    path = wrong(two_disks)
    dropped = two_disks.contents()
    assert resorted(two_disks, "--apply")["changed"] == 1
    assert not path.exists()
    two_disks.assert_promise(dropped)


COMMIT = "sqlalchemy.engine.default:DefaultDialect.do_commit"
REDECIDE, FINISH = "db.ledger:Ledger.redecide", "db.ledger:Ledger.finish"
PLACE = "daemon.filing:place"

STEPS = [
    Step("before", COMMIT, within=REDECIDE),
    Step("after", REDECIDE),
    Step("before", "os:unlink", 2, within=PLACE),
    Step("before", COMMIT, within=FINISH),
]


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_killed_at_a_step(home: Place, step: Step) -> None:
    for seed, name in enumerate(("a.jpg", "bb.jpg", "ccc.jpg"), start=1):
        wrong(home, name, seed)
    dropped = home.contents()
    dying = [sys.executable, "-m", "tests.crash.dying", step.as_argument()]
    ended = subprocess.run(
        [*dying, *command(home, "--apply")], capture_output=True, timeout=PATIENCE, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert resorted(home, "--apply")["left"] == 0
    home.assert_promise(dropped)
    assert {row["label"] for row in home.rows()} == {"sad"}
    assert len(home.rows("earlier_decisions")) == 3


def test_what_a_killed_one_began_is_told_and_repaired(home: Place) -> None:
    wrong(home)
    dropped = home.contents()
    dying = [sys.executable, "-m", "tests.crash.dying", Step("after", REDECIDE).as_argument()]
    subprocess.run(
        [*dying, *command(home, "--apply")], capture_output=True, timeout=PATIENCE, check=False
    )
    [finding] = doctor.examine(home.settings(), deep=False)
    assert (finding.problem, finding.path) == (doctor.Problem.UNFINISHED, home.sad / "a.jpg")
    assert [done.done for done in doctor.repair(home.settings())] == ["filed"]
    home.assert_promise(dropped)


def test_beside_the_service(home: Place) -> None:
    """It takes a new decision for no move by hand, and goes on filing."""
    for seed in range(1, 9):
        wrong(home, f"old-{seed}.jpg", seed)
    dropped = home.contents()
    with Service(home) as service:
        service.wait_until_ready()
        for n in range(20):
            data = jpeg("happy", n)
            (home.inbox / f"{n}.jpg").write_bytes(data)
            dropped[sha256(data)] += 1
        done = moodsort(*command(home, "--apply", "--path", "old-*"))
        assert done.returncode == 0, done.stderr
        service.wait_drained(28)
        (home.happy / "0.jpg").rename(home.sad / "0.jpg")
        service.wait_for(lambda: home.row("0.jpg")["corrected_label"], "a move by hand is noticed")
        assert service.stop() == 0
    home.assert_promise(dropped)
    assert [row["id"] for row in home.rows() if row["corrected_label"]] == [home.row("0.jpg")["id"]]
