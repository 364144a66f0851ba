"""Rows of the view `results` in words, safe to look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from db.text import one_line


def name(row: Mapping[str, Any]) -> str:
    """Of the file, safe to look at."""
    return one_line(Path(row["destination_path"] or row["source_path"]).name)


def describe(row: Mapping[str, Any]) -> str:
    """What an image is taken for, in words."""
    if row["error_code"]:
        return one_line(f"{row['error_code']}: {row['error_detail']}")
    probability = row["probability"]
    decided = row["label"] if probability is None else f"{row['label']} {100 * probability:.1f} %"
    if row["corrected_label"] is None:
        return str(decided)
    if row["corrected_label"] == row["label"]:
        return f"{decided}, checked"
    return f"{decided}, but {row['corrected_label']}"
