from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import os
import resource
import stat
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon import descent, filing
from daemon.filing import Move, Outcome, place
from daemon.identity import identity
from daemon.naming import Wanted, choose_destinations
from tests.helpers import sha256

DATA = b"some bytes"
RENAME_EXCHANGE = 2


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    source, destination = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    destination.mkdir()
    return source, destination


@pytest.fixture
def other_disk() -> Iterator[Path]:
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == Path.home().stat().st_dev:
        pytest.skip("there is no second file system at /dev/shm")
    with tempfile.TemporaryDirectory(dir=shared_memory) as folder:
        yield Path(folder)


def move(source: Path, destination: Path, root: Path | None = None, data: bytes = DATA) -> Move:
    if not source.exists():
        source.write_bytes(data)
    found = source.stat()
    return Move(
        id=7,
        source=source,
        destination=destination,
        root=root or destination.parent,
        identity=identity(found),
        sha256=sha256(data),
    )


def the_outcome(move: Move) -> Outcome:
    return place([move])[move.id]


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_file_is_moved_with_its_bytes_and_times(folders: tuple[Path, Path]) -> None:
    source, destination = folders
    one = move(source / "a.jpg", destination / "sub" / "a.jpg", destination)
    assert the_outcome(one) is Outcome.DONE
    assert one.destination.read_bytes() == DATA
    assert one.destination.stat().st_mtime_ns == one.identity.mtime_ns
    assert files(source) == []


def test_across_file_systems_too(folders: tuple[Path, Path], other_disk: Path) -> None:
    one = move(folders[0] / "a.jpg", other_disk / "a.jpg")
    assert the_outcome(one) is Outcome.DONE
    assert one.destination.read_bytes() == DATA
    assert one.destination.stat().st_mtime_ns == one.identity.mtime_ns
    assert files(folders[0]) == []
    assert files(other_disk) == ["a.jpg"]


def test_nothing_is_ever_replaced(folders: tuple[Path, Path], other_disk: Path) -> None:
    for destination in (folders[1] / "a.jpg", other_disk / "a.jpg"):
        destination.write_bytes(b"was here first")
        one = move(folders[0] / "a.jpg", destination)
        assert the_outcome(one) is Outcome.OCCUPIED
        assert destination.read_bytes() == b"was here first"
        assert one.source.read_bytes() == DATA
        assert files(destination.parent) == ["a.jpg"]


def test_a_move_may_be_repeated_wherever_it_was_interrupted(
    folders: tuple[Path, Path], other_disk: Path
) -> None:
    source, destination = folders
    linked = move(source / "a.jpg", destination / "a.jpg")
    os.link(linked.source, linked.destination)
    assert the_outcome(linked) is Outcome.DONE
    assert files(source) == []
    assert the_outcome(linked) is Outcome.DONE

    copied = move(source / "b.jpg", other_disk / "b.jpg")
    (other_disk / ".moodsort-7.part").write_bytes(DATA)
    os.link(other_disk / ".moodsort-7.part", copied.destination)
    assert the_outcome(copied) is Outcome.DONE
    assert files(source) == []
    assert files(other_disk) == ["b.jpg"]

    begun = move(source / "c.jpg", other_disk / "c.jpg")
    (other_disk / ".moodsort-7.part").write_bytes(b"some")
    assert the_outcome(begun) is Outcome.DONE
    assert begun.destination.read_bytes() == DATA
    assert files(other_disk) == ["b.jpg", "c.jpg"]


