from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from daemon import doctor, lock
from daemon.cli import main
from daemon.reporting import Reporter
from daemon.service import make_folders, serve
from tests.crash.dying import Step
from tests.daemon.filed import filed
from tests.helpers import MOODSORT, PATIENCE, Place, Service, jpeg, moodsort, sha256


@pytest.fixture
def home(place: Place) -> Place:
    make_folders(place.settings())
    return place


def command(place: Place, label: str, *images: Path | str) -> list[str | Path]:
    options = [*place.destinations(), "--inbox", place.inbox]
    return ["correct", *images, "--label", label, *options]


def correct(place: Place, label: str, *images: Path | str, stdin: str = "") -> Result:
    args = [str(arg) for arg in command(place, label, *images)]
    return CliRunner().invoke(main, args, input=stdin)


def test_a_corrected_image_lies_where_it_belongs(home: Place) -> None:
    path = filed(home, "happy", "2024/a.jpg")
    dropped = home.contents()
    before = home.row("a.jpg")
    result = correct(home, "sad", path)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{path}: sad, lies at {home.sad}/2024/a.jpg\n"
    row = home.row("a.jpg")
    assert row["destination_path"] == str(home.sad / "2024" / "a.jpg")
    assert (row["label"], row["corrected_label"], row["state"]) == ("happy", "sad", "filed")
    assert row["corrected_at"] > before["filed_at"] == row["filed_at"]
    assert row["moved_from"] is None
    home.assert_promise(dropped)
    assert not list(home.happy.glob("*.lock"))


def test_back_again_is_a_correction_too(home: Place) -> None:
    path = filed(home, "happy")
    correct(home, "sad", path)
    assert correct(home, "happy", home.sad / "a.jpg").exit_code == 0
    row = home.row("a.jpg")
    assert (row["destination_path"], row["corrected_label"]) == (str(path), "happy")


def test_a_right_image_is_said_to_be_right_and_stays(home: Place) -> None:
    path = filed(home, "sad")
    before = path.stat()
    assert correct(home, "sad", path).stdout == f"{path}: sad, lies at {path}\n"
    assert path.stat().st_ctime_ns == before.st_ctime_ns
    row = home.row("a.jpg")
    assert (row["state"], row["corrected_label"]) == ("filed", "sad")
    assert row["corrected_at"]


def test_an_unsure_image_is_decided_by_a_person(home: Place) -> None:
    path = filed(home, "unsure")
    assert correct(home, "happy", path).exit_code == 0
    assert home.row("a.jpg")["destination_path"] == str(home.happy / "a.jpg")


def test_nothing_is_replaced(home: Place) -> None:
    path, other = filed(home, "happy", data=jpeg("happy", 1)), home.sad / "a.jpg"
    other.write_bytes(b"somebody else's")
    assert correct(home, "sad", path).exit_code == 0
    assert other.read_bytes() == b"somebody else's"
    [moved] = home.sad.glob("a-*.jpg")
    assert moved.read_bytes() == jpeg("happy", 1)
    assert home.row("a.jpg")["destination_path"] == str(moved)


def test_across_disks(two_disks: Place) -> None:
    two_disks.sad = two_disks.root / "sad"  # happy stays on the other disk
    make_folders(two_disks.settings())
    path = filed(two_disks, "happy")
    dropped = two_disks.contents()
    assert correct(two_disks, "sad", path).exit_code == 0
    assert not path.exists()
    two_disks.assert_promise(dropped)


def test_a_file_that_was_only_touched_is_the_same(home: Place) -> None:
    path = filed(home, "happy")
    os.utime(path, (1e9, 1e9))
    assert correct(home, "sad", path).exit_code == 0
    assert (home.sad / "a.jpg").stat().st_mtime == 1e9


def test_what_cannot_be_corrected_is_said_and_the_rest_is_done(home: Place) -> None:
    good, changed, gone = (filed(home, "happy", f"{n}.jpg") for n in ("good", "changed", "gone"))
    changed.write_bytes(jpeg("sad", 99))
    gone.unlink()
    stranger = home.happy / "stranger.jpg"
    stranger.write_bytes(jpeg())
    result = correct(home, "sad", changed, gone, stranger, good)
    assert result.exit_code == 1
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == [
        "The file was changed since. Move it into the inbox to have it judged anew.",
        "The file is not there.",
        "No row names it. Only what moodsort filed, where it filed it, can be corrected.",
    ]
    assert result.stdout == f"{good}: sad, lies at {home.sad / 'good.jpg'}\n"
    assert home.row("changed.jpg")["corrected_label"] is None
    assert changed.exists()


def test_many_are_read_from_standard_input(home: Place) -> None:
    paths = [filed(home, "happy", f"{n}.jpg", jpeg("happy", n % 3)) for n in range(120)]
    dropped = home.contents()
    result = correct(home, "sad", "-", stdin="".join(f"{path}\n" for path in paths))
    assert result.exit_code == 0, result.output
    assert result.stdout.count(": sad, lies at ") == 120
    assert list(home.happy.iterdir()) == []
    home.assert_promise(dropped)


