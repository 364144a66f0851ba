"""Which devices, of one machine or of several, train together (tf.distribute)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from trainer.errors import TrainerError

CLUSTER = "TF_CONFIG"
"""The environment variable in which TensorFlow is told of the machines that train together."""


@dataclass(frozen=True)
class Devices:
    """All that train one network together, as seen from one process of them.

    `index`: the process's own number of `count`; number 0 writes what all have learnt.
    """

    strategy: tf.distribute.Strategy = field(default_factory=tf.distribute.get_strategy)
    index: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes what all have learnt."""
        return self.index == 0

    def wait_for_all(self) -> None:
        """Until every process calls it: one that ends before ends the others with it.

        Raises:
            TrainerError: another ended before.
        """
        if self.count == 1:
            return
        with others_end():
            self.strategy.reduce(tf.distribute.ReduceOp.SUM, tf.constant(1), axis=None)


@contextmanager
def others_end() -> Iterator[None]:
    """That another process has ended, as a TrainerError."""
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError):
        raise TrainerError(
            "Another process of this training has ended. Start all of them with --resume."
        ) from None


def choose(name: str) -> Devices:
    """The devices that a strategy stands for; to be called before any of them is used.

    `mirrored` takes all GPUs of this machine, `multiworker` all machines that TF_CONFIG names;
    `auto` does what there is.

    Raises:
        TrainerError: TF_CONFIG is missing where it is needed, or is no good.
    """
    if name == "multiworker" or (name == "auto" and os.environ.get(CLUSTER)):
        return _machines()
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if name == "auto" and (len(devices) == 1 or devices[0].device_type == "CPU"):
        return Devices()
    return Devices(tf.distribute.MirroredStrategy([device.name for device in devices]))


def _machines() -> Devices:
    task, workers = _cluster()
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise TrainerError(f"The machines of {CLUSTER} do not get together: {error}") from None
    return Devices(strategy, task, workers)


def _cluster() -> tuple[int, int]:
    """The number of this process, and how many there are."""
    example = '{"cluster": {"worker": ["HOST:PORT", …]}, "task": {"type": "worker", "index": 0}}'
    try:
        config: Any = json.loads(os.environ[CLUSTER])
        workers = config["cluster"]["worker"]
        task = config["task"]
        if set(config["cluster"]) != {"worker"} or task["type"] != "worker":
            raise ValueError
        index = int(task["index"])
        if not 0 <= index < len(workers):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise TrainerError(
            f"To train on several machines, set {CLUSTER} on each to {example}, with the same "
            "workers and an index of its own."
        ) from None
    return index, len(workers)
