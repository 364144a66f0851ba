from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        (["gallery"], "flask", "gallery"),
        (["browse"], "uvicorn", "browse"),
        (["bulk", "archive", "--to", "moods"], "ray", "ray"),
    ],
)
def test_what_to_install_is_said(command: list[str], package: str, extra: str) -> None:
    program = f"import sys; sys.modules['{package}'] = None; from daemon.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: It needs the extra {extra}, which is not installed: pip install -e '.[{extra}]'.\n"
    )