def test_no_database_is_a_sentence_and_makes_none(home: Place) -> None:
    result = correct(home, "sad", home.happy / "a.jpg")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: There is no database")
    assert not home.database.exists()


def test_a_folder_that_is_missing_is_a_sentence_and_later_made_good(
    home: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.refiling.PATIENCE_SECONDS", 0.1)
    path = filed(home, "happy")
    home.sad.rmdir()
    result = correct(home, "sad", path)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: Not every file could be moved: ")
    assert path.exists()
    home.sad.mkdir()
    assert [done.done for done in doctor.repair(home.settings())] == ["filed"]
    assert home.row("a.jpg")["corrected_label"] == "sad"
    assert (home.sad / "a.jpg").exists()


def test_another_who_corrects_is_waited_for(home: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filed(home, "happy")
    monkeypatch.setattr("daemon.refiling.PATIENCE_SECONDS", 0.1)
    with lock.hold(home.happy):
        result = correct(home, "sad", path)
        assert "Another moodsort moves images" in result.stderr
    monkeypatch.setattr("daemon.refiling.PATIENCE_SECONDS", PATIENCE)
    with lock.hold(home.happy):
        waiting = threading.Thread(target=correct, args=(home, "sad", path))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        assert path.exists()
    waiting.join()
    assert (home.sad / "a.jpg").exists()


def test_two_at_once_move_each_image_once(home: Place) -> None:
    paths = [filed(home, "happy", f"{n}.jpg", jpeg("happy", n % 3)) for n in range(60)]
    dropped = home.contents()
    both = [
        subprocess.Popen(
            [MOODSORT, *command(home, "sad", *order)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for order in (paths, paths[::-1])
    ]
    said = [one.communicate(timeout=PATIENCE) for one in both]
    assert "".join(out for out, _ in said).count(": sad, lies at ") == 60
    assert "Traceback" not in "".join(err for _, err in said)
    home.assert_promise(dropped)


COMMIT = "sqlalchemy.engine.default:DefaultDialect.do_commit"
CORRECT, FINISH = "db.ledger:Ledger.correct", "db.ledger:Ledger.finish"
PLACE = "daemon.filing:place"

STEPS = [
    Step("before", COMMIT, within=CORRECT),
    Step("after", CORRECT),
    Step("after", "os:link", 2, within=PLACE),
    Step("before", "os:unlink", 2, within=PLACE),
    Step("before", COMMIT, within=FINISH),
]


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_killed_at_a_step(home: Place, step: Step) -> None:
    paths = [filed(home, "happy", name) for name in ("a.jpg", "bb.jpg", "ccc.jpg")]
    dropped = home.contents()
    die(home, step, *paths)
    list(doctor.repair(home.settings()))
    home.assert_promise(dropped)
    said = {row["corrected_label"] for row in home.rows()}
    places = {Path(row["destination_path"]).parent for row in home.rows()}
    assert (said, places) in (({"sad"}, {home.sad}), ({None}, {home.happy}))


def die(place: Place, step: Step, *images: Path) -> None:
    dying = [sys.executable, "-m", "tests.crash.dying", step.as_argument()]
    ended = subprocess.run(
        [*dying, *command(place, "sad", *images)],
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def test_what_a_killed_one_began_is_told_and_ended_by_the_service(home: Place) -> None:
    path = filed(home, "happy")
    dropped = home.contents()
    die(home, Step("after", CORRECT), path)
    settings = home.settings()
    [finding] = doctor.examine(settings, deep=False)
    assert (finding.problem, finding.path) == (doctor.Problem.UNFINISHED, home.sad / "a.jpg")
    serve(settings, make_folders(settings), Reporter(), threading.Event(), once=True)
    assert home.row("a.jpg")["destination_path"] == str(home.sad / "a.jpg")
    home.assert_promise(dropped)


def test_what_a_killed_one_began_is_ended_by_the_next(home: Place) -> None:
    one, other = filed(home, "happy", "a.jpg"), filed(home, "happy", "b.jpg")
    die(home, Step("after", CORRECT), one)
    assert correct(home, "sad", other).exit_code == 0
    assert sorted(path.name for path in home.sad.iterdir()) == ["a.jpg", "b.jpg"]


def test_beside_the_service(home: Place) -> None:
    path = filed(home, "happy", "dropped.jpg")
    dropped = home.contents()
    with Service(home) as service:
        service.wait_until_ready()
        for n in range(30):
            data = jpeg("sad", n)
            (home.inbox / f"{n}.jpg").write_bytes(data)
            dropped[sha256(data)] += 1
        done = moodsort(*command(home, "sad", path))
        assert done.returncode == 0, done.stderr
        service.wait_drained(31)
        assert service.stop() == 0
    home.assert_promise(dropped)
