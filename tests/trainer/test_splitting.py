from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.faces import draw_face, draw_folder
from tests.helpers import encoded, jpeg
from trainer.cleaning import CleanData, clean
from trainer.dataset import PARTS, Example, find_examples
from trainer.errors import DataError
from trainer.image import InputSpec
from trainer.splitting import fingerprint, split

SHARES = (0.7, 0.2, 0.1)


def cleaned(folder: Path, tmp_path: Path, examples: list[Example] | None = None) -> CleanData:
    examples = find_examples(folder) if examples is None else examples
    return clean(examples, InputSpec(64, 64, 1), tmp_path / "pixels.npy", workers=2)


def sides(data: CleanData, group_by: str | None = None) -> dict[str, str]:
    """Which part each content is in."""
    pattern = re.compile(group_by) if group_by else None
    parts = split(data, SHARES, pattern)
    return {data.sha256s[i]: part for part in PARTS for i in parts[part]}


def test_an_image_stays_on_its_side_whatever_is_added(data: Path, tmp_path: Path) -> None:
    before = sides(cleaned(data, tmp_path))
    draw_folder(data, 60, seed=9)
    renamed = next(iter((data / "happy").iterdir()))
    renamed.rename(renamed.with_name("zzz.jpg"))
    after = sides(cleaned(data, tmp_path))
    assert before.items() <= after.items()
    counts = Counter(after.values())
    assert counts["train"] > counts["validation"] > counts["test"] > 0


def test_order_does_not_matter(data: Path, tmp_path: Path) -> None:
    examples = find_examples(data)
    one = cleaned(data, tmp_path, examples)
    assert sides(one) == sides(cleaned(data, tmp_path, examples[::-1]))
    everything = np.arange(len(one.examples))
    assert fingerprint(one, everything) == fingerprint(one, everything[::-1])
    assert fingerprint(one, everything) != fingerprint(one, everything[1:])


def test_a_group_is_never_torn_apart(tmp_path: Path) -> None:
    for mood in ("happy", "sad"):
        (tmp_path / "data" / mood).mkdir(parents=True)
        for person in range(40):
            for shot in range(2):
                name = f"person{person}_{shot}.jpg"
                seed = person * 10 + shot
                (tmp_path / "data" / mood / name).write_bytes(jpeg(mood, seed, (32, 32)))
    data = cleaned(tmp_path / "data", tmp_path)
    side = sides(data, r"^(.+)_\d+")
    people: dict[str, set[str]] = {}
    for example, digest in zip(data.examples, data.sha256s, strict=True):
        people.setdefault(example.path.name.split("_")[0], set()).add(side[digest])
    assert all(len(found) == 1 for found in people.values())
    assert len({next(iter(found)) for found in people.values()}) == 3


def test_near_duplicates_are_never_parted(data: Path, tmp_path: Path) -> None:
    for n in range(25):
        face = draw_face(random.Random(500 + n), "sad", (128, 128))
        for quality in (95, 70, 40):
            path = data / "sad" / f"near-{n}-{quality}.jpg"
            path.write_bytes(encoded(face, "JPEG", quality=quality))
    got = cleaned(data, tmp_path)
    side = sides(got)
    found: dict[str, set[str]] = {}
    for example, digest in zip(got.examples, got.sha256s, strict=True):
        if example.path.name.startswith("near-"):
            found.setdefault(example.path.name.split("-")[1], set()).add(side[digest])
    assert len(found) == 25
    assert all(len(parts) == 1 for parts in found.values())
    assert len(set.union(*found.values())) > 1


def test_folders_that_divide_the_data_are_followed(tmp_path: Path) -> None:
    draw_folder(tmp_path / "train", 30, seed=1)
    draw_folder(tmp_path / "test", 10, seed=2)
    data = cleaned(tmp_path, tmp_path)
    parts = split(data, SHARES)
    for name, indices in parts.items():
        folders = {data.examples[i].path.parts[-3] for i in indices}
        assert folders == ({"test"} if name == "test" else {"train"})
    assert len(parts["train"]) > len(parts["validation"]) > 0
    assert len(parts["test"]) == 20

    draw_folder(tmp_path / "validation", 5, seed=3)
    data = cleaned(tmp_path, tmp_path)
    parts = split(data, SHARES)
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 60,
        "validation": 10,
        "test": 20,
    }


def test_what_looks_like_a_test_image_is_not_trained_on(tmp_path: Path) -> None:
    draw_folder(tmp_path / "train", 30, seed=1)
    draw_folder(tmp_path / "test", 10, seed=2)
    face = draw_face(random.Random(9), "happy", (128, 128))
    (tmp_path / "train" / "happy" / "leak.jpg").write_bytes(encoded(face, "JPEG", quality=50))
    (tmp_path / "test" / "happy" / "seen.jpg").write_bytes(encoded(face, "JPEG", quality=95))
    data = cleaned(tmp_path, tmp_path)
    used = {data.examples[i].path.name for part in split(data, SHARES).values() for i in part}
    assert "seen.jpg" in used
    assert "leak.jpg" not in used


def test_a_part_with_one_class_is_refused(tmp_path: Path) -> None:
    draw_folder(tmp_path / "data", 12, seed=1)
    with pytest.raises(DataError, match="part of the split has images of one class"):
        split(cleaned(tmp_path / "data", tmp_path), (0.98, 0.01, 0.01))


def test_what_is_no_data_set_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no folder"):
        find_examples(tmp_path / "none")
    (tmp_path / "happy").mkdir()
    with pytest.raises(DataError, match="sad/ is missing"):
        find_examples(tmp_path)
    (tmp_path / "sad").mkdir()
    with pytest.raises(DataError, match="holds no files"):
        find_examples(tmp_path)
