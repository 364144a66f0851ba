"""The stages of the service as queues, simulated event by event: when each file would be filed.

    inbox -> intake (claim) -> readers (read, decode, judge) -> classifying -> deciding -> filing

What waits for what is as in `daemon.pipeline`; how long each step takes is given. The events are
SimPy's. In what is known exactly (one queue, one server: Pollaczek 1930, Khinchine 1932) it agrees.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import simpy

from daemon.pipeline import BATCHES_AHEAD
from daemon.reading import share_of

Steps = Generator[simpy.Event, Any, None]


@dataclass(frozen=True)
class Cost:
    """Seconds of a step on a batch: some for the batch, and some for each file in it."""

    batch: float
    each: float

    def of(self, files: float) -> float:
        """Seconds for so many."""
        return self.batch + self.each * files

    @classmethod
    def through(cls, one: float, files: float, many: float) -> Cost:
        """Of a step that takes `one` seconds for one file and `many` for so many."""
        each = max(0.0, (many - one) / (files - 1)) if files > 1 else 0.0
        return cls(one - each, each)


FREE = Cost(0.0, 0.0)


@dataclass(frozen=True)
class Machine:
    """A machine that runs one service; all times in seconds.

    `notice` passes until a file is waiting to be claimed. `photos` are what it takes to read,
    decode and judge photos; each file takes one of them at random. `look_up`, `claim`, `decide`
    and `finish` are transactions, of which one goes on at a time.
    """

    workers: int
    batch_size: int
    max_wait: float
    notice: float
    photos: Sequence[float]
    claim: Cost = FREE
    look_up: Cost = FREE
    decide: Cost = FREE
    move: Cost = FREE
    finish: Cost = FREE


def burst(count: int, between: float = 0.0) -> list[float]:
    """When files are dropped that come at once, so many seconds one after the other."""
    return [i * between for i in range(count)]


def poisson(per_second: float, count: int, seed: int) -> list[float]:
    """When files are dropped that know nothing of each other."""
    rng = random.Random(seed)
    return list(accumulate(rng.expovariate(per_second) for _ in range(count)))


def latencies(
    dropped: Sequence[float],
    machine: Machine,
    *,
    machines: int = 1,
    inboxes: int = 1,
    seed: int = 0,
) -> list[float]:
    """Seconds from each drop to the file in its place, in the order in which they get there.

    `dropped` ascends. So many equal machines share the inboxes evenly; a file is dropped into
    an inbox at random.
    """
    environment, rng = simpy.Environment(), random.Random(seed)
    settled = [simpy.Store(environment) for _ in range(inboxes)]
    taken: list[float] = []
    for number in range(machines):
        _Pipeline(environment, machine, settled[number % inboxes], rng, taken)
    environment.process(_drop(environment, dropped, machine.notice, settled, rng))
    environment.run()
    return taken


def _drop(
    environment: simpy.Environment,
    dropped: Sequence[float],
    notice: float,
    settled: Sequence[simpy.Store],
    rng: random.Random,
) -> Steps:
    for when in dropped:
        yield environment.timeout(max(0.0, when + notice - environment.now))
        rng.choice(settled).put(when)


@dataclass(frozen=True)
class _Batch:
    """When its files were dropped, and what reads them."""

    dropped: Sequence[float]
    reading: Sequence[simpy.Event]


class _Pipeline:
    def __init__(
        self,
        environment: simpy.Environment,
        machine: Machine,
        settled: simpy.Store,
        rng: random.Random,
        taken: list[float],
    ) -> None:
        self._environment = environment
        self._machine = machine
        self._settled = settled
        self._rng = rng
        self._taken = taken
        self._readers = simpy.Resource(environment, machine.workers)
        self._ledger = simpy.Resource(environment, 1)
        self._claimed, self._judged, self._decided = (
            simpy.Store(environment, BATCHES_AHEAD) for _ in range(3)
        )
        for stage in (self._intake, self._classifying, self._deciding, self._filing):
            environment.process(stage())

    def _intake(self) -> Steps:
        while True:
            files = [(yield self._settled.get())]
            end = self._environment.timeout(self._machine.max_wait)
            while len(files) < self._machine.batch_size:
                get = self._settled.get()
                yield get | end
                if not get.triggered:
                    get.cancel()
                    break
                files.append(get.value)
            yield from self._transaction(self._machine.claim, files)
            size = share_of(len(files), self._machine.workers)
            shares = [files[i : i + size] for i in range(0, len(files), size)]
            reading = [self._environment.process(self._read(len(share))) for share in shares]
            yield self._claimed.put(_Batch(files, reading))

    def _read(self, count: int) -> Steps:
        with self._readers.request() as reader:
            yield reader
            yield self._environment.timeout(sum(self._rng.choices(self._machine.photos, k=count)))

    def _classifying(self) -> Steps:
        while True:
            batch = yield self._claimed.get()
            yield self._environment.all_of(batch.reading)
            yield self._judged.put(batch)

    def _deciding(self) -> Steps:
        while True:
            batch = yield self._judged.get()
            yield from self._transaction(self._machine.look_up, batch.dropped)
            yield from self._transaction(self._machine.decide, batch.dropped)
            yield self._decided.put(batch)

    def _filing(self) -> Steps:
        while True:
            batch = yield self._decided.get()
            yield self._environment.timeout(self._machine.move.of(len(batch.dropped)))
            # The time that the row tells is that before its transaction.
            self._taken += [self._environment.now - dropped for dropped in batch.dropped]
            yield from self._transaction(self._machine.finish, batch.dropped)

    def _transaction(self, cost: Cost, files: Sequence[float]) -> Steps:
        with self._ledger.request() as turn:
            yield turn
            yield self._environment.timeout(cost.of(len(files)))
