from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from daemon.cli import main
from tests.daemon.filed import filed
from tests.helpers import Place
from trainer.dataset import CLASSES


def say(place: Place, **labels: str) -> None:
    """What people said, by the stem of the name that a file was dropped under."""
    with sqlite3.connect(place.database) as link:
        for stem, label in labels.items():
            change = "UPDATE images SET corrected_label = ? WHERE source_path LIKE ?"
            assert link.execute(change, (label, f"%/{stem}.jpg")).rowcount == 1
    link.close()


def export(place: Place, *args: str | Path) -> Result:
    return CliRunner().invoke(
        main,
        ["export", *map(str, args)],
        env={"MOODSORT_DATABASE": str(place.database)},
    )


@pytest.fixture
def corrected(place: Place) -> dict[str, Path]:
    paths = {name: filed(place, "happy", f"{name}.jpg") for name in ("right", "wrong", "unseen")}
    say(place, right="happy", wrong="sad")
    return paths


def laid_out(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_corrected_images_are_linked_by_what_people_said(
    place: Place, corrected: dict[str, Path]
) -> None:
    folder = place.root / "data" / "set"
    result = export(place, "--corrections", folder)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"2 images in {folder}\n"
    assert laid_out(folder) == ["happy/right.jpg", "sad/wrong.jpg"]
    assert {path.name for path in folder.iterdir()} <= set(CLASSES)
    assert os.path.samefile(folder / "sad" / "wrong.jpg", corrected["wrong"])


def test_images_on_another_disk_are_copied(two_disks: Place) -> None:
    path = filed(two_disks, "happy")
    say(two_disks, a="sad")
    folder = two_disks.root / "data"
    assert export(two_disks, "--corrections", folder).exit_code == 0
    copy = folder / "sad" / "a.jpg"
    assert copy.read_bytes() == path.read_bytes()
    assert copy.stat().st_mtime_ns == path.stat().st_mtime_ns
    assert not os.path.samefile(copy, path)


def test_images_of_one_name_are_all_there(place: Place) -> None:
    names = ["x/same.jpg", "y/same.jpg", "3.jpg", "z/same.jpg"]
    for name in names:
        filed(place, "happy", name)
    with sqlite3.connect(place.database) as link:
        link.execute("UPDATE images SET corrected_label = 'sad'")
    link.close()
    folder = place.root / "data"
    assert export(place, "--corrections", folder).exit_code == 0
    assert laid_out(folder) == ["sad/2.jpg", "sad/3.jpg", "sad/4.jpg", "sad/same.jpg"]


def test_what_is_gone_is_counted(place: Place, corrected: dict[str, Path]) -> None:
    corrected["wrong"].unlink()
    result = export(place, "--corrections", place.root / "data")
    assert result.stdout == f"1 images in {place.root / 'data'}, 1 are not where they were\n"


def test_filters_hold_and_nothing_is_mixed(place: Place, corrected: dict[str, Path]) -> None:
    folder = place.root / "data"
    assert export(place, "--corrections", folder, "--path", "wrong*").exit_code == 0
    assert laid_out(folder) == ["sad/wrong.jpg"]
    again = export(place, "--corrections", folder)
    assert again.exit_code == 1
    assert "is not empty" in again.stderr
    for wrong in ((), ("out.csv", "--corrections", folder)):
        result = export(place, *wrong)
        assert result.exit_code == 2
        assert "either a FILE, or a DIR" in result.stderr