def test_a_copy_that_finds_no_room_leaves_no_rest_and_says_where(
    folders: tuple[Path, Path], other_disk: Path
) -> None:
    one = move(folders[0] / "a.jpg", other_disk / "a.jpg", data=DATA * 1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # stands for a full disk
    try:
        with pytest.raises(OSError, match=str(other_disk)):
            place([one])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(other_disk) == []
    assert the_outcome(one) is Outcome.DONE


def test_another_file_under_the_old_name_is_left_alone(folders: tuple[Path, Path]) -> None:
    source, destination = folders
    one = move(source / "a.jpg", destination / "a.jpg")
    one.source.unlink()
    one.source.write_bytes(b"a new and other file")
    assert the_outcome(one) is Outcome.GONE
    assert one.source.exists()
    assert files(destination) == []

    one.destination.write_bytes(DATA)
    assert the_outcome(one) is Outcome.DONE
    assert one.source.read_bytes() == b"a new and other file"


def test_another_file_that_looks_the_same_is_not_removed(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when an archive with whole seconds is unpacked over a file that is just being filed."""
    source, destination = folders
    one = move(source / "a.jpg", destination / "a.jpg")
    link = os.link

    def link_and_replace(*args: Path, **options: bool) -> None:
        link(*args, **options)
        one.source.unlink()
        one.source.write_bytes(b"SOME BYTES")
        os.utime(one.source, ns=(one.identity.mtime_ns,) * 2)

    monkeypatch.setattr(filing.os, "link", link_and_replace)
    assert the_outcome(one) is Outcome.DONE
    assert one.destination.read_bytes() == DATA
    assert one.source.read_bytes() == b"SOME BYTES"


def test_a_file_that_is_written_to_on_the_way_stays(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, destination = folders
    one = move(source / "a.jpg", destination / "a.jpg")
    link = os.link

    def link_and_write(*args: Path, **options: bool) -> None:
        link(*args, **options)
        with one.source.open("ab") as file:
            file.write(b" and more")

    monkeypatch.setattr(filing.os, "link", link_and_write)
    assert the_outcome(one) is Outcome.GONE
    assert one.source.read_bytes() == DATA + b" and more"
    assert files(destination) == []


def test_a_file_that_is_open_for_writing_stays(folders: tuple[Path, Path]) -> None:
    one = move(folders[0] / "a.jpg", folders[1] / "a.jpg")
    with one.source.open("r+b"):
        assert the_outcome(one) is Outcome.GONE
    assert the_outcome(one) is Outcome.DONE


def test_a_time_that_no_database_takes(folders: tuple[Path, Path]) -> None:
    source = folders[0] / "a.jpg"
    source.write_bytes(DATA)
    os.utime(source, (10_413_792_000, 10_413_792_000))  # the year 2300
    one = move(source, folders[1] / "a.jpg")
    assert one.identity.mtime_ns < 2**63
    assert the_outcome(one) is Outcome.DONE


def test_a_file_with_the_name_of_a_folder_is_gone_around(tmp_path: Path) -> None:
    (tmp_path / "holiday").write_bytes(b"a file")
    wanted = tmp_path / "holiday" / "deep" / "a.jpg"
    chosen = choose_destinations([Wanted(7, tmp_path, wanted)], lambda paths: set())[7]
    assert chosen == tmp_path / "holiday-7" / "deep" / "a.jpg"
    (tmp_path / "in").mkdir()
    assert the_outcome(move(tmp_path / "in" / "a.jpg", wanted, tmp_path)) is Outcome.OCCUPIED
    assert the_outcome(move(tmp_path / "in" / "a.jpg", chosen, tmp_path)) is Outcome.DONE


def test_a_link_on_the_way_is_gone_around(tmp_path: Path) -> None:
    for name in ("in", "out", "outside/2024"):
        (tmp_path / name).mkdir(parents=True)
    root, outside = tmp_path / "out", tmp_path / "outside"
    (root / "holiday").symlink_to(outside)
    wanted = root / "holiday" / "2024" / "a.jpg"
    assert the_outcome(move(tmp_path / "in" / "a.jpg", wanted, root)) is Outcome.OCCUPIED
    chosen = choose_destinations([Wanted(7, root, wanted)], lambda paths: set())[7]
    assert chosen == root / "holiday-7" / "2024" / "a.jpg"
    assert the_outcome(move(tmp_path / "in" / "a.jpg", chosen, root)) is Outcome.DONE
    assert files(outside) == []


def test_a_link_in_place_of_a_destination_is_waited_for(folders: tuple[Path, Path]) -> None:
    one = move(folders[0] / "a.jpg", folders[1] / "a.jpg")
    outside = folders[1].rename(folders[1].parent / "outside")
    folders[1].symlink_to(outside)
    with pytest.raises(FileNotFoundError, match="A link or a file has taken its place"):
        place([one])
    assert files(outside) == []
    folders[1].unlink()
    outside.rename(folders[1])
    assert the_outcome(one) is Outcome.DONE


def test_what_lies_behind_a_link_is_no_file_of_the_inbox(folders: tuple[Path, Path]) -> None:
    source, destination = folders
    (source / "album").mkdir()
    one = move(source / "album" / "a.jpg", destination / "a.jpg")
    outside = (source / "album").rename(source.parent / "outside")
    (source / "album").symlink_to(outside)
    assert the_outcome(one) is Outcome.GONE
    assert files(outside) == ["a.jpg"]


@pytest.mark.parametrize("back", ["../outside/a.jpg", "sub/../../outside/a.jpg", ".."])
def test_no_path_leads_back_up(tmp_path: Path, back: str) -> None:
    for name in ("in", "out/sub", "outside"):
        (tmp_path / name).mkdir(parents=True)
    one = move(tmp_path / "in" / "a.jpg", tmp_path / "out" / back, tmp_path / "out")
    assert the_outcome(one) is Outcome.OCCUPIED
    assert files(tmp_path) == ["in/a.jpg"]


@contextlib.contextmanager
def swapped_for_links(*folders: Path) -> Iterator[None]:
    """Each folder and a link to a namesake outside take turns at its name, as fast as they can."""
    stop = threading.Event()

    def swap(folder: Path) -> None:
        link = folder.with_name("link")
        link.symlink_to(outside(folder))
        rename, here = ctypes.CDLL(None).renameat2, -100  # AT_FDCWD
        while not stop.is_set():
            assert rename(here, os.fsencode(folder), here, os.fsencode(link), RENAME_EXCHANGE) == 0

    threads = [threading.Thread(target=swap, args=[folder]) for folder in folders]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def outside(folder: Path) -> Path:
    return folder.parents[1] / f"outside-{folder.parent.name}"


def test_links_that_take_the_names_of_folders_at_any_moment(folders: tuple[Path, Path]) -> None:
    source, destination = (folder / "album" for folder in folders)
    for folder in (source, destination):
        folder.mkdir()
        outside(folder).mkdir()
    secret = move(outside(source) / "a.jpg", destination / "a.jpg", folders[1])
    one = dataclasses.replace(secret, source=source / "a.jpg")  # which is no different to look at
    outcomes: Counter[Outcome] = Counter()
    place_of_source, place_of_destination = (os.open(f, os.O_PATH) for f in (source, destination))
    with swapped_for_links(source, destination):
        while outcomes.total() < 200 or not outcomes.keys() >= {Outcome.DONE, Outcome.GONE}:
            with contextlib.suppress(FileExistsError):
                os.link(secret.source, "a.jpg", dst_dir_fd=place_of_source)
            with contextlib.suppress(OSError):
                outcomes[the_outcome(one)] += 1
            for folder in (place_of_source, place_of_destination):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink("a.jpg", dir_fd=folder)
    os.close(place_of_source)
    os.close(place_of_destination)
    assert files(outside(source)) == ["a.jpg"]
    assert files(outside(destination)) == []


def test_a_folder_that_is_moved_away_amid_a_batch(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, destination = folders
    album, elsewhere = destination / "album", destination / "elsewhere"
    moves = [
        dataclasses.replace(move(source / name, album / name, destination), id=id)
        for id, name in enumerate(("a.jpg", "b.jpg"))
    ]
    link = descent.link

    def link_and_move_away(path: Path, new: Path) -> None:
        link(path, new)
        monkeypatch.undo()
        album.rename(elsewhere)

    monkeypatch.setattr(descent, "link", link_and_move_away)
    with pytest.raises(FileNotFoundError, match="moved away"):
        place(moves)
    assert files(source) == ["a.jpg", "b.jpg"]
    assert set(place(moves).values()) == {Outcome.DONE}
    assert (files(source), files(album)) == ([], ["a.jpg", "b.jpg"])


def test_more_folders_than_files_may_be_open(folders: tuple[Path, Path]) -> None:
    source, destination = folders
    names = [f"{n}/a.jpg" for n in range(200)]
    for name in names:
        (source / name).parent.mkdir()
    moves = [
        dataclasses.replace(move(source / name, destination / name, destination), id=id)
        for id, name in enumerate(names)
    ]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 100, hard))
    try:
        assert set(place(moves).values()) == {Outcome.DONE}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_same_file_dropped_anew_after_an_interrupted_move_is_another_one(
    folders: tuple[Path, Path],
) -> None:
    """As when a copying program, restarted, brings the file with its time once more."""
    source, destination = folders
    one = move(source / "a.jpg", destination / "a.jpg")
    one.source.rename(one.destination)
    one.source.write_bytes(DATA)
    os.utime(one.source, ns=(one.identity.mtime_ns,) * 2)
    assert the_outcome(one) is Outcome.DONE
    assert one.source.read_bytes() == one.destination.read_bytes() == DATA


def test_a_copy_that_was_begun_does_not_stay_when_its_file_has_changed(
    folders: tuple[Path, Path], other_disk: Path
) -> None:
    one = move(folders[0] / "a.jpg", other_disk / "a.jpg")
    (other_disk / ".moodsort-7.part").write_bytes(b"some")
    one.source.write_bytes(b"another file by now")
    assert the_outcome(one) is Outcome.GONE
    assert files(other_disk) == []


def test_what_has_the_name_and_the_size_but_is_no_file_is_not_read(
    folders: tuple[Path, Path],
) -> None:
    one = move(folders[0] / "empty.jpg", folders[1] / "empty.jpg", data=b"")
    os.mkfifo(one.destination)
    assert the_outcome(one) is Outcome.OCCUPIED


def test_a_vanished_file_is_gone(folders: tuple[Path, Path]) -> None:
    one = move(folders[0] / "a.jpg", folders[1] / "a.jpg")
    one.source.unlink()
    assert the_outcome(one) is Outcome.GONE


def test_a_missing_destination_is_not_made(folders: tuple[Path, Path]) -> None:
    one = move(folders[0] / "a.jpg", folders[1] / "unmounted" / "a.jpg")
    with pytest.raises(FileNotFoundError):
        place([one])
    assert one.source.exists()
    one.root.mkdir()
    assert the_outcome(one) is Outcome.DONE


def test_where_the_kernel_guards_hard_links(home_of_nobody: Path) -> None:
    """As it does those to other users' files, if fs.protected_hardlinks is set."""
    if os.getuid() != 0 or Path("/proc/sys/fs/protected_hardlinks").read_text() != "1\n":
        pytest.skip("only root can make a file that the kernel guards, and it must be told to")
    source, destination = home_of_nobody / "in", home_of_nobody / "out"
    source.mkdir()
    destination.mkdir()
    for name, data in {"a.jpg": DATA, "b.jpg": b"another"}.items():
        one = move(source / name, destination / "a.jpg", data=data)
        os.seteuid(0)
        os.chown(one.source, 0, 0)
        os.seteuid(source.stat().st_uid)
        with pytest.raises(PermissionError):
            os.link(one.source, destination / "link")
        assert the_outcome(one) is (Outcome.DONE if data == DATA else Outcome.OCCUPIED)
    assert (destination / "a.jpg").read_bytes() == DATA
    assert (files(source), files(destination)) == (["b.jpg"], ["a.jpg"])


@pytest.fixture
def poor_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that neither knows hard links nor renames to free names alone, as of some clouds."""

    def refuse(*args: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(descent, "link", refuse)
    monkeypatch.setattr(descent, "rename_to_free", refuse)


@pytest.mark.usefixtures("poor_file_system")
def test_where_names_must_be_reserved(folders: tuple[Path, Path]) -> None:
    source, destination = folders
    one = move(source / "a.jpg", destination / "a.jpg")
    assert the_outcome(one) is Outcome.DONE
    assert one.destination.read_bytes() == DATA
    assert files(source) == []
    other = move(source / "b.jpg", destination / "a.jpg", data=b"another")
    assert the_outcome(other) is Outcome.OCCUPIED
    assert one.destination.read_bytes() == DATA
    assert files(destination) == ["a.jpg"]


@pytest.mark.usefixtures("poor_file_system")
@pytest.mark.parametrize("data", [DATA, b""])
def test_a_reserved_name_is_used_by_the_next_try(folders: tuple[Path, Path], data: bytes) -> None:
    """As when the service was killed between reserving a name and the renaming."""
    source, destination = folders
    one = move(source / "a.jpg", destination / "a.jpg", data=data)
    (destination / ".moodsort-7.name").touch()
    one.destination.touch()
    assert the_outcome(one) is Outcome.DONE
    assert one.destination.read_bytes() == data
    assert (files(source), files(destination)) == ([], ["a.jpg"])


def test_an_empty_file_of_somebody_else_is_not_taken_for_a_reserved_name(
    folders: tuple[Path, Path],
) -> None:
    one = move(folders[0] / "a.jpg", folders[1] / "a.jpg")
    one.destination.touch()
    (folders[1] / ".moodsort-8.name").touch()
    assert the_outcome(one) is Outcome.OCCUPIED
    assert one.source.read_bytes() == DATA
    assert one.destination.stat().st_size == 0


def test_a_copy_keeps_what_is_harmless_of_its_attributes(
    folders: tuple[Path, Path], other_disk: Path
) -> None:
    """A copy belongs to the service, which may be root: it must not run as that for everybody."""
    one = move(folders[0] / "a.jpg", other_disk / "sub" / "a.jpg", other_disk)
    one.source.chmod(0o7777)
    before = os.umask(0)
    try:
        assert the_outcome(one) is Outcome.DONE
    finally:
        os.umask(before)
    assert stat.S_IMODE(one.destination.stat().st_mode) == 0o775
    assert stat.S_IMODE(one.destination.parent.stat().st_mode) == 0o775


def test_a_file_in_a_protected_folder_stays(home_of_nobody: Path) -> None:
    source, destination = home_of_nobody / "in", home_of_nobody / "out"
    source.mkdir()
    destination.mkdir()
    one = move(source / "a.jpg", destination / "a.jpg")
    source.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert the_outcome(one) is Outcome.STUCK
    assert files(source) == ["a.jpg"]
    assert files(destination) == []


def test_an_unreadable_file_that_must_be_copied_stays(
    home_of_nobody: Path, other_disk: Path
) -> None:
    other_disk.chmod(0o777)
    one = move(home_of_nobody / "a.jpg", other_disk / "a.jpg")
    one.source.chmod(0)
    assert the_outcome(one) is Outcome.STUCK
    assert files(other_disk) == []
    one.source.chmod(stat.S_IRUSR)
    assert the_outcome(one) is Outcome.DONE


def test_a_destination_that_may_not_be_written_is_an_error(home_of_nobody: Path) -> None:
    destination = home_of_nobody / "out"
    destination.mkdir()
    one = move(home_of_nobody / "a.jpg", destination / "a.jpg")
    destination.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(PermissionError):
        place([one])
    destination.chmod(stat.S_IRWXU)
    assert the_outcome(one) is Outcome.DONE
