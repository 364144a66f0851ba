from __future__ import annotations

import json
import random
import resource
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from daemon.cli import main
from tests.faces import draw_face, draw_folder
from tests.helpers import encoded, jpeg
from trainer.bundle import Bundle
from trainer.cleaning import CleanData, clean, require_enough
from trainer.crops import crops
from trainer.dataset import find_examples
from trainer.errors import DataError, TrainerError
from trainer.image import InputSpec, View, decode

SPEC = InputSpec(64, 64, 1)


@pytest.fixture
def flawed(data: Path) -> Path:
    """Faces with one flaw of each kind."""
    (data / "happy" / "a-text.jpg").write_bytes(b"no image")
    tiny = Image.new("L", (8, 8))
    (data / "happy" / "a-tiny.png").write_bytes(encoded(tiny, "PNG"))
    for name in ("a-copy.jpg", "b-copy.jpg"):
        (data / "happy" / name).write_bytes(jpeg("happy", 1))
    for mood in ("happy", "sad"):
        (data / mood / "both.jpg").write_bytes(jpeg("sad", 2))
    face = draw_face(random.Random(77), "sad", (300, 300))
    (data / "sad" / "near-large.jpg").write_bytes(encoded(face, "JPEG", quality=95))
    small = encoded(face.resize((120, 120)), "JPEG", quality=50)
    (data / "sad" / "near-small.jpg").write_bytes(small)
    return data


FLAWS = {
    ("a-text.jpg", "not_an_image"): 1,
    ("a-tiny.png", "too_small"): 1,
    ("b-copy.jpg", "duplicate"): 1,
    ("both.jpg", "conflict"): 2,
    ("near-small.jpg", "near_duplicate"): 1,
}


def cleaned(folder: Path, tmp_path: Path) -> CleanData:
    return clean(find_examples(folder), SPEC, tmp_path / "pixels.npy", workers=2)


def test_good_images_are_kept_with_their_labels(data: Path, tmp_path: Path) -> None:
    got = cleaned(data, tmp_path)
    assert Counter(got.labels.tolist()) == {0: 30, 1: 30}
    assert got.pixels.shape == (60, 64, 64, 1)
    for example, label in zip(got.examples, got.labels, strict=True):
        assert (example.path.parent.name == "sad") == bool(label)
    assert got.flagged == []
    require_enough(got)


def test_each_flaw_is_found(flawed: Path, tmp_path: Path) -> None:
    got = cleaned(flawed, tmp_path)
    assert Counter((f.example.path.name, f.code) for f in got.flagged) == FLAWS
    names = [example.path.name for example in got.examples]
    assert len(names) == len(got.pixels) == 63
    assert not {"a-text.jpg", "a-tiny.png", "b-copy.jpg", "both.jpg"} & set(names)


def test_near_duplicates_share_a_group_and_others_do_not(flawed: Path, tmp_path: Path) -> None:
    got = cleaned(flawed, tmp_path)
    group = {e.path.name: g for e, g in zip(got.examples, got.groups.tolist(), strict=True)}
    assert group["near-large.jpg"] == group["near-small.jpg"]
    assert len(set(group.values())) == len(group) - 1


def test_nearly_the_same_with_both_labels_is_told(data: Path, tmp_path: Path) -> None:
    face = draw_face(random.Random(78), "sad", (300, 300))
    (data / "sad" / "one.jpg").write_bytes(encoded(face, "JPEG", quality=95))
    (data / "happy" / "other.jpg").write_bytes(encoded(face, "JPEG", quality=60))
    flaws = {(f.example.path.name, f.code) for f in cleaned(data, tmp_path).flagged}
    assert flaws == {("one.jpg", "near_conflict"), ("other.jpg", "near_conflict")}


def test_pixels_belong_to_their_files_after_gaps_are_closed(data: Path, tmp_path: Path) -> None:
    before = cleaned(data, tmp_path)
    expected = {e.path: x.copy() for e, x in zip(before.examples, before.pixels, strict=True)}
    (data / "happy" / "0-broken.jpg").write_bytes(b"no image")
    after = cleaned(data, tmp_path)
    assert len(after.examples) == 60
    for example, pixels in zip(after.examples, after.pixels, strict=True):
        assert np.array_equal(pixels, expected[example.path])


