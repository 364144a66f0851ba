from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from daemon.cli import COMMANDS, main
from db.engine import open_for_writing
from tests.faces import draw_face, draw_folder
from tests.helpers import MOODSORT, Place, jpeg, json_lines, moodsort, wait_until
from trainer.backend import NVIDIA_DRIVER

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the network `compact`, trained for a moment on drawn faces."""
    folder = tmp_path_factory.mktemp("train")
    draw_folder(folder / "faces", 60, seed=2)
    (folder / "faces" / "happy" / "broken.jpg").write_bytes(b"no image")
    shutil.copy(next((folder / "faces" / "sad").iterdir()), folder / "faces" / "sad" / "copy.jpg")
    done = moodsort("train", "faces", "--out", "models/mine", "--epochs", "3", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "1 duplicate, 1 not_an_image" in done.stderr
    return folder / "models" / "mine"


def test_help_lists_all_commands_without_loading_them() -> None:
    script = "import sys, daemon.cli as c; c.main(['--help'], standalone_mode=False); " + (
        "print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert all(f"\n  {name} " in out for name in COMMANDS)
    loaded = set(out.splitlines()[-1].split())
    assert not loaded & {"tensorflow", "keras", "numpy", "PIL", "sqlalchemy", "watchdog", "rich"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_is_in_the_readme(name: str) -> None:
    shown = CliRunner().invoke(main, [name, "--help"])
    assert shown.exit_code == 0
    assert "Example: " in shown.output
    assert f"moodsort {name}" in README
    command = main.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    about = COMMANDS[name][1].rstrip(".")
    first = (command.help or "").split(".")[0].replace("\n", " ")
    assert first.split()[0] == about.split()[0]


@pytest.mark.parametrize("name", ["results", "stats", "doctor"])
def test_queries_never_load_tensorflow(place: Place, name: str) -> None:
    open_for_writing(str(place.database)).dispose()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", MOODSORT, name, "--database", place.database],
        capture_output=True,
        text=True,
        check=True,
        cwd=place.root,
    )
    assert "sqlalchemy" in done.stderr
    assert not [name for name in ("tensorflow", "keras", "litert") if name in done.stderr]


def test_version() -> None:
    assert "0.1.0" in moodsort("--version").stdout


def test_no_such_command_is_a_usage_error() -> None:
    done = moodsort("sing")
    assert done.returncode == 2
    assert "No such command 'sing'" in done.stderr


@pytest.mark.skipif(NVIDIA_DRIVER.exists(), reason="on a GPU TensorFlow judges")
def test_without_a_gpu_judging_does_not_load_tensorflow(tmp_path: Path) -> None:
    (tmp_path / "face.jpg").write_bytes(jpeg("happy", 1))
    done = subprocess.run(
        [sys.executable, "-X", "importtime", MOODSORT, "classify", tmp_path / "face.jpg"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "ai_edge_litert" in done.stderr
    assert "tensorflow" not in done.stderr
    assert "keras" not in done.stderr


def test_classify_decides_and_moves_nothing(tmp_path: Path) -> None:
    draw_folder(tmp_path, 3, seed=1)
    before = sorted(tmp_path.rglob("*"))
    names = [str(p.relative_to(tmp_path)) for p in before if p.is_file()]
    (tmp_path / "text.jpg").write_bytes(b"no image")
    done = moodsort("classify", *names, "text.jpg", "none.jpg", "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == ""
    *good, text, none = json_lines(done.stdout)
    assert [row["path"] for row in good] == names
    for row in good:
        assert set(row) == {"path", "label", "probability", "p_sad", "decided_by", "faces"}
        assert row["label"] == Path(row["path"]).parent.name
    assert set(text) == {"path", "error_code", "error_detail"}
    assert (text["error_code"], none["error_code"]) == ("not_an_image", "unreadable")
    (tmp_path / "text.jpg").unlink()
    assert sorted(tmp_path.rglob("*")) == before


def test_classify_takes_limits_and_tells_the_faces(tmp_path: Path) -> None:
    group = Image.new("RGB", (700, 300), "gray")
    for seed, (x, side) in enumerate([(10, 240), (270, 180), (460, 140), (610, 60)], start=1):
        face = draw_face(random.Random(seed), "sad" if seed == 1 else "happy", (side, side))
        group.paste(face, (x, 50))
    group.save(tmp_path / "group.png")
    (tmp_path / "moodsort.toml").write_text("[faces]\nmin_size = 60\n")

    def classify(*options: str) -> dict:
        done = CliRunner().invoke(
            main,
            ["classify", str(tmp_path / "group.png"), "--json", *options],
            env={"MOODSORT_CONFIG": str(tmp_path / "moodsort.toml")},
        )
        [row] = json_lines(done.stdout)
        return row

    three = classify()
    assert three["decided_by"] == "faces"
    assert set(three["faces"][0]) == {"x", "y", "width", "height", "score", "p_sad"}
    middles = [face["x"] + face["width"] / 2 for face in three["faces"]]
    assert middles == pytest.approx([130, 360, 530], abs=25)
    assert [face["p_sad"] > 0.5 for face in three["faces"]] == [True, False, False]
    two = classify("--faces-max-count", "2")
    for got, want in zip(two["faces"], three["faces"][:2], strict=True):
        assert got == pytest.approx(want, abs=1e-4)
    whole = classify("--no-faces")
    assert (whole["decided_by"], whole["faces"]) == ("whole_image", [])


def test_classify_reads_names_from_standard_input(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"odd \xff.jpg")
    odd.write_bytes(jpeg("happy", 1))
    done = subprocess.run(
        [MOODSORT, "classify", "-"], input=os.fsencode(odd) + b"\n", capture_output=True, check=True
    )
    assert b"odd \\xff.jpg: happy 0." in done.stdout


def test_train_makes_a_bundle_that_can_be_used(bundle: Path, tmp_path: Path) -> None:
    assert {p.name for p in bundle.iterdir()} == {
        *("model.keras", "model.tflite", "detector.keras", "detector.tflite", "bundle.json"),
        *("report.html", "curves.png", "confusion.png"),
    }
    assert list((bundle.parent / "mine-logs").rglob("events.out.tfevents.*"))
    info = json.loads((bundle / "bundle.json").read_text())
    assert info["classes"] == ["happy", "sad"]
    assert info["command"] == "moodsort train faces --out models/mine --epochs 3"
    assert sum(part["images"] for part in info["data"].values()) == 120
    assert [p.name for p in bundle.parent.iterdir() if p.name.startswith(".")] == []
    archive = shutil.make_archive(str(tmp_path / "mine"), "zip", bundle)
    (tmp_path / "a.jpg").write_bytes(jpeg())
    done = moodsort("classify", tmp_path / "a.jpg", "--model", archive, "--json")
    [row] = json_lines(done.stdout)
    assert row["label"] in ("happy", "sad")


def test_train_never_writes_over_anything(bundle: Path) -> None:
    done = moodsort("train", bundle.parent.parent / "faces", "--out", bundle)
    assert done.returncode == 1
    assert "exists already" in done.stderr


def test_a_killed_training_goes_on_to_the_same_model(bundle: Path) -> None:
    folder = bundle.parent.parent
    command = ("train", "faces", "--out", "models/killed", "--epochs", "3")
    state = folder / "models" / "killed-unfinished" / "state.npz"
    child = subprocess.Popen([MOODSORT, *command], cwd=folder, stderr=subprocess.DEVNULL)
    try:
        wait_until(state.exists, "an epoch is saved", timeout=120)
    finally:
        child.kill()
        child.wait()
    refused = moodsort(*command, cwd=folder)
    assert refused.returncode == 1
    assert "Go on with --resume, or delete that folder" in refused.stderr
    done = moodsort(*command, "--resume", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Epoch 1 of 3" not in done.stderr
    assert "Epoch 3 of 3" in done.stderr
    killed = folder / "models" / "killed"
    whole, resumed = (json.loads((b / "bundle.json").read_text()) for b in (bundle, killed))
    # On some processors TensorFlow rounds otherwise in each process, also if none was killed.
    for part, figures in whole["metrics"].items():
        del figures["confusion"], resumed["metrics"][part]["confusion"]
        assert resumed["metrics"][part] == pytest.approx(figures, abs=0.05)
    assert resumed["faces"]["temperature"] == pytest.approx(whole["faces"]["temperature"], rel=0.1)
    assert not state.parent.exists()


def test_train_the_network_of_the_original_beside_one_for_faces(tmp_path: Path) -> None:
    draw_folder(tmp_path / "faces", 30, seed=4)
    command = ("train", "faces", "--network", "seed", "--epochs", "1")
    done = moodsort(*command, "--out", "both", "--faces", "default", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    info = json.loads((tmp_path / "both" / "bundle.json").read_text())
    assert (info["whole"]["network"], info["whole"]["file"]) == ("seed", "model.keras")
    assert info["faces"]["file"] == "faces.keras"
    assert info["fusion"]["faces"] > 0
    assert info["metrics"]["validation"]["accuracy"] > 0.9
    (tmp_path / "a.jpg").write_bytes(jpeg("sad", 1, (240, 240)))
    image, model = str(tmp_path / "a.jpg"), str(tmp_path / "both")
    classified = CliRunner().invoke(main, ["classify", image, "--model", model, "--json"])
    [row] = json_lines(classified.stdout)
    assert (row["label"], row["decided_by"], len(row["faces"])) == ("sad", "faces", 1)


def test_what_judges_faces_and_what_does_not_are_not_confused(tmp_path: Path) -> None:
    draw_folder(tmp_path / "faces", 1, seed=4)
    blind = shutil.copytree(ROOT / "trainer" / "pretrained", tmp_path / "blind")
    info = json.loads((blind / "bundle.json").read_text())
    info |= {
        "whole": info["whole"] or info["faces"],
        "faces": None,
        "fusion": None,
        "files": {name: info["files"][name] for name in ("model.keras", "model.tflite")},
    }
    (blind / "bundle.json").write_text(json.dumps(info))
    command = ["train", str(tmp_path / "faces"), "--out", str(tmp_path / "out"), "--faces"]
    for options, sentence in (
        (["default"], "The network compact judges faces itself; leave out --faces."),
        ([str(blind), "--network", "seed"], "blind does not judge faces."),
        (["none", "--network", "seed"], "There is no model bundle none."),
    ):
        done = CliRunner().invoke(main, [*command, *options])
        assert done.exit_code == 1
        assert done.stderr.startswith("Error: ")
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blind", "faces"]


def test_evaluate_has_the_agreed_keys_and_a_page_that_needs_nothing_else(
    bundle: Path, tmp_path: Path
) -> None:
    faces = bundle.parent.parent / "faces"
    done = moodsort("evaluate", bundle, faces, "--json", "--report", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    [got] = json_lines(done.stdout)
    assert set(got) >= {
        *("images", "skipped", "accuracy", "balanced_accuracy", "precision", "recall", "f1"),
        *("auc", "confusion", "per_second"),
    }
    assert (got["images"], got["skipped"]) == (121, 1)
    assert sum(map(sum, got["confusion"])) == 121
    page = (tmp_path / "page.html").read_text()
    assert page.count('src="data:image/png;base64,') == page.count("src=") >= 4
    assert "://" not in page
    assert "moodsort train faces" in page


def test_the_shipped_model_knows_drawn_faces(tmp_path: Path) -> None:
    draw_folder(tmp_path, 40, seed=11)
    [got] = json_lines(moodsort("evaluate", "default", tmp_path, "--json").stdout)
    assert got["accuracy"] >= 0.95


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["train", "none", "--out", "x"], "There is no folder none."),
        (["train", ".", "--out", "x"], "must hold the folders happy/ and sad/"),
        (["evaluate", "x", ".", "--report", "no/page.html"], "There is no folder no."),
        (["evaluate", "none", "."], "must hold the folders happy/ and sad/"),
        (["classify", "a.jpg", "--model", "none"], "There is no model bundle none."),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, args: list[str], sentence: str) -> None:
    done = moodsort(*args, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
