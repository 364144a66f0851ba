"""Whatever a file is called, its destination is a good one."""

from __future__ import annotations

import os
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.naming import BIDI_CONTROLS, Wanted, choose_destinations, clean_name

FAST = settings(max_examples=300, deadline=None, database=None, derandomize=True)
FEWER = settings(FAST, max_examples=100)

ANY_BYTES = st.binary(min_size=1, max_size=255)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=255).map(
    lambda text: text.encode()[:255]
)
PART = (
    (ANY_BYTES | ANY_TEXT | st.binary(min_size=1, max_size=251).map(lambda name: name + b".jpg"))
    .map(lambda name: name.replace(b"/", b"|").replace(b"\0", b"|"))
    .filter(lambda name: name not in (b".", b".."))
)
RELATIVE = st.lists(PART, min_size=1, max_size=4).map(
    lambda parts: Path(os.fsdecode(b"/".join(parts)))
)


def is_good(name: str) -> bool:
    """Printable text that a file system takes, and not the way to another folder."""
    return (
        0 < len(name.encode()) <= 255
        and name not in (".", "..")
        and "/" not in name
        and not BIDI_CONTROLS.search(name)
        and not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name)
    )


@FAST
@given(RELATIVE)
def test_a_clean_name_is_good_and_stays_where_it_is(relative: Path) -> None:
    cleaned = clean_name(relative)
    assert not cleaned.is_absolute()
    assert len(cleaned.parts) == len(relative.parts)
    assert all(is_good(part) for part in cleaned.parts)
    assert clean_name(cleaned) == cleaned
    assert clean_name(relative) == cleaned


@FAST
@given(st.text(st.characters(categories=["L", "N", "P", "Zs"]), min_size=1, max_size=60))
def test_what_is_good_is_kept(name: str) -> None:
    name = name.replace("/", "|")
    if name not in (".", ".."):
        assert str(clean_name(Path(name))) == name


SHORT = st.sampled_from(["a", "a.jpg", "b.jpg", "x" * 255, "x" * 251 + ".jpg", "é" * 127, ".b"])
WANTED = st.lists(SHORT, min_size=1, max_size=3).map(lambda parts: Path(*parts))


@FEWER
@given(
    wanted=st.dictionaries(st.integers(1, 10**12), WANTED, max_size=12),
    in_rows=st.sets(WANTED, max_size=4),
    on_disk=st.sets(SHORT, max_size=4),
)
def test_destinations_are_free_apart_and_inside(
    wanted: dict[int, Path], in_rows: set[Path], on_disk: set[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in on_disk:
            (root / name).touch()
        rows = {root / path for path in in_rows}
        asked = [Wanted(id, root, root / path) for id, path in wanted.items()]
        chosen = choose_destinations(asked, lambda paths: rows & set(paths))
        assert chosen.keys() == wanted.keys()
        assert len(set(chosen.values())) == len(chosen)
        assert choose_destinations(asked, lambda paths: rows & set(paths)) == chosen
        for id, path in chosen.items():
            relative = path.relative_to(root)
            assert all(is_good(part) for part in relative.parts)
            assert len(relative.parts) == len(wanted[id].parts)
            assert path not in rows
            assert not os.path.lexists(path)
            assert str(id) in str(relative) or relative == wanted[id]


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        (b"plain.jpg", "plain.jpg"),
        ("Frühling in 東京 👩‍👧.jpg".encode(), "Frühling in 東京 👩‍👧.jpg"),
        (b"-rf.jpg", "-rf.jpg"),
        (b"sp ace 'q\".jpg", "sp ace 'q\".jpg"),
        (b"new\nline.jpg", "new_line.jpg"),
        (b"\xff\xfe-bytes.jpg", "__-bytes.jpg"),
        ("rtl\u202egpj.jpg".encode(), "rtl_gpj.jpg"),
        (b"x" * 251 + b".jpg", "x" * 251 + ".jpg"),
        (b"\xff" * 251 + b".jpg", "_" * 251 + ".jpg"),
    ],
)
def test_names_are_cleaned_no_more_than_needed(name: bytes, cleaned: str) -> None:
    assert str(clean_name(Path(os.fsdecode(name)))) == cleaned


def nothing_taken(paths: object) -> set[Path]:
    return set()


def test_a_free_name_is_kept_and_a_used_one_gets_the_id(tmp_path: Path) -> None:
    (tmp_path / "on-disk.jpg").touch()
    (tmp_path / "both.jpg").touch()
    (tmp_path / "both-3.jpg").touch()
    names = {1: "free.jpg", 2: "on-disk.jpg", 3: "both.jpg", 4: "free.jpg", 5: "in-db.jpg"}
    chosen = choose_destinations(
        [Wanted(id, tmp_path, tmp_path / name) for id, name in names.items()],
        lambda paths: {tmp_path / "in-db.jpg"} & set(paths),
    )
    assert {id: path.name for id, path in chosen.items()} == {
        1: "free.jpg",
        2: "on-disk-2.jpg",
        3: "both-3-2.jpg",
        4: "free-4.jpg",
        5: "in-db-5.jpg",
    }


def test_many_files_with_the_names_of_folders_on_the_way(tmp_path: Path) -> None:
    """Of the longest names, where only the end differs; strangers may choose them."""
    for name in ("x" * 255, "x" * 253 + "-7", "x" * 251 + "-7-2"):
        (tmp_path / name).touch()
    wanted = Wanted(7, tmp_path, tmp_path / ("x" * 255) / "a.jpg")
    chosen = choose_destinations([wanted], nothing_taken)[7]
    assert chosen == tmp_path / ("x" * 251 + "-7-3") / "a.jpg"


@pytest.mark.parametrize("name", ["x" * 251 + ".jpg", "ü" * 125 + ".jpeg", "x." + "y" * 250])
def test_a_long_name_has_room_for_the_id(tmp_path: Path, name: str) -> None:
    wanted = tmp_path / name
    wanted.touch()
    chosen = choose_destinations([Wanted(123456, tmp_path, wanted)], nothing_taken)[123456]
    chosen.touch()
    assert "-123456" in chosen.name
    assert len(os.fsencode(chosen.name)) <= 255
