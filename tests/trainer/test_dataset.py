from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.faces import draw_folder
from tests.helpers import jpeg
from trainer.dataset import (
    SPLITS,
    CleanData,
    Example,
    clean,
    find_examples,
    fingerprint,
    split,
)
from trainer.errors import DataError
from trainer.image import InputSpec

SPEC = InputSpec(16, 16, 1)
SHARES = (0.7, 0.2, 0.1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    draw_folder(folder, 30, seed=3)
    return folder


def cleaned(folder: Path, tmp_path: Path, examples: list[Example] | None = None) -> CleanData:
    examples = find_examples(folder) if examples is None else examples
    return clean(examples, SPEC, tmp_path / "pixels.npy", workers=2)


def sides(data: CleanData, group_by: str | None = None) -> dict[str, str]:
    """Which part each content is in."""
    pattern = re.compile(group_by) if group_by else None
    parts = split(data, SHARES, pattern)
    return {data.sha256s[i]: part for part in SPLITS for i in parts[part]}


def test_good_images_are_kept_with_their_labels(data: Path, tmp_path: Path) -> None:
    got = cleaned(data, tmp_path)
    assert Counter(got.labels.tolist()) == {0: 30, 1: 30}
    assert got.pixels.shape == (60, 16, 16, 1)
    assert all(
        (p.parent.name == "sad") == bool(y) for p, y in zip(got.paths, got.labels, strict=True)
    )
    assert not got.skipped


def test_bad_repeated_and_contradicting_images_are_left_out(data: Path, tmp_path: Path) -> None:
    (data / "happy" / "a-text.jpg").write_bytes(b"no image")
    (data / "happy" / "a-copy.jpg").write_bytes(jpeg("happy", 1))
    (data / "happy" / "b-copy.jpg").write_bytes(jpeg("happy", 1))
    for mood in ("happy", "sad"):
        (data / mood / "both.jpg").write_bytes(jpeg("sad", 2))
    got = cleaned(data, tmp_path)
    left_out = Counter((s.path.name, s.code) for s in got.skipped)
    assert left_out == {
        ("a-text.jpg", "not_an_image"): 1,
        ("b-copy.jpg", "duplicate"): 1,
        ("both.jpg", "conflict"): 2,
    }
    assert len(got.paths) == len(got.pixels) == 61
    at = [p.name for p in got.paths].index("a-copy.jpg")
    alone = cleaned(data, tmp_path / "..", find_examples(data)).pixels[at]
    assert np.array_equal(got.pixels[at], alone)


def test_pixels_belong_to_their_paths_after_gaps_are_closed(data: Path, tmp_path: Path) -> None:
    before = cleaned(data, tmp_path)
    expected = {p: x.copy() for p, x in zip(before.paths, before.pixels, strict=True)}
    (data / "happy" / "0-broken.jpg").write_bytes(b"no image")
    after = cleaned(data, tmp_path)
    for path, pixels in zip(after.paths, after.pixels, strict=True):
        assert np.array_equal(pixels, expected[path])


def test_an_image_stays_on_its_side_whatever_is_added(data: Path, tmp_path: Path) -> None:
    before = sides(cleaned(data, tmp_path))
    draw_folder(data, 60, seed=9)
    renamed = next(iter((data / "happy").iterdir()))
    renamed.rename(renamed.with_name("zzz.jpg"))
    after = sides(cleaned(data, tmp_path))
    assert before.items() <= after.items()
    shares = Counter(after.values())
    assert shares["train"] > shares["validation"] > shares["test"] > 0


def test_order_does_not_matter(data: Path, tmp_path: Path) -> None:
    examples = find_examples(data)
    one = cleaned(data, tmp_path, examples)
    assert sides(one) == sides(cleaned(data, tmp_path, examples[::-1]))
    everything = np.arange(len(one.paths))
    assert fingerprint(one, everything) == fingerprint(one, everything[::-1])


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
    for path, digest in zip(data.paths, data.sha256s, strict=True):
        people.setdefault(path.name.split("_")[0], set()).add(side[digest])
    assert all(len(found) == 1 for found in people.values())
    assert len({next(iter(found)) for found in people.values()}) == 3


def test_what_cannot_be_trained_on_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no folder"):
        find_examples(tmp_path / "none")
    (tmp_path / "happy").mkdir()
    with pytest.raises(DataError, match="sad/ is missing"):
        find_examples(tmp_path)
    (tmp_path / "sad").mkdir()
    with pytest.raises(DataError, match="holds no files"):
        find_examples(tmp_path)
    draw_folder(tmp_path, 3, seed=1)
    with pytest.raises(DataError, match="Only 3 good images of class happy"):
        cleaned(tmp_path, tmp_path)
