"""Questions to small and large databases."""

from __future__ import annotations

import sqlite3
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import TRIALS, Figure
from benchmarks.service import MOODSORT
from db.engine import open_for_writing

ROWS = (10_000, 1_000_000)
QUESTIONS = (
    ("results --limit 20", 1.5),
    ("results --label sad --since 2026-01-02 --limit 20", 1.5),
    ("results --state failed --until 2026-01-01T02:00Z --limit 20", 1.5),
    ("results --sort least-certain --limit 20", 1.5),
    ("stats", None),
    ("stats --by day", None),
)
NAME = "queries"

FILL = """
WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < :rows)
INSERT INTO images (sha256, size_bytes, source_mtime_ns, width, height, format, source_path, state,
    label, probability, p_sad, decided_by, destination_path, claimed_at, decided_at, filed_at)
SELECT printf('%064x', n), 100000, n, 1200, 800, 'JPEG', '/inbox/' || n || '.jpg',
    CASE WHEN n % 100 THEN 'filed' ELSE 'failed' END,
    CASE WHEN n % 100 = 0 THEN NULL WHEN n % 2 THEN 'happy' ELSE 'sad' END,
    CASE WHEN n % 100 THEN 0.5 + n * 7919 % 10000 / 20000.0 END, 0.5,
    'faces', '/happy/' || n || '.jpg', t, t, t
FROM (SELECT n, strftime('%Y-%m-%d %H:%M:%f', '2026-01-01', n || ' seconds') || '000' AS t
      FROM number)
"""


def measure(photos: Sequence[Path], folder: Path) -> list[Figure]:
    """Seconds of the command, and how much longer the large database takes than the small one."""
    databases = {rows: _filled(folder / f"{rows}.db", rows) for rows in ROWS}
    figures = []
    for question, at_most in QUESTIONS:
        runs = [
            [_seconds(question, database) for database in databases.values()] for _ in range(TRIALS)
        ]
        for i, rows in enumerate(ROWS):
            name = f"{question}, {rows} rows"
            figures.append(Figure(NAME, name, "ms", [run[i] * 1000 for run in runs]))
        ratios = [large / small for small, large in runs]
        figures.append(Figure(NAME, f"{question}, ratio", "x", ratios, at_most=at_most))
    return figures


def _filled(path: Path, rows: int) -> Path:
    open_for_writing(str(path)).dispose()
    with sqlite3.connect(path) as link:
        link.execute(FILL, {"rows": rows})
    link.close()
    return path


def _seconds(question: str, database: Path) -> float:
    begin = time.perf_counter()
    subprocess.run(
        [MOODSORT, *question.split(), "--database", database], stdout=subprocess.DEVNULL, check=True
    )
    return time.perf_counter() - begin
