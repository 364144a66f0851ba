from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.faces import MOODS
from tests.helpers import jpeg
from tests.trainer.small import bundle_of, predictor, seen
from trainer import bundle
from trainer.bundle import Bundle, load, save
from trainer.errors import BundleError
from trainer.faces import FaceLimits
from trainer.fusion import Fusion
from trainer.image import DecodedImage, InputSpec, View, decode
from trainer.judging import FaceJudge

NETWORKS = ("model", "faces", "detector")

PRETRAINED = Path(bundle.__file__).parent / "pretrained"


@pytest.fixture(scope="module")
def saved(faces_alone: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "faces"
    save(folder, faces_alone, {})
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "copy")


def change(folder: Path, **changes: object) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def noise(bundle: Bundle, count: int) -> list[DecodedImage]:
    """Images without faces."""
    rng = np.random.default_rng(4)
    pixels = rng.integers(0, 256, (count, 48, 48, 3), dtype=np.uint8)
    return [seen(Image.fromarray(image), bundle.info.view) for image in pixels]


def faces(bundle: Bundle, count: int) -> list[DecodedImage]:
    """Drawn faces of both moods."""
    return [decode(jpeg(MOODS[i % 2], i, (240, 240)), bundle.info.view) for i in range(count)]


def test_the_shipped_bundle_is_small_and_says_what_it_is(shipped: Bundle) -> None:
    assert shipped.info.classes == ("happy", "sad")
    assert (PRETRAINED / "model.keras").stat().st_size < 8_000_000
    assert set(shipped.info.metrics) == {"validation", "test"}
    assert (PRETRAINED / "MODEL_CARD.md").is_file()


def test_answers_do_not_depend_on_the_company_in_the_batch(shipped: Bundle) -> None:
    images = [
        image for pair in zip(faces(shipped, 35), noise(shipped, 35), strict=True) for image in pair
    ]
    together = shipped.answers(images)
    assert len(together) == 70
    for size in (1, 3, 17):
        starts = range(0, 70, size)
        apart = [a for start in starts for a in shipped.answers(images[start : start + size])]
        assert [a.p_sad for a in apart] == pytest.approx([a.p_sad for a in together], abs=1e-4)
        assert [[f.box for f in a.faces] for a in apart] == [
            [f.box for f in a.faces] for a in together
        ]


def test_a_verdict_is_the_likelier_label(shipped: Bundle) -> None:
    for verdict in shipped.classify(noise(shipped, 10) + faces(shipped, 10)):
        assert verdict.label == ("sad" if verdict.p_sad >= 0.5 else "happy")
        want = verdict.p_sad if verdict.label == "sad" else 1 - verdict.p_sad
        assert verdict.probability == pytest.approx(want)
        assert verdict.decided_by == ("faces" if verdict.faces else "whole_image")
    assert shipped.classify([]) == []


def test_folder_and_zip_are_the_same(shipped: Bundle, tmp_path: Path) -> None:
    copy = shutil.copytree(PRETRAINED, tmp_path / "copy")
    archive = shutil.make_archive(str(tmp_path / "zipped"), "zip", copy)
    nested = shutil.make_archive(str(tmp_path / "nested"), "zip", tmp_path, "copy")
    images = faces(shipped, 3) + noise(shipped, 2)
    for where in (str(copy), archive, nested):
        loaded = load(where)
        assert loaded.sha256 == shipped.sha256
        assert loaded.answers(images) == shipped.answers(images)


