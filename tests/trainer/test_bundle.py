from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from trainer import bundle
from trainer.bundle import Bundle, load
from trainer.errors import BundleError
from trainer.faces import FaceLimits

PRETRAINED = Path(bundle.__file__).parent / "pretrained"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(PRETRAINED, folder)
    return folder


def change(folder: Path, **changes: object) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def pixels(bundle: Bundle, count: int) -> np.ndarray:
    rng = np.random.default_rng(4)
    return rng.integers(0, 256, (count, *bundle.info.input.shape), dtype=np.uint8)


def test_the_shipped_bundle_is_small_and_says_what_it_is(shipped: Bundle) -> None:
    assert shipped.info.classes == ("happy", "sad")
    assert (PRETRAINED / "model.keras").stat().st_size < 8_000_000
    assert set(shipped.info.metrics) == {"validation", "test"}
    assert (PRETRAINED / "MODEL_CARD.md").is_file()


def test_answers_do_not_depend_on_the_company_in_the_batch(shipped: Bundle) -> None:
    images = pixels(shipped, 70)
    together = shipped.p_sad(images)
    assert together.shape == (70,)
    assert together.dtype == np.float32
    for size in (1, 3, 17):
        apart = np.concatenate([shipped.p_sad(images[i : i + size]) for i in range(0, 70, size)])
        np.testing.assert_allclose(apart, together, atol=1e-4)


def test_a_verdict_is_the_likelier_label(shipped: Bundle) -> None:
    for verdict in shipped.classify(pixels(shipped, 20)):
        assert verdict.label == ("sad" if verdict.p_sad >= 0.5 else "happy")
        want = verdict.p_sad if verdict.label == "sad" else 1 - verdict.p_sad
        assert verdict.probability == pytest.approx(want)
    assert shipped.classify(pixels(shipped, 0)) == []


def test_folder_and_zip_are_the_same(shipped: Bundle, copy: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "zipped"), "zip", copy)
    nested = shutil.make_archive(str(tmp_path / "nested"), "zip", tmp_path, "copy")
    images = pixels(shipped, 5)
    for where in (str(copy), archive, nested):
        loaded = load(where)
        assert loaded.sha256 == shipped.sha256
        np.testing.assert_array_equal(loaded.p_sad(images), shipped.p_sad(images))


def test_a_bundle_knows_which_faces_are_to_count(copy: Path) -> None:
    assert load(str(copy)).limits == FaceLimits()
    assert load(str(copy), FaceLimits(most=3)).limits == FaceLimits(most=3)


def test_a_missing_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="There is no model bundle"):
        load(str(tmp_path / "none"))
    with pytest.raises(BundleError, match=r"bundle\.json is missing"):
        load(str(tmp_path))


def test_a_changed_model_is_refused(copy: Path) -> None:
    with (copy / "model.keras").open("r+b") as file:
        file.seek(1000)
        file.write(b"changed")
    with pytest.raises(BundleError, match="damaged or was changed"):
        load(str(copy))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": 99}, "format 99 is not the known one"),
        ({"classes": ["cat", "dog"]}, "the classes are"),
        ({"input": {"height": 48}}, "missing or wrong"),
        ({"temperature": 0}, "out of range"),
        ({"threshold": "high"}, "missing or wrong"),
    ],
)
def test_a_bundle_of_another_kind_is_refused(copy: Path, changes: dict, sentence: str) -> None:
    change(copy, **changes)
    with pytest.raises(BundleError, match=sentence):
        load(str(copy))


def test_a_wrong_input_shape_is_refused(copy: Path) -> None:
    change(copy, input={"height": 99, "width": 99, "channels": 3})
    with pytest.raises(BundleError, match="another input"):
        load(str(copy))


def test_unreadable_json_is_refused(copy: Path) -> None:
    (copy / "bundle.json").write_text("{nonsense")
    with pytest.raises(BundleError, match="cannot be used"):
        load(str(copy))


def test_a_file_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.zip").write_bytes(b"no zip")
    with pytest.raises(BundleError, match=r"model\.zip is damaged"):
        load(str(tmp_path / "model.zip"))
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as zipped:
        zipped.writestr("readme.txt", "nothing")
    with pytest.raises(BundleError, match=r"is no model bundle: model\.keras is missing"):
        load(str(tmp_path / "empty.zip"))


def test_a_zip_writes_nothing_outside(copy: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as zipped:
        zipped.write(copy / "model.keras", "../../outside/model.keras")
        zipped.write(copy / "bundle.json", "/tmp/outside/bundle.json")
        zipped.writestr("../../evil.txt", "evil")
    load(str(tmp_path / "evil.zip"))
    assert not list(tmp_path.parent.rglob("evil.txt"))
    assert not list(tmp_path.parent.rglob("outside"))
