"""The simulation, and what docs/scaling.md has to run."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean

import psycopg
import pytest

from benchmarks.simulation import Cost, Machine, burst, latencies, poisson
from db.engine import open_for_writing
from db.ledger import Ledger, Source
from tests.db.filled import FACES, finish
from tests.postgres import Server

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "scaling.md").read_text()
PARTITIONING = ROOT / "docs" / "partition-by-month.sql"

QUEUE = Machine(workers=1, batch_size=1, max_wait=0.0, notice=0.0, photos=[1.0])
"""Files are served one by one, and nothing but reading takes time."""
LOAD = 0.6
FILES = 30_000


def test_one_queue_with_one_server_is_as_theory_has_it() -> None:
    """M/D/1 by Pollaczek and Khinchine, M/M/1 by Erlang; both in units of the service."""
    constant = latencies(poisson(LOAD, FILES, seed=1), QUEUE)
    assert mean(constant) == pytest.approx(1 + LOAD / (2 * (1 - LOAD)), rel=0.03)
    rng = random.Random(2)
    times = [rng.expovariate(1) for _ in range(FILES)]
    average = mean(times)
    machine = replace(QUEUE, photos=[time / average for time in times])
    varying = latencies(poisson(LOAD, FILES, seed=3), machine, seed=4)
    assert mean(varying) == pytest.approx(1 / (1 - LOAD), rel=0.06)
    median = sorted(varying)[FILES // 2]
    assert median == pytest.approx(0.693 / (1 - LOAD), rel=0.06)


def test_a_batch_waits_for_others_and_is_shared_out() -> None:
    costs = {"claim": Cost(0.5, 0.0), "decide": Cost(0.25, 0.0), "move": Cost(0.0, 0.125)}
    machine = replace(QUEUE, workers=2, batch_size=4, max_wait=8.0, **costs)
    assert latencies([0.0], machine) == [8.0 + 0.5 + 1.0 + 0.25 + 0.125]
    assert latencies(burst(4), machine) == [0.5 + 2.0 + 0.25 + 4 * 0.125] * 4


def test_more_machines_do_more_and_an_inbox_for_all_is_better() -> None:
    dropped = poisson(2 * 0.9, 4000, seed=5)
    together = mean(latencies(dropped, QUEUE, machines=2))
    apart = mean(latencies(dropped, QUEUE, machines=2, inboxes=2))
    assert together < apart
    alone = latencies(burst(100), QUEUE)
    assert max(latencies(burst(100), QUEUE, machines=2)) == max(alone) / 2


def test_what_the_page_tells_is_what_the_script_prints() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "docs.scaling", "--files", "100"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    check, costs, *_ = done.stdout.split("\n\n")
    assert check.count("\n") == 7
    assert check in PAGE
    for line in costs.splitlines():  # Its figures are of the last time that all was measured.
        assert line.split(" | ")[0] in PAGE


@pytest.fixture
def by_month(postgres: Server) -> Iterator[str]:
    """A database with a filed image and a claimed one, and then partitioned as the page says."""
    name = postgres.create()
    engine = open_for_writing(postgres.url(name))
    ledger = Ledger(engine)
    finish(ledger, "before.jpg", label="happy", faces=FACES)
    ledger.claim([source("claimed.jpg")])
    ledger.close()
    with psycopg.connect(postgres.conninfo(name)) as link:
        link.execute(PARTITIONING.read_bytes())
    return name


def source(name: str) -> Source:
    return Source(Path("/inbox") / name, 10, 0)


def test_the_ledger_works_on_images_by_month(by_month: str, postgres: Server) -> None:
    ledger = Ledger(open_for_writing(postgres.url(by_month)))
    assert ledger.claim([source("claimed.jpg")]) == [None]
    new = finish(ledger, "new.jpg", label="sad", faces=FACES)
    [again] = ledger.claim([source("new.jpg")])
    assert again
    assert ledger.claim([source("new.jpg")]) == [None]
    assert ledger.taken([Path("/out/before.jpg"), Path("/out/other.jpg")]) == {
        Path("/out/before.jpg")
    }
    ledger.release([again])
    assert ledger.claim([source("new.jpg")]) != [None]
    ledger.close()
    with psycopg.connect(postgres.conninfo(by_month)) as link:
        assert link.execute("SELECT count(*) FROM results").fetchone() == (4,)
        assert link.execute("SELECT count(*) FROM faces").fetchone() == (4,)
        link.execute("DELETE FROM images WHERE id = %s", [new])
        assert link.execute("SELECT count(*) FROM faces").fetchone() == (2,)


def test_months_are_apart_and_what_is_unique_is_so_over_all(
    by_month: str, postgres: Server
) -> None:
    with psycopg.connect(postgres.conninfo(by_month)) as link:
        move = """
            INSERT INTO images (source_path, source_mtime_ns, size_bytes, state, destination_path,
                claimed_at)
            SELECT source_path, 0, 1, 'filed', %s, now() + interval '2 months'
            FROM images WHERE destination_path = '/out/before.jpg'
            RETURNING tableoid::regclass::text
        """
        row = link.execute(move, ["/out/later.jpg"]).fetchone()
        assert row
        assert re.fullmatch(r"images_\d{4}_\d\d", row[0])
        plan = "EXPLAIN SELECT id FROM results WHERE claimed_at >= now() + interval '40 days'"
        lines = "\n".join(line for (line,) in link.execute(plan))
        assert "images_before" not in lines.replace("Subplans Removed", "")
        with pytest.raises(psycopg.errors.UniqueViolation):
            link.execute(move, ["/out/before.jpg"])
