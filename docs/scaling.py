"""Hold the simulation against what was measured, and let it go on from there; for docs/scaling.md.

python -m docs.scaling [--measured docs/measured/results.json] [--files 10000]
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, median, quantiles

import click

from benchmarks import bursts, durability, rows, throughput
from benchmarks.bursts import BURSTS, FULLEST, MANY, ONE, STEADY, STEADY_FILES
from benchmarks.figures import TRIALS
from benchmarks.simulation import Cost, Machine, burst, latencies, poisson
from daemon.pipeline import BATCH_SIZE
from daemon.settings import Settings

WORKERS = 2
"""Of the machine that was measured: one for each of its cores."""
PERCENTILES = (50, 95, 99)
LOADS = (0.5, 0.8, 0.95)
FLEETS = (1, 8, 64)

HERE = Path(__file__).parent
DAILY = 1_000_000_000
PER_SECOND = DAILY / 86_400
"""Images, and images a second, of the fleet."""

ROOM = ("table ", "indexes of ")
"""What a table takes, by the names of the figures."""

Runs = Mapping[str, Sequence[float]]
"""All runs of each figure, by its name."""


@click.command()
@click.option(
    "--measured",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=HERE / "measured" / "results.json",
    help="What `python -m benchmarks --only bursts --only rows` gave.",
)
@click.option(
    "--speed",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=HERE.parent / "benchmarks" / "results.json",
    help="What `python -m benchmarks` gave.",
)
@click.option(
    "--files",
    type=click.IntRange(100),
    default=10_000,
    show_default=True,
    help="For each machine that is simulated.",
)
def main(measured: Path, speed: Path, files: int) -> None:
    """Print tables: simulated beside measured, what a billion a day takes, and fleets."""
    runs = of_benchmark(measured, bursts.NAME)
    _table(("load", *_heads("measured"), *_heads("simulated"), "difference"), _check(runs))
    _table(("what", "an image", "a billion a day"), _costs(measured, speed))
    _table(("load", "machines", "inboxes", *_heads("simulated")), _fleets(runs, files))


def of_benchmark(results: Path, name: str) -> Runs:
    """What a benchmark gave."""
    figures = json.loads(results.read_text())["figures"]
    return {figure["name"]: figure["runs"] for figure in figures if figure["benchmark"] == name}


def machine(runs: Runs, load: str) -> Machine:
    """The machine that was measured, as fast as it was under that load."""

    def seconds(name: str) -> float:
        return median(runs[name]) / 1000

    def cost(of: Callable[[str], float]) -> Cost:
        return Cost.through(of(ONE), median(runs[f"{load}: batch"]), of(load))

    def step(name: str) -> Cost:
        one, many = (seconds(f"{name}, {count} files") for count in (1, MANY))
        return Cost.through(one, MANY, many)

    finish = step("finish")
    wait = Settings.max_wait_ms / 1000
    alone = [photo / 1000 for photo in runs["photo by photo"]]
    faster = (seconds(f"{load}: decode") + seconds(f"{load}: judge")) / mean(alone)
    return Machine(
        workers=WORKERS,
        batch_size=BATCH_SIZE,
        max_wait=wait,
        notice=max(0.0, seconds("noticing") - wait),
        photos=[photo * faster for photo in alone],
        claim=step("claim"),
        look_up=step("look up"),
        decide=cost(lambda name: seconds(f"{name}: decide")),
        move=cost(
            lambda name: seconds(f"{name}: file") - finish.of(median(runs[f"{name}: batch"]))
        ),
        finish=finish,
    )


def _check(runs: Runs) -> list[list[str]]:
    rows = []
    for load in (*BURSTS, *STEADY):
        measured = [median(runs[f"{load}: p{percent}"]) for percent in PERCENTILES]
        simulated = _simulated(runs, load)
        off = [f"{100 * (s / m - 1):+.0f} %" for s, m in zip(simulated, measured, strict=True)]
        rows.append([load, *_cells(measured), *_cells(simulated), ", ".join(off)])
    return rows


def _simulated(runs: Runs, load: str) -> list[float]:
    """The same files as in the benchmark, in as many trials."""
    same = machine(runs, load)
    trials = []
    for seed in range(TRIALS):
        if load in BURSTS:
            files, times = BURSTS[load]
            schedules = [burst(files)] * times
        else:
            rate = STEADY[load] * median(runs[f"{FULLEST}: rate"])
            schedules = [poisson(rate, STEADY_FILES, seed)]
        waits = [
            wait
            for number, schedule in enumerate(schedules)
            for wait in latencies(schedule, same, seed=100 * seed + number)
        ]
        trials.append(percentiles(waits))
    return [median(of) for of in zip(*trials, strict=True)]


def percentiles(seconds: Sequence[float]) -> list[float]:
    """PERCENTILES, in milliseconds."""
    cuts = quantiles(seconds, n=100, method="inclusive")
    return [1000 * cuts[percent - 1] for percent in PERCENTILES]


def capacity(of: Machine, files: int) -> float:
    """Images a second if files always wait."""
    return files / max(latencies(burst(files), of))


def _costs(measured: Path, speed: Path) -> list[list[str]]:
    """Of the shipped model: processor time by step, and what the rows take."""
    whole, moving = of_benchmark(speed, throughput.NAME), of_benchmark(speed, durability.NAME)
    written = {name: median(of) for name, of in of_benchmark(measured, rows.NAME).items()}
    steps = {
        "decode": median(whole["shipped: decoding"]),
        "judge": median(whole["shipped: judging"]),
        "commit": written["SQLite, processor"],
        "move": median(moving["moved, 32 at once, not waiting"]),
    }
    service = median(whole["shipped: all of the service"])
    steps["all else in the service"] = service - sum(steps.values())
    steps["the service"] = service
    steps["PostgreSQL's server"] = written["PostgreSQL, processor of the server"]
    tables = [f"PostgreSQL, {of}{name}" for name in ("images", "faces") for of in ROOM]
    sizes = {
        "a row in SQLite": written["SQLite, on the disk"],
        "a row in PostgreSQL": sum(written[name] for name in tables),
        "its write-ahead log": written["PostgreSQL, write-ahead log"],
    }
    work = [
        [what, f"{each:.2f} core-ms", f"{each * PER_SECOND / 1000:.1f} cores"]
        for what, each in steps.items()
    ]
    room = [
        [what, f"{each:,.0f} bytes", f"{each * DAILY / 1e12:.1f} TB"]
        for what, each in sizes.items()
    ]
    return work + room


def _fleets(runs: Runs, files: int) -> list[list[str]]:
    """Steady loads by the share of what the machines can do, and files that come all at once."""
    steady, full = machine(runs, list(STEADY)[-1]), machine(runs, FULLEST)
    most = capacity(steady, files)
    lines = []
    for machines in FLEETS:
        cases = [
            (f"{load:.0%}", poisson(load * machines * most, files * machines, seed=1), steady)
            for load in LOADS
        ]
        cases.append((f"{files:,} at once", burst(files), full))
        for name, dropped, of in cases:
            for inboxes in sorted({1, machines}):
                waits = latencies(dropped, of, machines=machines, inboxes=inboxes)
                cells = _cells(percentiles(waits))
                lines.append([name, str(machines), str(inboxes), *cells])
    return lines


def _heads(what: str) -> list[str]:
    return [f"{what} p{percent}, ms" for percent in PERCENTILES]


def _cells(milliseconds: Sequence[float]) -> list[str]:
    return [f"{value:.0f}" for value in milliseconds]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [heads, ["---"] * len(heads), *rows]
    click.echo("\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")


if __name__ == "__main__":
    main()