def test_with_a_finder_the_largest_face_is_kept_and_else_the_whole(
    shipped: Bundle, tmp_path: Path
) -> None:
    assert shipped.faces
    group = Image.new("RGB", (400, 300), "gray")
    group.paste(draw_face(random.Random(1), "sad", (100, 100)), (20, 20))
    group.paste(draw_face(random.Random(2), "happy", (200, 200)), (180, 80))
    for mood, image in (("happy", group), ("sad", Image.linear_gradient("L"))):
        (tmp_path / "data" / mood).mkdir(parents=True)
        (tmp_path / "data" / mood / "a.png").write_bytes(encoded(image, "PNG"))
    examples = find_examples(tmp_path / "data")
    finder = shipped.faces.finder
    got = clean(examples, SPEC, tmp_path / "pixels.npy", workers=1, finder=finder)
    view = View(SPEC, finder.photo_side)
    people, scene = (decode(example.path.read_bytes(), view) for example in examples)
    [sight] = finder.find([people])
    largest = sight.faces[[int(sight.faces.sides.argmax())]]
    assert largest.boxes[0].mean() == pytest.approx(240 / sight.scale, abs=25)
    assert np.array_equal(got.pixels[0], crops(sight.photo, largest, SPEC)[0])
    assert np.array_equal(got.pixels[1], scene.pixels)


def test_a_copy_of_a_test_image_is_not_trained_on(tmp_path: Path) -> None:
    for part in ("train", "test"):
        draw_folder(tmp_path / part, 12, seed=1)
    got = cleaned(tmp_path, tmp_path)
    assert {example.parts for example in got.examples} == {("test",)}
    assert {f.code for f in got.flagged} == {"duplicate"}


def test_a_disk_without_room_for_the_pixels_is_a_sentence(data: Path, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(TrainerError, match=r"has no room for the decoded images, 0 MB: File"):
            cleaned(data, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_next_to_nothing_is_refused(tmp_path: Path) -> None:
    draw_folder(tmp_path, 3, seed=1)
    with pytest.raises(DataError, match="Only 3 good images of class happy"):
        require_enough(cleaned(tmp_path, tmp_path))


@pytest.fixture(autouse=True)
def _somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def run(*args: str | Path) -> str:
    result = CliRunner().invoke(main, ["clean", *map(str, args)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_report_lists_conflicts_first_and_moves_nothing(flawed: Path) -> None:
    before = sorted(flawed.rglob("*"))
    told = json.loads(run(flawed, "--json"))
    assert told["classes"] == {"happy": 31, "sad": 32}
    assert [f["code"] for f in told["flagged"]][:2] == ["conflict", "conflict"]
    assert Counter((Path(f["path"]).name, f["code"]) for f in told["flagged"]) == FLAWS
    assert sorted(flawed.rglob("*")) == before
    lines = run(flawed).splitlines()
    assert lines[0].split(maxsplit=1) == ["31", "good images of class happy"]
    with Image.open("flagged.png") as sheet:
        assert sheet.width == 960


def test_apply_moves_aside_and_deletes_nothing(flawed: Path) -> None:
    names = Counter(p.name for p in flawed.rglob("*") if p.is_file())
    aside = flawed.with_name("data-set-aside")
    assert json.loads(run(flawed, "--apply", "--json"))["moved"] == 6
    assert (aside / "conflict" / "sad" / "both.jpg").is_file()
    assert (aside / "near_duplicate" / "sad" / "near-small.jpg").is_file()
    again = json.loads(run(flawed, "--json"))
    assert again["flagged"] == []
    left = Counter(p.name for f in (flawed, aside) for p in f.rglob("*") if p.is_file())
    assert left == names


def test_apply_twice_replaces_nothing(flawed: Path) -> None:
    run(flawed, "--apply")
    (flawed / "happy" / "a-text.jpg").write_bytes(b"another that is no image")
    run(flawed, "--apply")
    moved = flawed.with_name("data-set-aside") / "not_an_image" / "happy"
    assert {p.name for p in moved.iterdir()} == {"a-text.jpg", "a-text-2.jpg"}


def test_a_clean_data_set_needs_no_pictures(data: Path) -> None:
    assert "flagged" not in run(data)
    assert not Path("flagged.png").exists()


def test_a_sheet_that_cannot_be_written_is_a_sentence(flawed: Path) -> None:
    for sheet in ("none/sheet.png", "sheet.unknown"):
        result = CliRunner().invoke(main, ["clean", str(flawed), "--sheet", sheet])
        assert result.exit_code == 1
        assert result.stderr.startswith(f"Error: The sheet {sheet} cannot be written: ")
