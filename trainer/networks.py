"""The convolutional networks, by name, each with the recipe that trains it.

A new one is one function that returns its model, and one entry in `NETWORKS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
from keras import layers

from trainer.augmentation import Augmentation, augment, mirror
from trainer.errors import TrainerError
from trainer.image import InputSpec

BACKBONE = Path(__file__).parent / "pretrained" / "backbone.keras"

Tensor = Any
"""A Keras symbolic tensor; Keras ships no types."""


@dataclass(frozen=True)
class Network:
    """A network and how it is trained.

    `build` returns an uncompiled model from uint8 (batch, height, width, channels) to float32
    (batch, 1), the probability of the class with index 1. `judges_faces`: else it judges whole
    images. `optimizer` takes the number of steps of the whole training, and by what its rate is to
    be multiplied. `patience`: epochs without a lower validation loss after which training stops.
    `augment`: varies the training images. `balance`: let both classes weigh the same. `int8`:
    without a GPU it computes in 8-bit numbers, which pays for wide convolutions.
    """

    name: str
    input: InputSpec
    build: Callable[[InputSpec], keras.Model]
    judges_faces: bool
    optimizer: Callable[[int, float], keras.optimizers.Optimizer]
    epochs: int
    patience: int
    batch_size: int
    label_smoothing: float
    augment: Augmentation | None
    balance: bool
    int8: bool


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
    """A residual network (He et al. 2016) of 1,233,281 parameters at 48x48x1."""
    image = keras.Input(spec.shape, dtype="uint8")
    x = layers.Rescaling(1 / 255)(image)
    x = _convolve(_convolve(x, 32), 32)
    for width in (48, 96, 160):
        x = _residual(_residual(x, width, halve=True), width)
    return keras.Model(image, _probability(x), name="compact")


def lite0(spec: InputSpec) -> keras.Model:
    """The first stages of EfficientNet-Lite0 (Tan and Le 2019), which know ImageNet beforehand.

    717,041 parameters at 48x48x1, twice as slow to train as `compact`. They look at images
    enlarged twice, since they halve the resolution four times, and 48 pixels would leave three.
    """
    image = keras.Input(spec.shape, dtype="uint8")
    x = layers.Resizing(2 * spec.height, 2 * spec.width)(image)
    if spec.channels == 1:
        x = layers.Concatenate()([x, x, x])
    return keras.Model(image, _probability(_backbone()(x)), name="lite0")


def scene(spec: InputSpec) -> keras.Model:
    """What is in a picture, by the first stages of EfficientNet-Lite0 (Tan and Le 2019).

    Those have learnt from ImageNet and are not trained any further: a few hundred photos suffice to
    weigh the 112 features that they find, which takes 113 parameters of 717,265.
    """
    image = keras.Input(spec.shape, dtype="uint8")
    backbone = _backbone()
    backbone.trainable = False
    x = layers.GlobalAveragePooling2D()(backbone(image))
    x = layers.BatchNormalization(center=False, scale=False, momentum=0.9)(x)
    x = layers.Dropout(0.5)(x)
    decide = layers.Dense(
        1, activation="sigmoid", dtype="float32", kernel_regularizer=keras.regularizers.L2(0.1)
    )
    return keras.Model(image, decide(x), name="scene")


def _backbone() -> keras.Model:
    """From images (n, h, w, 3), 0 to 255, to features (n, h / 16, w / 16, 112)."""
    return keras.saving.load_model(BACKBONE, compile=False)


def _residual(x: Tensor, width: int, *, halve: bool = False) -> Tensor:
    """Where it halves the resolution, its short cut averages before it projects.

    Source: ResNet-D (He et al. 2019, "Bag of Tricks for Image Classification").
    """
    y = _convolve(x, width, strides=2 if halve else 1)
    y = _convolve(y, width, activation=None)
    if halve:
        x = layers.AveragePooling2D(2)(x)
    if x.shape[-1] != width:
        x = _convolve(x, width, kernel=1, activation=None)
    return layers.Activation("relu")(layers.Add()([x, y]))


def _convolve(
    x: Tensor, width: int, *, kernel: int = 3, strides: int = 1, activation: str | None = "relu"
) -> Tensor:
    x = layers.Conv2D(width, kernel, strides=strides, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    return layers.Activation(activation)(x) if activation else x


def _probability(x: Tensor) -> Tensor:
    x = layers.Dropout(0.3)(layers.GlobalAveragePooling2D()(x))
    return layers.Dense(1, activation="sigmoid", dtype="float32")(x)


def _adam(steps: int, scale: float) -> keras.optimizers.Optimizer:
    return keras.optimizers.Adam(1e-3 * scale)


def _adam_cosine(steps: int, scale: float) -> keras.optimizers.Optimizer:
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-2 * scale, steps))


def _adamw_cosine(
    steps: int, scale: float, *, peak: float = 2e-3, decay: float = 0.05
) -> keras.optimizers.Optimizer:
    """AdamW on one cosine with a warm-up; the weights' moving average is what is kept."""
    warm_up = max(1, steps // 20)
    rate = keras.optimizers.schedules.CosineDecay(
        1e-5, max(1, steps - warm_up), warmup_target=peak * scale, warmup_steps=warm_up
    )
    momentum = min(0.999, 1 - 10 / (10 + steps))
    adamw = keras.optimizers.AdamW(rate, weight_decay=decay, use_ema=True, ema_momentum=momentum)
    adamw.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return adamw


_COMPACT = Network(
    name="compact",
    input=InputSpec(48, 48, 1),
    build=compact,
    judges_faces=True,
    optimizer=_adamw_cosine,
    epochs=60,
    patience=25,
    batch_size=64,
    label_smoothing=0.1,
    augment=augment,
    balance=True,
    int8=True,
)

NETWORKS = {
    net.name: net
    for net in (
        Network(
            name="seed",
            input=InputSpec(256, 256, 3),
            build=seed,
            judges_faces=False,
            optimizer=_adam,
            epochs=20,
            patience=20,
            batch_size=32,
            label_smoothing=0.0,
            augment=None,
            balance=False,
            int8=False,
        ),
        _COMPACT,
        replace(
            _COMPACT,
            name="lite0",
            build=lite0,
            int8=False,
            optimizer=partial(_adamw_cosine, peak=1e-3, decay=0.02),
            epochs=12,
            patience=12,
        ),
        Network(
            name="scene",
            input=InputSpec(96, 96, 3),
            build=scene,
            judges_faces=False,
            optimizer=_adam_cosine,
            epochs=30,
            patience=30,
            batch_size=32,
            label_smoothing=0.0,
            # Light, colour and framing are what it goes by.
            augment=mirror,
            balance=True,
            int8=False,
        ),
    )
}
