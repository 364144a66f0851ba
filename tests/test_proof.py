"""Corrections teach a model: the proof of `tests.proof`, with fewer images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from daemon.cli import main
from tests.faces import draw_folder
from tests.helpers import moodsort
from tests.proof import Proof, Size, prove
from trainer.bundle import inspect

SMALL = Size(images=80, corrected=40, learnt=30, others=50, network="scene", epochs=2)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("proof")


@pytest.fixture(scope="module")
def proof(home: Path) -> Proof:
    return prove(home / "all", SMALL, lambda line: None)


def test_corrections_make_a_model_better_and_what_it_filed_too(proof: Proof) -> None:
    assert proof.after > proof.before
    assert proof.filed_after > proof.filed_before
    assert proof.moved > 0


def test_the_bundle_tells_what_it_was_made_from_and_how_both_compare(
    home: Path, proof: Proof
) -> None:
    better = home / "all" / "better"
    record = inspect(str(better))[0].metrics["held_out"]
    assert record["before"] == inspect(str(home / "all" / "weak"))[1]
    kinds = [record[name] for name in ("corrections", "original")]
    assert record["all"]["images"] == sum(kind["images"] for kind in kinds)
    assert record["all"]["right_after"] >= record["all"]["right_before"]
    assert "<h2>Before and after</h2>" in (better / "report.html").read_text()


def test_corrections_alone_change_a_model_by_half(home: Path, proof: Proof) -> None:
    """And those of one class are not enough."""
    corrections = home / "all" / "corrections"
    command = ("train", "--corrections", corrections, "--from", home / "all" / "weak", "--out")
    done = moodsort(*command, home / "alone", "--split", "50/25/25")
    assert done.returncode == 0, done.stderr
    info = json.loads((home / "alone" / "bundle.json").read_text())
    assert "original" not in info["metrics"]["held_out"]
    before = json.loads((home / "all" / "weak" / "bundle.json").read_text())
    assert info["whole"]["temperature"] == before["whole"]["temperature"]


def train(*args: str | Path) -> Result:
    return CliRunner().invoke(main, ["train", *map(str, args)])


def test_what_does_not_go_together_is_a_usage_error(tmp_path: Path) -> None:
    draw_folder(tmp_path / "few", 1, seed=1)
    out, corrections = ("--out", tmp_path / "out"), ("--corrections", tmp_path / "few")
    for args, sentence in (
        ((*out,), "Name a DATA to learn from, or --corrections."),
        ((*out, *corrections), "Name the model that is to learn"),
        ((*out, *corrections, "--from", "default", "--network", "seed"), "leave out --network"),
        ((*out, *corrections, "--from", "default", "--resume"), "leave out --resume"),
    ):
        refused = train(*args)
        assert refused.exit_code == 2
        assert sentence in refused.stderr


def test_too_few_corrections_are_told_in_a_sentence(tmp_path: Path) -> None:
    draw_folder(tmp_path / "few", 1, seed=1)
    for path in (tmp_path / "few" / "happy").iterdir():
        path.unlink()
    (tmp_path / "few" / "happy").rmdir()  # Nothing was corrected to be happy.
    out, corrections = ("--out", tmp_path / "out"), ("--corrections", tmp_path / "few")
    refused = train(*out, *corrections, "--from", "default")
    assert refused.exit_code == 1
    assert "Only 0 good images of class happy are left" in refused.stderr
    assert not [path for path in tmp_path.iterdir() if path.name != "few"]
