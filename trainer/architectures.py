"""The layers of the convolutional networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
from keras import layers

from trainer.image import InputSpec

BACKBONE = Path(__file__).parent / "pretrained" / "backbone.keras"

Tensor = Any
"""A Keras symbolic tensor; Keras ships no types."""


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


def compact(spec: InputSpec, times: int = 1) -> keras.Model:
    """A residual network (He et al. 2016) of 1,233,281 parameters at 48x48x1.

    `times`: how much wider all of its convolutions are, for one that is to teach it.
    """
    image = keras.Input(spec.shape, dtype="uint8")
    x = layers.Rescaling(1 / 255)(image)
    x = _convolve(_convolve(x, 32 * times), 32 * times)
    for width in (48 * times, 96 * times, 160 * times):
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
