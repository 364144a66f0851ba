"""Fit a network on clean data, in a way that can be interrupted and gone on with."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.metrics import log_loss

from trainer import progress
from trainer.checkpoint import Checkpoint
from trainer.cleaning import CleanData
from trainer.dataset import CLASSES
from trainer.devices import Devices, others_end
from trainer.errors import TrainerError
from trainer.graph import Graph
from trainer.logbook import Logbook
from trainer.networks import Network

CORES = os.cpu_count() or 1
PREFETCHED = 4

FINE_TUNING = 0.25
"""Of the rate of a network's recipe, where training begins with weights that know something."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Fitted:
    """A trained float32 model and, by name, each figure's value after each epoch."""

    model: keras.Model
    history: dict[str, list[float]]


@dataclass(frozen=True)
class Plan:
    """How long and how to train.

    `targets`: float32 (n,), for every example of the data the probability of sad to be learnt.
    `patience`: stop after as many epochs without a lower validation loss. `precision`: a Keras
    dtype policy. `begin`: weights of a network of the same kind to begin with, None for random
    ones. `run`: by name, what an interrupted training must have in common with the one
    that goes on with it; `state`: the file that it is kept in. `devices` train together, each on
    its share of every batch.
    """

    targets: NDArray[np.float32]
    epochs: int
    patience: int
    seed: int
    precision: str
    logs: Path
    state: Path
    run: Mapping[str, Any]
    begin: Sequence[NDArray[np.float32]] | None = None
    devices: Devices = field(default_factory=Devices)


def fit(
    net: Network,
    data: CleanData,
    train: NDArray[np.int64],
    validation: NDArray[np.int64],
    plan: Plan,
    say: Say,
) -> Fitted:
    """Train `net` on the examples `train`; keep the weights that do best on `validation`.

    Where `plan.state` exists, training goes on from there, to the same result. A batch that does
    not fit into memory is halved, and `say` is told. Whatever the precision, the model that comes
    back computes in float32.

    Raises:
        TrainerError: memory does not suffice; `plan.begin` are weights of another network; the loss
            overflows; the state cannot be read, written or gone on with; the logs cannot be
            written.
    """
    resumed = Checkpoint.load(plan.state, plan.run) if plan.state.exists() else None
    size = resumed.batch_size if resumed else net.batch_size
    while True:
        state = resumed or Checkpoint(plan.run, size)
        try:
            with others_end():
                return _fit(net, data, train, validation, plan, state, say)
        except tf.errors.ResourceExhaustedError:
            if plan.devices.count > 1:
                raise TrainerError(
                    "Memory ran out here, which ends the training of all processes."
                ) from None
            keras.backend.clear_session()
            if plan.state.exists():
                raise TrainerError(
                    "Memory ran out. Make some free and go on with --resume."
                ) from None
            if size == 1:
                raise TrainerError("There is not enough memory to train on one image.") from None
            say(f"Batches of {size} images do not fit into memory; trying {size // 2}.")
            size //= 2


def _fit(
    net: Network,
    data: CleanData,
    train: NDArray[np.int64],
    validation: NDArray[np.int64],
    plan: Plan,
    state: Checkpoint,
    say: Say,
) -> Fitted:
    keras.utils.set_random_seed(plan.seed)
    batch_size = min(state.batch_size, len(train))
    steps = _steps(train, batch_size)
    strategy = plan.devices.strategy
    with strategy.scope():
        model = _compiled(net, plan, steps=plan.epochs * steps)
        if plan.begin:
            _begin(model, plan.begin)
        variables = _restore(model, state)
    weights = _balancing(data, train) if net.balance else np.ones(len(train), np.float32)
    step = _step(model, strategy)
    labels, graph = data.labels[validation], Graph(model)
    pace = _Pace(plan.epochs - state.epochs_done)
    with Logbook(plan.logs, model) as logbook:
        for epoch in range(state.epochs_done, plan.epochs):
            if epoch - 1 - state.best_epoch >= plan.patience:
                say(f"No better for {plan.patience} epochs: stopping.")
                break
            batches = strategy.experimental_distribute_dataset(
                _batches(net, data, plan, train, weights, epoch, batch_size)
            )
            title = f"Epoch {epoch + 1} of {plan.epochs}"
            figures, per_second = _learn(step, batches, title, steps, batch_size)
            with _averaged(model):
                p_sad = graph.at(validation, data.pixels)[0][:, 0]
                figures |= validation_figures(labels, p_sad)
                if figures["val_loss"] < min(state.history.get("val_loss", [np.inf])):
                    state.best_epoch, state.best = epoch, model.get_weights()
            state.add(figures, variables)
            if plan.devices.is_first:
                state.save(plan.state)
            logbook.scalars(epoch + 1, figures)
            logbook.mistakes(epoch + 1, labels, p_sad, lambda i: data.pixels[validation[i]])
            told = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
            say(f"{title}: {told}; {per_second:.0f} images/s, {pace.left()} left")
    say(f"Keeping the weights of epoch {state.best_epoch + 1}, the best on validation.")
    best = _build(net, "float32")
    best.set_weights(state.best)
    return Fitted(best, state.history)


