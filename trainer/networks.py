"""The convolutional networks, by name, each with the recipe that trains it.

A new one is one function that returns its model, and one entry in `NETWORKS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import layers

from trainer.errors import TrainerError
from trainer.image import InputSpec

Tensor = Any
"""A Keras symbolic tensor; Keras ships no types."""


@dataclass(frozen=True)
class Network:
    """A network and how it is trained.

    `build` returns an uncompiled model from uint8 (batch, height, width, channels) to float32
    (batch, 1), the probability of the class with index 1. `optimizer` takes the number of steps
    of the whole training. `patience`: epochs without a lower validation loss after which training
    stops. `augment`: vary the training images. `balance`: let both classes weigh
    the same.
    """

    name: str
    input: InputSpec
    build: Callable[[InputSpec], keras.Model]
    optimizer: Callable[[int], keras.optimizers.Optimizer]
    epochs: int
    patience: int
    batch_size: int
    label_smoothing: float
    augment: bool
    balance: bool


def network(name: str) -> Network:
    """The network called `name`.

    Raises:
        TrainerError: there is none.
    """
    try:
        return NETWORKS[name]
    except KeyError:
        known = ", ".join(sorted(NETWORKS))
        raise TrainerError(f"There is no network {name!r}; known are: {known}.") from None


def seed(spec: InputSpec) -> keras.Model:
    """The network of the original system, layer for layer; 3,696,625 parameters at 256x256x3.

    Source: sameersk2k, "Emotion Classifier: Deep Learning for Facial Expression Recognition".
    """
    return keras.Sequential(
        [
            keras.Input(spec.shape, dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(256, activation="relu"),
            layers.Dense(1, activation="sigmoid", dtype="float32"),
        ],
        name="seed",
    )


def compact(spec: InputSpec) -> keras.Model:
    """A residual network (He et al. 2016) with squeeze-and-excitation (Hu et al. 2018).

    707,385 parameters at 48x48x1. The first convolution halves the resolution, where most of the
    arithmetic would be.
    """
    image = keras.Input(spec.shape, dtype="uint8")
    x = layers.Rescaling(1 / 255)(image)
    x = _convolve(x, 24, strides=2)
    for width, halve in ((32, False), (64, True), (128, True)):
        x = _residual(x, width, halve=halve, excite=True)
        x = _residual(x, width, excite=True)
    return keras.Model(image, _probability(x), name="compact")


def wide(spec: InputSpec) -> keras.Model:
    """A residual network of 1,233,281 parameters at 48x48x1, to teach `compact`."""
    image = keras.Input(spec.shape, dtype="uint8")
    x = layers.Rescaling(1 / 255)(image)
    x = _convolve(_convolve(x, 32), 32)
    for width in (48, 96, 160):
        x = _residual(x, width, halve=True)
        x = _residual(x, width)
    return keras.Model(image, _probability(x), name="wide")


def _residual(x: Tensor, width: int, *, halve: bool = False, excite: bool = False) -> Tensor:
    """Where it halves the resolution, its short cut averages before it projects.

    Source: ResNet-D (He et al. 2019, "Bag of Tricks for Image Classification").
    """
    y = _convolve(x, width, strides=2 if halve else 1)
    y = _convolve(y, width, activation=None)
    if excite:
        y = _excite(y, width)
    if halve:
        x = layers.AveragePooling2D(2)(x)
    if x.shape[-1] != width:
        x = _convolve(x, width, kernel=1, activation=None)
    return layers.Activation("relu")(layers.Add()([x, y]))


def _excite(x: Tensor, width: int) -> Tensor:
    """Weigh the channels by what all of the image shows."""
    y = layers.GlobalAveragePooling2D(keepdims=True)(x)
    y = layers.Conv2D(max(8, width // 8), 1, activation="relu")(y)
    return layers.Multiply()([x, layers.Conv2D(width, 1, activation="sigmoid")(y)])


def _convolve(
    x: Tensor, width: int, *, kernel: int = 3, strides: int = 1, activation: str | None = "relu"
) -> Tensor:
    x = layers.Conv2D(width, kernel, strides=strides, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    return layers.Activation(activation)(x) if activation else x


def _probability(x: Tensor) -> Tensor:
    x = layers.Dropout(0.3)(layers.GlobalAveragePooling2D()(x))
    return layers.Dense(1, activation="sigmoid", dtype="float32")(x)


def _adam(steps: int) -> keras.optimizers.Optimizer:
    return keras.optimizers.Adam()


def _adamw_cosine(steps: int) -> keras.optimizers.Optimizer:
    """AdamW on one cosine with a warm-up; the weights' moving average is what is kept."""
    warm_up = max(1, steps // 20)
    rate = keras.optimizers.schedules.CosineDecay(
        1e-5, steps - warm_up, warmup_target=2e-3, warmup_steps=warm_up
    )
    momentum = min(0.999, 1 - 10 / (10 + steps))
    adamw = keras.optimizers.AdamW(rate, weight_decay=0.05, use_ema=True, ema_momentum=momentum)
    adamw.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return adamw


_COMPACT = Network(
    name="compact",
    input=InputSpec(48, 48, 1),
    build=compact,
    optimizer=_adamw_cosine,
    epochs=48,
    patience=25,
    batch_size=64,
    label_smoothing=0.1,
    augment=True,
    balance=True,
)

NETWORKS = {
    net.name: net
    for net in (
        Network(
            name="seed",
            input=InputSpec(256, 256, 3),
            build=seed,
            optimizer=_adam,
            epochs=20,
            patience=20,
            batch_size=32,
            label_smoothing=0.0,
            augment=False,
            balance=False,
        ),
        _COMPACT,
        replace(_COMPACT, name="wide", build=wide),
    )
}
