"""Compile and fit a network on clean data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from trainer.augmentation import augment
from trainer.cleaning import CleanData
from trainer.dataset import CLASSES
from trainer.networks import Network

PREFETCHED = 4


@dataclass(frozen=True)
class Fitted:
    """A trained float32 model and, by name, each figure's value after each epoch."""

    model: keras.Model
    history: dict[str, list[float]]


def fit(
    net: Network,
    data: CleanData,
    train: NDArray[np.int64],
    validation: NDArray[np.int64],
    *,
    epochs: int,
    seed: int,
    precision: str,
    logs: Path,
    verbose: int,
) -> Fitted:
    """Train `net` on the examples `train` and watch it on `validation`.

    `precision` is a Keras dtype policy; whatever it is, the model that comes back computes in
    float32. TensorBoard logs go to `logs`. `verbose` is Keras' own: 1 draws a bar, 2 prints a
    line an epoch.
    """
    keras.utils.set_random_seed(seed)
    steps = epochs * -(-len(train) // net.batch_size)
    model = _build(net, precision)
    optimizer = net.optimizer(steps)
    model.compile(
        optimizer,
        loss=keras.losses.BinaryCrossentropy(label_smoothing=net.label_smoothing),
        metrics=[],
        weighted_metrics=[keras.metrics.MeanMetricWrapper(_right, name="accuracy")],
        jit_compile=False,
    )
    fitted = model.fit(
        _training_batches(net, data, train, seed),
        validation_data=_batches(net, data, validation),
        epochs=epochs,
        callbacks=_callbacks(optimizer, logs),
        verbose=verbose,
        shuffle=False,
    )
    return Fitted(_in_float32(net, model), fitted.history)


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


def _in_float32(net: Network, trained: keras.Model) -> keras.Model:
    """The same weights in a model that is fast and exact on any machine, without optimizer."""
    model = _build(net, "float32")
    model.set_weights(trained.get_weights())
    return model


def _callbacks(optimizer: keras.optimizers.Optimizer, logs: Path) -> Sequence[Any]:
    board = keras.callbacks.TensorBoard(str(logs))
    if optimizer.use_ema:
        return [keras.callbacks.SwapEMAWeights(), board]
    return [board]


def _training_batches(
    net: Network, data: CleanData, part: NDArray[np.int64], seed: int
) -> tf.data.Dataset:
    weights = _balancing(data, part) if net.balance else np.ones(len(part), np.float32)
    order = tf.data.Dataset.from_tensor_slices((part, weights)).shuffle(len(part), seed=seed)
    batches = order.batch(net.batch_size).map(
        _gather(net, data), num_parallel_calls=tf.data.AUTOTUNE
    )
    if net.augment:
        seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
        batches = tf.data.Dataset.zip(batches, seeds).map(
            lambda batch, number: augment(*batch, seed=number),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    return batches.prefetch(PREFETCHED)


def _batches(net: Network, data: CleanData, part: NDArray[np.int64]) -> tf.data.Dataset:
    weights = np.ones(len(part), np.float32)
    order = tf.data.Dataset.from_tensor_slices((part, weights))
    return order.batch(net.batch_size).map(_gather(net, data)).prefetch(PREFETCHED)


def _gather(net: Network, data: CleanData) -> Any:
    """(indices, weights) -> (uint8 pixels (n, h, w, c), float32 labels (n, 1), weights (n, 1))."""

    def rows(indices: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        return data.pixels[indices], data.labels[indices].astype(np.float32)

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
