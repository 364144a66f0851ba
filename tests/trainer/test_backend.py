from __future__ import annotations

from pathlib import Path

import pytest

from trainer import backend


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("fpu avx512f amx_bf16 amx_tile", "mixed_bfloat16"),
        ("fpu avx512f avx512_bf16", "mixed_bfloat16"),
        ("fpu avx2 fma", "float32"),
    ],
)
def test_bfloat16_is_for_processors_that_compute_in_it(
    flags: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t:\n")
    monkeypatch.setattr(backend, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    backend.start()
    assert backend.fastest_precision() == precision


def test_an_unknown_processor_gets_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "CPU_INFO", tmp_path / "none")
    backend.start()
    assert backend.fastest_precision() == "float32"