def _steps(train: NDArray[np.int64], batch_size: int) -> int:
    """How many batches an epoch has."""
    return -(-len(train) // batch_size)


def _compiled(net: Network, plan: Plan, *, steps: int) -> keras.Model:
    model = _build(net, plan.precision)
    model.compile(
        net.optimizer(steps, FINE_TUNING if plan.begin else 1.0),
        loss=keras.losses.BinaryCrossentropy(label_smoothing=net.label_smoothing),
        metrics=[],
        weighted_metrics=[keras.metrics.MeanMetricWrapper(_right, name="accuracy")],
        jit_compile=False,
    )
    model.optimizer.build(model.trainable_variables)
    return model


def _right(labels: Any, p: Any) -> Any:
    """Whether each answer is right; a mixed label counts as what it mostly is."""
    return keras.ops.cast(keras.ops.equal(labels > 0.5, p > 0.5), "float32")


def _build(net: Network, precision: str) -> keras.Model:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        return net.build(net.input)
    finally:
        keras.config.set_dtype_policy(before)


def _begin(model: keras.Model, weights: Sequence[NDArray[np.float32]]) -> None:
    try:
        model.set_weights(weights)
    except ValueError:
        raise TrainerError(
            f"The weights to begin with are of another network than {model.name}."
        ) from None


def _restore(model: keras.Model, state: Checkpoint) -> list[Any]:
    """All variables of the training, with the values that the state has for them, if any."""
    variables = [*model.variables, *model.optimizer.variables]
    if state.variables:
        for variable, value in zip(variables, state.variables, strict=True):
            variable.assign(value)
    return variables


def _step(model: keras.Model, strategy: tf.distribute.Strategy) -> Callable[[Any], dict[str, Any]]:
    """Learns from a batch that is divided among the devices; gives each figure's mean over them.

    Not `train_on_batch`, which gives all of a batch to every device.
    """

    def learn(batch: Any) -> dict[str, Any]:
        figures = strategy.run(model.train_step, args=(batch,))
        return {name: strategy.reduce("MEAN", figures[name], axis=None) for name in figures}

    compiled: Callable[[Any], dict[str, Any]] = tf.function(
        learn, reduce_retracing=True, autograph=False
    )

    def step(batch: Any) -> dict[str, Any]:
        model.reset_metrics()
        return compiled(batch)

    return step


def _learn(
    step: Callable[[Any], dict[str, Any]],
    batches: Iterable[Any],
    title: str,
    steps: int,
    batch_size: int,
) -> tuple[dict[str, float], float]:
    """Fit for one epoch; its figures, and images per second.

    Not by `model.fit`, which ends by putting the moving averages into the weights.
    """
    with progress.epoch(title, steps * batch_size) as epoch:
        for batch in batches:
            epoch.advance(batch_size, step(batch))
        if not np.isfinite(epoch.figures["loss"]):
            raise TrainerError(
                f"{title}: the loss is no number. Try another --precision or --seed."
            )
        return epoch.figures, epoch.per_second


@contextmanager
def _averaged(model: keras.Model) -> Iterator[None]:
    """Put the moving average of the weights into the model, where its optimizer keeps one."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)  # of a loss scaler
    if not optimizer.use_ema:
        yield
        return
    swap = keras.callbacks.SwapEMAWeights()
    swap.set_model(model)
    swap.on_test_begin()
    try:
        yield
    finally:
        swap.on_test_end()


def validation_figures(labels: NDArray[np.int64], p_sad: NDArray[np.float32]) -> dict[str, float]:
    """What is measured after each epoch, of probabilities (n,) against labels (n,)."""
    return {
        "val_loss": float(log_loss(labels, p_sad.astype(np.float64), labels=[0, 1])),
        "val_accuracy": float(np.mean((p_sad > 0.5) == labels)),
    }


class _Pace:
    """How much time the epochs that are left will take, if they take as long as those before."""

    def __init__(self, epochs: int) -> None:
        self._epochs, self._done, self._began = epochs, 0, time.monotonic()

    def left(self) -> timedelta:
        """To be asked once after each epoch."""
        self._done += 1
        taken = time.monotonic() - self._began
        return timedelta(seconds=round(taken / self._done * (self._epochs - self._done)))


def _batches(
    net: Network,
    data: CleanData,
    plan: Plan,
    train: NDArray[np.int64],
    weights: NDArray[np.float32],
    epoch: int,
    size: int,
) -> tf.data.Dataset:
    """(pixels, labels (n, 1), weights (n, 1)); what is random follows from seed and epoch alone.

    The last batch is filled up with images of the first, so that batch normalisation never meets
    a batch of one and TensorFlow compiles for one shape.
    """
    rng = np.random.default_rng([plan.seed, epoch])
    steps = _steps(train, size)
    order = np.resize(rng.permutation(len(train)), steps * size)
    rows = tf.data.Dataset.from_tensor_slices((train[order], weights[order])).batch(
        size, drop_remainder=True
    )
    batches = rows.map(_gather(net, data, plan.targets), num_parallel_calls=CORES)
    if augment := net.augment:
        seeds = rng.integers(2**62, size=steps)
        batches = tf.data.Dataset.zip(batches, tf.data.Dataset.from_tensor_slices(seeds)).map(
            lambda batch, seed: augment(*batch, seed=seed), num_parallel_calls=CORES
        )
    return batches.prefetch(PREFETCHED).with_options(_sharing())


def _sharing() -> tf.data.Options:
    """Let each of several processes make all batches and take its share of each."""
    options = tf.data.Options()
    # Its thread looks for work after 10, 20, 40, … ms, and the end of an epoch often waits for it:
    # every other one took 10.2 s rather than 7.5 s. There is little to tune.
    options.autotune.enabled = False
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options


def _gather(net: Network, data: CleanData, targets: NDArray[np.float32]) -> Any:
    """(indices, weights) -> (uint8 pixels (n, h, w, c), float32 labels (n, 1), weights (n, 1))."""

    def rows(indices: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        return data.pixels[indices], targets[indices]

    def gather(indices: Any, weights: Any) -> tuple[Any, Any, Any]:
        pixels, labels = tf.numpy_function(rows, [indices], (tf.uint8, tf.float32), stateful=False)
        pixels.set_shape((None, *net.input.shape))
        labels.set_shape((None,))
        return pixels, labels[:, None], weights[:, None]

    return gather


def _balancing(data: CleanData, part: NDArray[np.int64]) -> NDArray[np.float32]:
    """Weights by which, within each source, both classes count the same; their mean is 1.

    Balancing each source by itself keeps a network from telling the class by the look of the
    source where one source has mostly one class.
    """
    weights = np.empty(len(part), np.float32)
    sources = np.array([data.examples[i].source for i in part])
    for source in np.unique(sources):
        for label in range(len(CLASSES)):
            in_source = sources == source
            chosen = in_source & (data.labels[part] == label)
            weights[chosen] = in_source.sum() / (len(CLASSES) * max(1, chosen.sum()))
    return weights
