"""Ray: its start and end, and the stream of files through its actors."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

# Ray reads these when it is imported, and so do all processes that it starts.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_BACKEND_LOG_LEVEL"] = "fatal"
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "."  # of what it would print

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask

from daemon.bulk.judge import LISTED, Judge
from daemon.bulk.places import reason
from daemon.bulk.results import Digests, left
from daemon.bulk.sources import Source
from daemon.errors import ServiceError
from daemon.settings import host_and_port
from db.chunks import chunks
from trainer.bundle import Bundle

logging.setLogRecordFactory(logging.LogRecord)  # Ray's marks the records of others, too.

AT_ONCE = 128
"""Files that an actor takes at once; it works on two such lots, so that none waits for the other's
end."""

BLOCK_BYTES = 16 * 1024
"""From so much on Ray hands a part of a list on: with its usual 128 MiB a million files would be
listed before the first is judged."""

STORE_BYTES = 256 * 1024**2
"""The shared memory of a Ray of our own: names and results are all that lies there."""

CLASS = re.compile(r"^[\w.]+: ")
"""How the line of an exception begins."""

AFAR = "ray://"
"""How the address of a cluster begins that this machine is not part of."""

REACH_SECONDS = 10.0
"""How long another machine may take to answer at all."""


@contextmanager
def session(address: str | None, processors: int) -> Iterator[None]:
    """A connection to the Ray at the address, or a Ray of our own with so many processors.

    Raises:
        ServiceError: it cannot be reached, or not be started.
    """
    if address:
        _require_reachable(address)
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"ray\.")
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    # Its logs go with it: what matters comes back as an error.
    with tempfile.TemporaryDirectory(prefix="moodsort-ray-", ignore_cleanup_errors=True) as logs:
        own = {
            "num_cpus": processors,
            "include_dashboard": False,
            "object_store_memory": STORE_BYTES,
            "_temp_dir": str(Path(logs, "ray")),  # which it opens to everybody
        }
        try:
            with _own_stderr(Path(logs, "driver.err")), _own_signals():
                ray.init(address or "local", **quiet, **({} if address else own))
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            if address:
                raise _unreachable(address, error) from None
            raise ServiceError(f"Ray cannot be started: {reason(error)}.") from None
        try:
            yield
        finally:
            ray.shutdown()


def _require_reachable(address: str) -> None:
    """Ray itself would go on trying for ever."""
    if address == "auto":
        return
    try:
        host, port = host_and_port(address.removeprefix(AFAR))
    except ValueError:
        like = "HOST:6379, ray://HOST:10001 or auto"
        raise ServiceError(f"{address} is no address of a Ray, such as {like}.") from None
    try:
        socket.create_connection((host, port), REACH_SECONDS).close()
    except OSError as error:
        raise _unreachable(address, error) from None


def _unreachable(address: str, error: Exception) -> ServiceError:
    return ServiceError(f"The Ray at {address} cannot be reached: {reason(error)}.")


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray's native code has a way with SIGTERM that looks like a crash."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _own_stderr(file: Path) -> Iterator[None]:
    """Let native code write to the file what it has to say."""
    sys.stderr.flush()
    before = os.dup(2)
    try:
        with open(file, "wb") as out:
            os.dup2(out.fileno(), 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def judged(
    address: str | None, model: Bundle, source: Source, done: Digests, unsure_below: float
) -> Generator[pa.Table, None, None]:
    """What is said of all that is listed and not done, as a `Judge` has it, in any order.

    It takes a `session` with the Ray at the address.

    Raises:
        ServiceError: Ray cannot go on.
    """
    try:
        tables = partial(_judged, model, source, done, unsure_below)
        yield from _from_afar(tables) if address and address.startswith(AFAR) else tables()
    except ray.exceptions.RayError as error:
        raise ServiceError(
            f"Ray cannot go on: {_cause(error)}. Run it again: it does what is left."
        ) from error


def _from_afar(tables: Callable[[], Iterator[pa.Table]]) -> Iterator[pa.Table]:
    """Ray Data works only within a cluster: an actor there holds the stream."""
    stream = ray.remote(num_cpus=0)(_Stream).remote(tables)
    while (table := ray.get(stream.next.remote())) is not None:
        yield table


class _Stream:
    def __init__(self, tables: Callable[[], Iterator[pa.Table]]) -> None:
        self._tables = tables()

    def next(self) -> pa.Table | None:
        """None: that was all."""
        return next(self._tables, None)


def _judged(
    model: Bundle, source: Source, done: Digests, unsure_below: float
) -> Generator[pa.Table, None, None]:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = BLOCK_BYTES
    resources = ray.cluster_resources()
    gpus, processors = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
    actors = gpus or processors
    each = max(1, processors // actors)
    listed = ray.data.read_datasource(_Listing(source, done), override_num_blocks=1, num_cpus=0)
    results = listed.map_batches(
        Judge,
        fn_constructor_args=(model, source, each, unsure_below),
        batch_size=AT_ONCE,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(
            size=actors, max_concurrent_calls_per_actor=2, enable_true_multi_threading=True
        ),
        num_cpus=each,
        num_gpus=1 if gpus else None,
    )
    yield from results.iter_batches(batch_size=None, batch_format="pyarrow")


def _cause(error: Exception) -> str:
    """What was raised far away first: the line of the trace that names it, less its class."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if CLASS.match(line)] or lines or [type(error).__name__]
    return CLASS.sub("", told[0]).rstrip(".")


class _Listing(Datasource):  # type: ignore[misc]
    """The files of a source that are not done, by one task that lists on as they are taken."""

    def __init__(self, source: Source, done: Digests) -> None:
        super().__init__()
        self._source = source
        self._done = ray.put(done)

    def estimate_inmemory_data_size(self) -> int | None:
        """Nobody knows."""
        return None

    def get_read_tasks(self, parallelism: int, **_: Any) -> list[ReadTask]:
        """The one."""
        about = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None, input_files=None)
        return [ReadTask(partial(_listed, self._source, self._done), about, schema=LISTED)]


def _listed(source: Source, done: ray.ObjectRef) -> Iterator[pa.Table]:
    for files in chunks(left(source, ray.get(done)), AT_ONCE):
        yield pa.Table.from_pylist([asdict(file) for file in files], LISTED)
