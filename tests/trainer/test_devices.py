from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from daemon.cli import main
from trainer import bundle


def started(*command: str | Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[str, str]]:
    """What they have printed, and what they have said beside it."""
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said
    return said


def cluster(count: int) -> list[str]:
    """TF_CONFIG for each of so many processes on this machine."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    workers = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return [
        json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})
        for index in range(count)
    ]


def trained(strategy: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    return started("tests.trainer.together", strategy, folder, **environment)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    [(printed, _)] = ended([trained("auto", tmp_path_factory.mktemp("alone"))])
    return dict(json.loads(printed))


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one["history"].keys() == other["history"].keys()
    for name, values in one["history"].items():
        np.testing.assert_allclose(values, other["history"][name], rtol=1e-3, err_msg=name)
    for ours, theirs in zip(one["weights"], other["weights"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-4)


def test_two_devices_learn_what_one_does(alone: dict[str, Any], tmp_path: Path) -> None:
    [(printed, _)] = ended([trained("mirrored", tmp_path)])
    both = json.loads(printed)
    assert (alone["replicas"], both["replicas"]) == (1, 2)
    assert_same(alone, both)


def test_two_processes_learn_what_one_does(alone: dict[str, Any], tmp_path: Path) -> None:
    processes = [trained("auto", tmp_path, TF_CONFIG=config) for config in cluster(2)]
    for printed, _ in ended(processes):
        one = json.loads(printed)
        assert one["replicas"] == 2
        assert_same(alone, one)


def test_the_first_process_saves_what_both_have_learnt(drawn: Path, tmp_path: Path) -> None:
    out = tmp_path / "made"
    command = ["daemon.cli", "train", drawn, "--out", out, "--network", "seed", "--epochs", "1"]
    (_, first), (_, second) = ended([started(*command, TF_CONFIG=config) for config in cluster(2)])
    assert f"Saved {out}" in first
    assert f"The first of 2 processes saves {out}." in second
    assert bundle.load(str(out)).info.name == "made"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made", "made-logs"]


@pytest.mark.parametrize(
    "config",
    [
        "",
        "{",
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"ps": ["a:1"], "worker": ["a:2"]}, "task": {"type": "ps", "index": 0}}',
    ],
)
def test_a_cluster_that_is_not_described_well(config: str, drawn: Path, tmp_path: Path) -> None:
    arguments = ["train", str(drawn), "--out", str(tmp_path / "made"), "--strategy", "multiworker"]
    done = CliRunner(env={"TF_CONFIG": config}).invoke(main, arguments)
    assert done.exit_code == 1
    assert "set TF_CONFIG on each" in done.stderr
    assert list(tmp_path.iterdir()) == []
