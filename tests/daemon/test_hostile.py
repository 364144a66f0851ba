"""Odd names, odd kinds of files, and files that change at the wrong moment."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from tests.daemon.disturbed import as_nobody, at_the_first_decoding, disturb
from tests.daemon.test_pipeline import Line
from tests.helpers import Place, Service, encoded, jpeg, sha256
from trainer.bundle import Bundle


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    place = Place(tmp_path_factory.mktemp("hostile"))
    with Service(place, "--settle-seconds", "0.2") as running:
        yield running.wait_until_ready()
        assert running.stop() == 0, running.said()


def drop(service: Service, names: list[bytes]) -> dict[bytes, dict]:
    """The closed rows of a file of each name, by name."""
    for n, name in enumerate(names):
        path = service.place.inbox / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg("happy", n))
    paths = {name: os.fsencode(service.place.inbox) + b"/" + name for name in names}

    def rows() -> dict[bytes, dict] | None:
        closed = {
            row["source_path_raw"] or row["source_path"].encode(): dict(row)
            for row in service.place.rows()
            if row["state"] in ("filed", "failed")
        }
        found = {name: closed[path] for name, path in paths.items() if path in closed}
        return found if len(found) == len(names) else None

    return service.wait_for(rows, "all are filed")


ODD = {
    b"new\nline.jpg": "new_line.jpg",
    b" sp ace 'q\".jpg": " sp ace 'q\".jpg",
    b"-rf.jpg": "-rf.jpg",
    b"--help": "--help",
    b"$(touch x);.jpg": "$(touch x);.jpg",
    b"back\\slash.jpg": "back\\slash.jpg",
    b"esc\x1b[31m.jpg": "esc_[31m.jpg",
    b"\xff\xfe.jpg": "__.jpg",
    "rtl\u202egpj.jpg".encode(): "rtl_gpj.jpg",
    b"x" * 251 + b".jpg": "x" * 251 + ".jpg",
    b"\xff" * 251 + b".jpg": "_" * 251 + ".jpg",
    "é".encode() * 127: "é" * 127,
    b"Case.jpg": "Case.jpg",
    b"case.JPG": "case.JPG",
    b"case.jpg": "case.jpg",
    b"no suffix": "no suffix",
}


def test_odd_names(service: Service) -> None:
    for name, row in drop(service, list(ODD)).items():
        destination = Path(row["destination_path"])
        assert destination.name == ODD[name]
        assert destination.parent in (service.place.happy, service.place.sad)
        assert sha256(destination.read_bytes()) == row["sha256"]


def test_a_hundred_levels_of_folders(service: Service) -> None:
    deep = b"/".join([b"d"] * 100) + b"/a.jpg"
    [row] = drop(service, [deep]).values()
    assert row["destination_path"].endswith("/d" * 100 + "/a.jpg")
    assert Path(row["destination_path"]).exists()


def test_only_regular_files_are_taken(service: Service) -> None:
    place = service.place
    secret = place.root / "secret"
    secret.mkdir()
    (secret / "secret.jpg").write_bytes(jpeg("sad", 1))
    (place.inbox / "folder.jpg").mkdir()
    before = len(place.rows())
    targets = {
        "file": secret / "secret.jpg",
        "folder-outside": secret,
        "outside": Path("/etc/passwd"),
        "nowhere": Path("nowhere"),
        "loop": Path("loop.jpg"),
    }
    for name, target in targets.items():
        (place.inbox / f"{name}.jpg").symlink_to(target)
    os.mkfifo(place.inbox / "fifo.jpg")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(place.inbox / "socket.jpg"))
    special = [*targets, "fifo", "socket"]
    if os.geteuid() == 0:
        os.mknod(place.inbox / "device.jpg", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        special.append("device")

    def reported() -> Counter[str]:
        lines = [line for line in service.said().splitlines() if "left alone" in line]
        return Counter(name for name in special for line in lines if f"/{name}.jpg" in line)

    service.wait_for(lambda: len(reported()) == len(special), "all are reported")
    drop(service, [b"folder.jpg/within.jpg"])
    assert set(reported().values()) == {1}
    assert len(place.rows()) == before + 1
    assert (secret / "secret.jpg").exists()
    for name in special:
        assert os.path.lexists(place.inbox / f"{name}.jpg")
        (place.inbox / f"{name}.jpg").unlink()


def test_hard_links_are_files_of_their_own(service: Service) -> None:
    place = service.place
    outside = place.root / "outside.jpg"
    outside.write_bytes(jpeg("sad", 2))
    before = len(place.rows())
    for name in ("one.jpg", "two.jpg"):
        os.link(outside, place.inbox / name)
    service.wait_for(
        lambda: [row["state"] for row in place.rows()[before:]] == ["filed"] * 2, "both are filed"
    )
    destinations = [Path(row["destination_path"]) for row in place.rows()[before:]]
    assert {path.name for path in destinations} == {"one.jpg", "two.jpg"}
    assert all(path.read_bytes() == outside.read_bytes() for path in destinations)


def test_all_of_the_promise(service: Service) -> None:
    rows = service.place.rows()
    service.place.assert_promise(Counter(row["sha256"] for row in rows))


@pytest.fixture
def line(place: Place, shipped: Bundle) -> Line:
    return Line(place, shipped)


def test_right_images_with_wrong_names(line: Line, place: Place) -> None:
    line.drop("page.html", jpeg())
    line.drop("photo.jpg", encoded(Image.new("RGB", (9, 9)), "PNG"))
    line.drop("no suffix", jpeg("sad"))
    line.run()
    formats = {Path(row["source_path"]).name: row["format"] for row in place.rows()}
    assert formats == {"page.html": "JPEG", "photo.jpg": "PNG", "no suffix": "JPEG"}
    assert {row["state"] for row in place.rows()} == {"filed"}


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that any user may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_file_that_may_not_be_read(
    open_to_all: Path, shipped: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    disturb(monkeypatch, as_nobody)
    place = Place(open_to_all / "place")
    line = Line(place, shipped)
    line.drop("secret.jpg", jpeg()).chmod(0)
    line.drop("open.jpg", jpeg("sad"))
    line.run()
    row = place.row("secret.jpg")
    assert (row["state"], row["error_code"], row["sha256"]) == ("failed", "unreadable", None)
    assert (place.failed / "secret.jpg").stat().st_size == len(jpeg())
    assert place.row("open.jpg")["state"] == "filed"


def test_an_immutable_file_stays_and_the_rest_goes_on(
    line: Line, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = line.drop("stuck.jpg", jpeg())
    line.drop("other.jpg", jpeg("sad"))
    if subprocess.run(["chattr", "+i", stuck], capture_output=True, check=False).returncode:
        pytest.skip("files cannot be made immutable here")
    try:
        line.run()
    finally:
        subprocess.run(["chattr", "-i", stuck], check=True)
    assert stuck.read_bytes() == jpeg()
    assert [Path(row["source_path"]).name for row in place.rows()] == ["other.jpg"]
    assert [path.name for path in place.filed()] == ["other.jpg"]
    assert caplog.text.count("left alone: it may not be moved away") == 1


def test_a_file_that_is_removed_while_it_is_read(
    line: Line, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = line.drop("a.jpg", jpeg())
    disturb(monkeypatch, at_the_first_decoding(path.unlink))
    line.run()
    assert (place.rows(), place.filed(), place.files(place.inbox)) == ([], [], [])


def test_a_file_that_is_replaced_while_it_is_read(
    line: Line, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = line.drop("a.jpg", jpeg()), place.root / "other"
    other.write_bytes(jpeg("sad", 5, (120, 90)))
    disturb(monkeypatch, at_the_first_decoding(partial(other.rename, path)))
    line.run()
    place.assert_promise(Counter([sha256(jpeg("sad", 5, (120, 90)))]))


def test_a_file_that_is_written_to_while_it_is_read(
    line: Line, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = line.drop("a.jpg", jpeg())
    writing = partial(path.write_bytes, jpeg("sad", 6))
    disturb(monkeypatch, at_the_first_decoding(writing))
    line.run()
    place.assert_promise(Counter([sha256(jpeg("sad", 6))]))


def test_a_folder_that_takes_the_name_of_a_file(
    line: Line, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = line.drop("a.jpg", jpeg())
    disturb(monkeypatch, at_the_first_decoding(partial(_become_a_folder, path)))
    line.run()
    place_after = [file.relative_to(place.inbox) for file in place.files(place.inbox)]
    assert place_after == [Path("a.jpg/within.jpg")]
    assert (place.rows(), place.filed()) == ([], [])


def _become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "within.jpg").write_bytes(jpeg("sad", 7))


def test_a_folder_that_is_swapped_for_a_link_while_it_is_read(
    line: Line, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    album, outside = place.inbox / "album", place.root / "outside"
    album.mkdir()
    for n in range(20):
        line.drop(f"album/{n}.jpg", jpeg("sad", n))
    disturb(monkeypatch, at_the_first_decoding(partial(_swap_for_a_link, album, outside)))
    line.run()
    assert len(place.files(outside)) == 20
    assert (place.rows(), place.filed()) == ([], [])


def _swap_for_a_link(folder: Path, outside: Path) -> None:
    folder.rename(outside)
    folder.symlink_to(outside)
