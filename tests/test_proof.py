"""Corrections teach a model: the proof of `tests.proof`, with fewer images."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from daemon.cli import main
from tests.faces import draw_folder
from tests.helpers import moodsort
from tests.proof import Size, prove
from trainer.bundle import inspect

SMALL = Size(images=80, corrected=40, learnt=30, others=50, network="seed", epochs=1)


def test_corrections_make_a_model_better_and_what_it_filed_too(tmp_path: Path) -> None:
    home = tmp_path / "proof"
    proof = prove(home, SMALL, lambda line: None)
    assert proof.after > proof.before
    assert proof.filed_after > proof.filed_before
    assert proof.moved > 0
    assert_tells_how_it_compares(home / "weak", home / "better")
    assert_corrections_alone_teach(home / "weak", home / "corrections", tmp_path / "alone")


def assert_tells_how_it_compares(weak: Path, better: Path) -> None:
    record = inspect(str(better))[0].metrics["held_out"]
    assert record["before"] == inspect(str(weak))[1]
    kinds = [record[name] for name in ("corrections", "original")]
    assert record["all"]["images"] == sum(kind["images"] for kind in kinds)
    assert record["all"]["right_after"] >= record["all"]["right_before"]
    assert "<h2>Before and after</h2>" in (better / "report.html").read_text()


def assert_corrections_alone_teach(weak: Path, corrections: Path, out: Path) -> None:
    command = ("train", "--corrections", corrections, "--from", weak, "--out", out)
    done = moodsort(*command, "--split", "50/25/25", "--epochs", "4")
    assert done.returncode == 0, done.stderr
    before, after = inspect(str(weak))[0], inspect(str(out))[0]
    assert set(after.metrics["held_out"]) == {"before", "all", "corrections"}
    assert after.main.temperature == before.main.temperature
    assert after.files != before.files


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
