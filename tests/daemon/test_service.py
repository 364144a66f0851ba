"""The service as people meet it: a child process, real files, a real database."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.loading import make_folders
from daemon.reporting import Reporter
from daemon.service import serve
from daemon.settings import Settings
from tests.helpers import (
    Place,
    Service,
    jpeg,
    json_lines,
    moodsort,
    png_of,
    sha256,
    wait_until,
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One that runs through all tests that only drop files; each uses names of its own."""
    place = Place(tmp_path_factory.mktemp("service"))
    with Service(place) as running:
        yield running.wait_until_ready()
        assert running.stop() == 0, running.said()


def drop(place: Place, name: str | bytes, data: bytes) -> Path:
    path = place.inbox / os.fsdecode(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def finished(service: Service, name: str) -> dict:
    """The row of a dropped file, once it is closed."""

    def row() -> dict | None:
        found = [dict(r) for r in service.place.rows() if Path(r["source_path"]).name == name]
        return next((r for r in found if r["state"] in ("filed", "failed")), None)

    return service.wait_for(row, f"{name} is done")


def test_an_image_is_filed_and_recorded(service: Service) -> None:
    data = jpeg("happy", 1)
    source = drop(service.place, "one.jpg", data)
    row = finished(service, "one.jpg")
    assert row["state"] == "filed"
    assert row["source_path"] == str(source)
    home = service.place.happy if row["label"] == "happy" else service.place.sad
    assert row["destination_path"] == str(home / "one.jpg")
    assert Path(row["destination_path"]).read_bytes() == data
    assert (row["sha256"], row["size_bytes"]) == (sha256(data), len(data))
    assert (row["width"], row["height"], row["format"]) == (96, 96, "JPEG")
    assert 0.5 <= row["probability"] <= 1
    assert not source.exists()


def test_bad_files_fail_each_with_its_code_while_others_go_on(service: Service) -> None:
    whole = jpeg("sad", 2, (300, 300))
    bad = {
        "text.jpg": (b"not an image at all\n" * 50, "not_an_image"),
        "empty.jpg": (b"", "empty"),
        "cut.jpg": (whole[: len(whole) // 2], "truncated"),
        "huge.png": (png_of(20_000, 20_000), "too_large"),
    }
    for name, (data, _) in bad.items():
        drop(service.place, name, data)
    drop(service.place, "good among bad.jpg", whole)
    assert finished(service, "good among bad.jpg")["state"] == "filed"
    for name, (data, code) in bad.items():
        row = finished(service, name)
        assert (row["state"], row["error_code"]) == ("failed", code)
        assert row["error_detail"].endswith(".")
        assert row["label"] is None
        assert (service.place.failed / name).read_bytes() == data


def test_a_slowly_written_file_is_taken_once_and_whole(service: Service) -> None:
    data = jpeg("happy", 3, (400, 400))
    pause = threading.Event()
    with (service.place.inbox / "slow.jpg").open("wb") as out:
        for i in range(5):
            out.write(data[i * len(data) // 5 : (i + 1) * len(data) // 5])
            out.flush()
            pause.wait(0.6)  # Slower than files settle where a writer's end is not seen.
            assert not [r for r in service.place.rows() if r["source_path"].endswith("slow.jpg")]
    assert finished(service, "slow.jpg")["sha256"] == sha256(data)


def test_the_same_name_again_never_replaces(service: Service) -> None:
    place = service.place
    contents = [jpeg("happy", 4), jpeg("happy", 5), jpeg("happy", 4)]

    def filed() -> int:
        rows = place.rows()
        return sum("again.jpg" in r["source_path"] and r["state"] == "filed" for r in rows)

    for count, data in enumerate(contents, 1):
        drop(place, "again.jpg", data)
        service.wait_for(lambda n=count: filed() == n, "it is filed")
    rows = [r for r in place.rows() if r["source_path"].endswith("again.jpg")]
    assert len({r["destination_path"] for r in rows}) == 3
    assert [Path(r["destination_path"]).read_bytes() for r in rows] == contents


def test_folders_keep_their_shape(service: Service) -> None:
    drop(service.place, "2024/holiday/beach.jpg", jpeg("happy", 6))
    row = finished(service, "beach.jpg")
    home = service.place.root / row["label"]
    assert row["destination_path"] == str(home / "2024" / "holiday" / "beach.jpg")


def test_names_that_are_no_text_are_filed_under_a_readable_one(service: Service) -> None:
    drop(service.place, b"\xff\xfe-bytes\n.jpg", jpeg("happy", 7))
    row = finished(service, "\\xff\\xfe-bytes\n.jpg")
    assert Path(row["destination_path"]).name == "__-bytes_.jpg"
    assert Path(row["destination_path"]).exists()


def test_a_folder_with_the_name_of_a_failed_file(service: Service) -> None:
    drop(service.place, "holiday", b"no image")
    finished(service, "holiday")
    drop(service.place, "holiday/bad.jpg", b"no image either")
    row = finished(service, "bad.jpg")
    assert Path(row["destination_path"]).parent.name == f"holiday-{row['id']}"
    drop(service.place, "after-holiday.jpg", jpeg("sad", 20))
    assert finished(service, "after-holiday.jpg")["state"] == "filed"


def test_a_time_in_the_far_future(service: Service) -> None:
    made = service.place.root / "future.jpg"
    made.write_bytes(jpeg("sad", 21))
    os.utime(made, (10_413_792_000, 10_413_792_000))  # the year 2300
    made.rename(service.place.inbox / "future.jpg")
    assert finished(service, "future.jpg")["state"] == "filed"


def test_folders_that_are_moved_away_or_removed(service: Service) -> None:
    for name in ("leaves", "vanishes"):
        (service.place.inbox / name).mkdir()
    (service.place.inbox / "leaves").rename(service.place.root / "left")
    (service.place.inbox / "vanishes").rmdir()
    drop(service.place, "after-leaving.jpg", jpeg("sad", 22))
    assert finished(service, "after-leaving.jpg")["state"] == "filed"


def test_links_are_not_followed(service: Service) -> None:
    secret = service.place.root / "secret.jpg"
    secret.write_bytes(jpeg("happy", 8))
    (service.place.inbox / "link.jpg").symlink_to(secret)
    service.wait_for(lambda: "link.jpg" in service.said(), "the link is reported")
    (service.place.inbox / "link.jpg").unlink()
    assert secret.exists()


def test_results_and_stats_answer_meanwhile(service: Service) -> None:
    drop(service.place, "asked.jpg", jpeg("sad", 9))
    row = finished(service, "asked.jpg")
    shown = moodsort("results", "--json", "--limit", "1", "--database", service.place.database)
    [newest] = json_lines(shown.stdout)
    assert newest["id"] == row["id"]
    [totals] = json_lines(moodsort("stats", "--json", "--database", service.place.database).stdout)
    assert totals["images"] == len(service.place.rows())


def test_a_second_service_on_the_inbox_is_refused(service: Service) -> None:
    place = service.place
    second = moodsort("run", "--inbox", place.inbox, *place.destinations())
    assert second.returncode == 1
    assert f"process {service.process.pid}" in second.stderr
    assert "Traceback" not in second.stderr


def test_many_files_at_once_then_all_of_the_promise(service: Service) -> None:
    place = service.place
    service.wait_drained(len(place.rows()))
    dropped = place.contents()
    for n in range(150):
        data = jpeg("sad" if n % 2 else "happy", 100 + n % 40)
        dropped[sha256(data)] += 1
        drop(place, f"many-{n}.jpg", data)
    service.wait_drained(dropped.total())
    place.assert_promise(dropped)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_amid_the_work_and_started_again(place: Place, number: int) -> None:
    for n in range(400):
        drop(place, f"{n}.jpg", jpeg("happy", n % 50, (500, 400)))
    dropped = place.contents()
    with Service(place, "--settle-seconds", "0.2", "--batch-size", "8") as first:
        first.wait_for(lambda: len(place.filed()) >= 10, "it is amid the work")
        assert first.stop(number) == 0
        assert "Stopped: " in first.said()
    left = len(place.files(place.inbox))
    assert left > 0
    assert {row["state"] for row in place.rows()} == {"filed"}
    assert len(place.rows()) == len(place.filed()) == 400 - left
    with Service(place, "--settle-seconds", "0.2") as second:
        second.wait_drained(400)
        assert second.stop() == 0
    place.assert_promise(dropped)


def test_killed_amid_the_work_nothing_is_lost(place: Place) -> None:
    for n in range(300):
        drop(place, f"{n}.jpg", jpeg("sad", n % 50))
    dropped = place.contents()
    for filed in (5, 100):
        with Service(place, "--settle-seconds", "0.2", "--batch-size", "4") as victim:
            victim.wait_for(lambda n=filed: len(place.filed()) >= n, "it is amid the work")
            victim.process.kill()
    with Service(place, "--settle-seconds", "0.2") as last:
        last.wait_drained(300)
        assert last.stop() == 0
    place.assert_promise(dropped)


def test_a_stop_while_it_starts_is_answered(place: Place) -> None:
    with Service(place) as starting:
        starting.wait_for((place.inbox / ".moodsort.lock").exists, "it has begun")
        assert starting.stop() == 0
        assert "Stopped: 0 happy, 0 sad, 0 failed." in starting.said()
    assert not (place.inbox / ".moodsort.lock").exists()


def test_a_missing_model_is_a_sentence(place: Place) -> None:
    done = moodsort("run", "--inbox", place.inbox, *place.destinations(), "--model", "none")
    assert done.returncode == 78
    assert done.stderr == "Error: There is no model bundle none.\n"


def test_the_model_is_told_which_faces_are_to_count(place: Place) -> None:
    drop(place, "face.jpg", jpeg("sad", 1))
    folders = {name: place.root / name for name in ("inbox", "happy", "sad", "failed")}
    settings = Settings(**folders, database=str(place.database), faces=False)
    serve(settings, make_folders(settings), Reporter(), threading.Event(), once=True)
    assert place.row("face.jpg")["decided_by"] == "whole_image"
    assert place.rows("faces") == []


def test_a_destination_that_vanishes_and_comes_back(place: Place) -> None:
    with Service(place) as service:
        service.wait_until_ready()
        for folder in (place.happy, place.sad):
            folder.rmdir()
        drop(place, "a.jpg", jpeg())
        service.wait_for(lambda: "cannot go on" in service.said(), "it says that it waits")
        assert (place.inbox / "a.jpg").exists()
        for folder in (place.happy, place.sad):
            folder.mkdir()
        service.wait_drained(1)
        assert service.said().count("cannot go on") == 1
        assert service.stop() == 0


def test_a_stop_while_it_waits_for_a_disk(place: Place) -> None:
    with Service(place) as service:
        service.wait_until_ready()
        for folder in (place.happy, place.sad):
            folder.rmdir()
        for n in range(100):
            drop(place, f"{n}.jpg", jpeg("happy", n % 5))
        service.wait_for(lambda: "cannot go on" in service.said(), "it says that it waits")
        assert service.stop() == 0
        assert "Stopped: " in service.said()
    assert len(place.files(place.inbox)) == 100
    with Service(place, "--settle-seconds", "0.2") as second:
        second.wait_drained(100)
        assert second.stop() == 0


def test_a_locked_database_is_waited_for_and_does_not_hinder_a_stop(place: Place) -> None:
    with Service(place) as service:
        service.wait_until_ready()
        other = sqlite3.connect(place.database, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        drop(place, "a.jpg", jpeg())
        service.wait_for(lambda: "cannot go on" in service.said(), "it says that it waits")
        other.execute("ROLLBACK")
        service.wait_drained(1)
        other.execute("BEGIN IMMEDIATE")
        drop(place, "b.jpg", jpeg())
        service.wait_for(lambda: service.said().count("cannot go on") == 2, "it waits again")
        assert service.stop() == 0
        other.close()
    assert (place.inbox / "b.jpg").exists()


def test_sort_files_what_lies_there_and_exits(place: Place) -> None:
    drop(place, "a.jpg", jpeg("happy", 1))
    drop(place, "sub/b.jpg", jpeg("sad", 1))
    drop(place, "c.jpg", b"no image")
    dropped = place.contents()
    done = moodsort("sort", place.inbox, *place.destinations())
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("Done: ")
    assert done.stdout.splitlines()[-1].endswith(", 1 failed.")
    assert done.stderr == ""
    place.assert_promise(dropped)
    assert [p for p in place.inbox.iterdir() if p.is_file()] == []


def test_nothing_that_it_makes_may_be_written_by_everybody(place: Place) -> None:
    (place.inbox / "deep").mkdir()
    (place.inbox / "deep" / "a.jpg").write_bytes(jpeg())
    home = place.root / "new" / "folders"
    folders = [f"--{name}={home / name}" for name in ("happy", "sad", "failed")]
    database = f"--database={place.root / 'other' / 'new' / 'moodsort.db'}"
    done = moodsort("sort", place.inbox, *folders, database, umask=0)
    assert done.returncode == 0, done.stderr
    made = [path for top in ("new", "other") for path in (place.root / top).rglob("*")]
    made += [place.root / "new", place.root / "other"]
    assert home / "happy" / "deep" / "a.jpg" in made
    assert [path for path in made if path.stat().st_mode & 0o002] == []


def test_sort_that_cannot_work_says_so(place: Place) -> None:
    assert moodsort("sort", place.root / "none").returncode == 2
    done = moodsort("sort", place.inbox, "--happy", place.inbox / "happy")
    assert done.returncode == 78
    assert "must not lie inside the inbox" in done.stderr


def test_once_ready_it_is_idle(service: Service) -> None:
    """No busy waiting: an idle service uses next to no processor time."""

    def ticks() -> int:
        fields = Path(f"/proc/{service.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    threading.Event().wait(2)
    assert ticks() - before < 0.5 * os.sysconf("SC_CLK_TCK")


def test_wait_until_is_patient_but_not_for_ever() -> None:
    with pytest.raises(AssertionError, match="in vain until never"):
        wait_until(lambda: False, "never", timeout=0.05)