@pytest.fixture(scope="module")
def both(shipped: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved bundle with a network for faces, one for whole images, and their fusion."""
    whole = predictor(channels=3, temperature=1.5)
    made = bundle_of(shipped, faces=shipped.faces, whole=whole, fusion=Fusion(0.6, 0.3, -0.2))
    folder = tmp_path_factory.mktemp("bundles") / "both"
    save(folder, made, {"report.html": b"a page"})
    images = faces(made, 3) + noise(made, 3)
    loaded, archive = load(str(folder)), shutil.make_archive(str(folder), "zip", folder)
    assert loaded.answers(images) == load(archive).answers(images) == made.answers(images)
    return folder


def test_a_bundle_of_two_networks_is_saved_whole(both: Path) -> None:
    assert {path.name for path in both.iterdir()} == {
        *(f"{name}{kind}" for name in NETWORKS for kind in (".keras", ".tflite")),
        *("bundle.json", "report.html"),
    }
    info = load(str(both)).info
    assert (info.faces and info.faces.file, info.whole and info.whole.file) == (
        "faces.keras",
        "model.keras",
    )
    assert info.fusion == Fusion(0.6, 0.3, -0.2)
    assert info.view == View(InputSpec(32, 32, 3), FaceJudge.photo_side)
    with pytest.raises(BundleError, match="exists already"):
        save(both, load(str(both)), {})


def test_a_bundle_without_faces_looks_at_whole_images_alone(
    shipped: Bundle, tmp_path: Path
) -> None:
    made = bundle_of(shipped, whole=predictor())
    save(tmp_path / "whole", made, {})
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert names == {"model.keras", "model.tflite", "bundle.json"}
    loaded = load(str(tmp_path / "whole"))
    assert loaded.info.view == View(InputSpec(32, 32, 1), None)
    assert {v.decided_by for v in loaded.classify(faces(loaded, 4))} == {"whole_image"}


def test_a_bundle_knows_which_faces_are_to_count(shipped: Bundle) -> None:
    images = faces(shipped, 4)
    assert all(answer.faces for answer in shipped.answers(images))
    blind = load("default", FaceLimits(enabled=False))
    assert not any(answer.faces for answer in blind.answers(images))


def test_a_missing_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="There is no model bundle"):
        load(str(tmp_path / "none"))
    with pytest.raises(BundleError, match=r"bundle\.json is missing"):
        load(str(tmp_path))


@pytest.mark.parametrize("name", ["model.keras", "faces.tflite", "detector.keras"])
def test_a_changed_or_missing_model_is_refused(both: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(both, tmp_path / "copy")
    with (copy / name).open("r+b") as file:
        file.seek(1000)
        file.write(b"changed")
    with pytest.raises(BundleError, match=f"damaged or was changed: {name} does not have"):
        load(str(copy))
    (copy / name).unlink()
    with pytest.raises(BundleError, match=f"is no model bundle: {name} is missing"):
        load(str(copy))


INPUT = {"height": 48, "width": 48, "channels": 1}
STAGE = {"network": "x", "file": "model.keras", "input": INPUT, "temperature": 1.0}
FUSION = {"faces": 1.0, "whole": 1.0, "bias": 0.0}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": 1}, "format 1 is not the known one"),
        ({"classes": ["cat", "dog"]}, "the classes are"),
        ({"faces": STAGE | {"input": {"height": 48}}}, "missing or wrong"),
        ({"faces": STAGE | {"temperature": 0}}, "a temperature is out of range"),
        ({"faces": STAGE | {"file": "../model.keras"}}, r"its networks are in \.\./model\.keras"),
        ({"faces": "compact"}, "missing or wrong"),
        ({"threshold": "high"}, "missing or wrong"),
        ({"threshold": 1}, "the threshold is out of range"),
        ({"faces": None}, "it has no network"),
        ({"files": {}}, "its files are"),
        ({"files": {"model.keras": ""}}, r"its files are model\.keras\.$"),
        ({"faces": None, "whole": STAGE}, "its files are"),
        ({"fusion": FUSION}, "a fusion is of two networks"),
        ({"whole": STAGE | {"file": "faces.keras"}}, "a fusion is of two networks"),
        ({"whole": STAGE, "fusion": FUSION}, r"its networks are in model\.keras and model\.keras"),
        (
            {"whole": STAGE | {"file": "faces.keras"}, "fusion": {"faces": 1.0}},
            "missing or wrong",
        ),
    ],
)
def test_a_bundle_of_another_kind_is_refused(copy: Path, changes: dict, sentence: str) -> None:
    change(copy, **changes)
    with pytest.raises(BundleError, match=sentence):
        load(str(copy))


def test_a_wrong_input_shape_is_refused(copy: Path) -> None:
    stage = json.loads((copy / "bundle.json").read_text())["faces"]
    change(copy, faces=stage | {"input": {"height": 99, "width": 99, "channels": 3}})
    with pytest.raises(BundleError, match=r"the network in model\.keras has another input"):
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
    with pytest.raises(BundleError, match=r"is no model bundle: bundle\.json is missing"):
        load(str(tmp_path / "empty.zip"))


def test_a_zip_writes_nothing_outside(copy: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as zipped:
        zipped.write(copy / "model.keras", "../../escaped/model.keras")
        zipped.write(copy / "detector.keras", "..\\escaped\\..\\detector.keras")
        zipped.write(copy / "detector.keras", "/escaped/detector.keras")
        for name in ("model.tflite", "detector.tflite"):
            zipped.write(copy / name, f"../{name}")
        zipped.write(copy / "bundle.json", "/tmp/escaped/bundle.json")
        zipped.writestr("../../evil.txt", "evil")
    load(str(tmp_path / "evil.zip"))
    assert not list(tmp_path.parent.rglob("evil.txt"))
    assert not list(tmp_path.parent.rglob("escaped"))


def test_a_zip_with_too_large_a_member_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.bundle.LARGEST_MEMBER", 10_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("model.keras", bytes(10_001))
    with pytest.raises(BundleError, match=r"model.keras in .* is too large to be true"):
        load(str(tmp_path / "bomb.zip"))


def test_it_goes_to_another_process_whatever_it_was_used_for(shipped: Bundle) -> None:
    images = faces(shipped, 2)
    assert shipped.explain(images)
    sent = pickle.loads(pickle.dumps(shipped))
    assert sent.classify(images) == shipped.classify(images)
    assert (sent.sha256, sent.info) == (shipped.sha256, shipped.info)
