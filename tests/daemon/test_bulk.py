"""Archives, judged on a Ray of their own; what needs none is tested without, which is faster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from daemon.cli import main
from daemon.settings import Settings
from tests.faces import MOODS
from tests.helpers import Place, free_port, jpeg, sha256
from trainer.bundle import Bundle

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install -e '.[dev]'")
needs_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason="ray is not installed: pip install -e '.[dev]'"
)
pytestmark = needs_ray

ROOT = Path(__file__).parent.parent.parent
DEFAULT = Settings(model="default")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    for mood in MOODS:
        (folder / mood).mkdir(parents=True)
        for seed in range(4):
            (folder / mood / f"drawn-{seed}.jpg").write_bytes(jpeg(mood, seed))
    return folder


@pytest.fixture
def moods(tmp_path: Path) -> Path:
    return tmp_path / "moods"


def rows_in(folder: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    assert all(file.name.startswith("results-") for file in folder.iterdir())
    return [row for file in folder.iterdir() for row in parquet.read_table(file).to_pylist()]


def recorded(
    archive: Path, moods: Path, rows: list[dict[str, Any]], links: Path | None = None
) -> None:
    """As a job has it that was interrupted after these."""
    from daemon.bulk import job
    from db.exporting import arrow_schema

    with job.opened(DEFAULT, str(archive), str(moods), links) as one:
        one.results.add(pa.Table.from_pylist(rows, arrow_schema()))


def left_of(archive: Path, moods: Path, settings: Settings = DEFAULT) -> list[str]:
    """The names of the files that a job would still judge."""
    from daemon.bulk import job
    from daemon.bulk.results import left

    with job.opened(settings, str(archive), str(moods)) as one:
        return [one.source.name(file.path) for file in left(one.source, one.done)]


def frail_bulk(tmp_path: Path, *args: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from tests.daemon.frail_bulk import frail_main; frail_main(*sys.argv[1:])"
    environ = os.environ | {"PYTHONPATH": str(ROOT), "FRAIL_MARK": str(tmp_path / "mark")}
    return subprocess.run(
        [sys.executable, "-c", code, "bulk", *args],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def error_of(*args: str) -> str:
    """What it says where it cannot begin."""
    done = CliRunner().invoke(main, ["bulk", *args])
    assert done.exit_code in (1, os.EX_CONFIG)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_whatever_dies_each_image_has_one_row_and_what_was_done_keeps_its_own(
    archive: Path, moods: Path, tmp_path: Path
) -> None:
    done = [str(path) for path in archive.glob("*/*1.jpg")]
    assert len(done) == 2
    before = [{"source_path": path, "label": "unsure"} for path in done]
    recorded(archive, moods, before, tmp_path / "linked")
    (archive / "bad").mkdir()
    for name in ("crash", "crash once"):
        (archive / "bad" / f"{name}.jpg").write_bytes(jpeg("sad", 1) + name.encode())
    (archive / "bad" / "text.jpg").write_bytes(b"no image")
    (archive / "fatal.jpg").write_bytes(jpeg("happy", 2))
    files = {str(path): path for path in archive.rglob("*.jpg")}

    told = frail_bulk(
        tmp_path,
        *("archive", "--to", "moods", "--links", "linked"),
        *("--model", "default", "--decode-workers=1", "--json"),
    )
    assert told.returncode == 0, told.stderr
    assert told.stderr == ""
    assert (tmp_path / "mark").exists(), "no actor was killed"
    rows = {row["source_path"]: row for row in rows_in(moods)}
    assert len(rows) == len(rows_in(moods))
    assert set(rows) == set(files)
    assert {rows.pop(path)["label"] for path in done} == {"unsure"}
    failed = {Path(path).name: row["error_code"] for path, row in rows.items() if not row["label"]}
    assert failed == {"crash.jpg": "undecodable", "text.jpg": "not_an_image"}
    for path, row in rows.items():
        assert row["sha256"] == sha256(files[path].read_bytes())
        if "drawn" in path:
            assert row["label"] == files[path].parent.name
        assert row["state"] == ("filed" if row["label"] else "failed")
        there = tmp_path / "linked" / (row["label"] or "failed") / files[path].relative_to(archive)
        assert row["destination_path"] == str(there)
        assert there.samefile(path)
    labels = Counter(row["label"] or "failed" for row in rows.values())
    assert json.loads(told.stdout) == {**labels, "unread": 0, "done_before": 2}


def test_a_link_is_made_once_and_replaces_nothing(archive: Path, tmp_path: Path) -> None:
    from daemon.bulk.judge import PATH, PROBLEM
    from daemon.bulk.links import Links
    from daemon.bulk.places import place_of

    links = Links(place_of(str(archive)), place_of(str(tmp_path / "linked")))
    image, gone = archive / "sad" / "drawn-1.jpg", archive / "sad" / "gone.jpg"
    row = {PATH: os.fsencode(image), PROBLEM: None, "label": "happy"}
    first, again = links.add(row), links.add(row)
    there = tmp_path / "linked" / "happy" / "sad" / "drawn-1.jpg"
    assert first["destination_path"] == again["destination_path"] == str(there)
    assert (first["state"], again[PROBLEM]) == ("filed", None)
    assert there.samefile(image)
    there.unlink()
    there.write_bytes(b"mine")
    assert links.add(row)[PROBLEM] == f"{there} exists already, and is not replaced."
    assert there.read_bytes() == b"mine"
    lost = links.add({PATH: os.fsencode(gone), PROBLEM: None, "label": None})
    assert lost[PROBLEM].endswith("/failed/sad/gone.jpg: No such file or directory.")


def test_there_are_links_only_on_one_disk(archive: Path, moods: Path, two_disks: Place) -> None:
    other = str(two_disks.sad / "links")
    told = error_of(str(archive), "--to", str(moods), "--links", other)
    assert told.startswith(f"Error: {other} is on another disk than {archive}, ")


def test_only_what_is_finished_and_lies_there_itself_is_listed(archive: Path, moods: Path) -> None:
    files = {str(path) for path in archive.rglob("*.jpg")}
    [first, *_] = files
    odd = archive / os.fsdecode(b"\xff.jpg")
    odd.write_bytes(b"")
    (archive / "growing.part").write_bytes(b"")
    (archive / ".hidden").mkdir()
    (archive / ".hidden" / "one.jpg").write_bytes(b"")
    (archive / "link.jpg").symlink_to(first)
    (archive / "loop").symlink_to(archive)
    assert sorted(left_of(archive, moods)) == sorted({*files, f"{archive}/\\xff.jpg"})
    recorded(archive, moods, [{"source_path": f"{archive}/\\xff.jpg"}, {"source_path": first}])
    assert sorted(left_of(archive, moods)) == sorted(files - {first})


def test_a_folder_that_cannot_be_listed_is_told(home_of_nobody: Path) -> None:
    from daemon.bulk.places import place_of
    from daemon.bulk.sources import source_of

    (home_of_nobody / "one.jpg").write_bytes(b"")
    (home_of_nobody / "closed").mkdir(mode=0)
    listed = list(source_of(place_of(str(home_of_nobody))).listed())
    assert [(Path(os.fsdecode(file.path)).name, file.problem) for file in listed] == [
        ("one.jpg", None),
        ("closed", "The folder cannot be listed: Permission denied."),
    ]


def test_what_cannot_be_read_has_no_row_and_is_left_for_the_next_time(
    archive: Path, shipped: Bundle
) -> None:
    from daemon.bulk.judge import LISTED, PROBLEM, Judge
    from daemon.bulk.places import place_of
    from daemon.bulk.sources import source_of

    there = str(next(archive.glob("happy/*.jpg")))
    gone = str(archive / "gone.jpg")
    listed = [
        {"path": there.encode()},
        {"path": gone.encode()},
        {"path": b"/closed", "problem": "It cannot be listed."},
    ]
    judge = Judge(shipped, source_of(place_of(str(archive))), 1, 0.0)
    with closing(judge):
        told = judge(pa.Table.from_pylist(listed, LISTED)).to_pylist()
    assert {row["source_path"]: row[PROBLEM] for row in told} == {
        there: None,
        gone: "The file is not there any more, or is being written to.",
        "/closed": "It cannot be listed.",
    }
    assert {row["source_path"]: row["label"] for row in told if row["label"]} == {there: "happy"}


def test_results_of_another_model_or_of_other_settings_are_not_mixed(
    archive: Path, moods: Path
) -> None:
    from daemon.errors import ServiceError

    recorded(archive, moods, [{"source_path": "/one.jpg"}])
    other = Settings(model="default", unsure_below=0.7)
    with pytest.raises(ServiceError, match=r"with unsure_below=0, .*Name another folder"):
        left_of(archive, moods, other)


def test_a_file_that_is_no_result_is_not_taken_for_one(archive: Path, moods: Path) -> None:
    from pyarrow import parquet

    from daemon.errors import ServiceError

    moods.mkdir()
    parquet.write_table(pa.table({"source_path": ["/one.jpg"]}), moods / "other.parquet")
    with pytest.raises(ServiceError, match=r"other\.parquet is no file of `moodsort bulk`"):
        left_of(archive, moods)
    (moods / "other.parquet").write_bytes(b"broken")
    with pytest.raises(ServiceError, match="cannot be read"):
        left_of(archive, moods)


def test_one_job_at_a_time_writes_into_a_folder(archive: Path, moods: Path) -> None:
    from daemon.bulk import job
    from daemon.errors import ServiceError

    with (
        job.opened(DEFAULT, str(archive), str(moods)),
        pytest.raises(ServiceError, match=f"Another moodsort works on {moods}: process "),
    ):
        left_of(archive, moods)


def test_what_was_judged_is_kept_when_something_goes_wrong(archive: Path, moods: Path) -> None:
    from daemon.bulk import job
    from db.exporting import arrow_schema

    def interrupted() -> None:
        with job.opened(DEFAULT, str(archive), str(moods)) as one:
            one.results.add(pa.Table.from_pylist([{"source_path": "/one.jpg"}], arrow_schema()))
            assert not list(moods.glob("*.parquet"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [row["source_path"] for row in rows_in(moods)] == ["/one.jpg"]


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["none", "--to", "moods"], "none is not there. Name the folder that the images lie in."),
        (["archive/file", "--to", "moods"], "is no folder"),
        (["archive", "--to", "archive/moods"], "Name another place for results."),
        (["archive", "--to", "archive/file/moods"], "Name another place for results."),
        (["archive", "--to", "moods", "--links", "archive/in"], "another folder for links."),
        (["archive", "--to", "moods", "--links", "other/file/in"], "other/file/in cannot be made"),
        (["archive", "--to", "other/file/moods"], "other/file/moods cannot be made: "),
        (["what://ever", "--to", "moods"], "The what:// address cannot be used: Unrecognized"),
        (["archive", "--to", "moods", "--model", "none"], "There is no model bundle none."),
        (["archive", "--to", "moods", "--address", "here"], "here is no address of a Ray, such"),
        (["archive", "--to", "moods", "--address", "ray://"], "ray:// is no address of a Ray"),
    ],
)
def test_what_cannot_be_is_one_line(
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    sentence: str,
) -> None:
    for folder in (archive, tmp_path / "other"):
        folder.mkdir(exist_ok=True)
        (folder / "file").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert sentence in error_of(*args)


def test_a_ray_that_is_not_there_is_told_of(archive: Path, moods: Path) -> None:
    where = f"127.0.0.1:{free_port()}"
    told = error_of(str(archive), "--to", str(moods), "--address", where)
    assert told == f"Error: The Ray at {where} cannot be reached: Connection refused.\n"
