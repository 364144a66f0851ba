"""The convolutional networks, by name, each with the recipe that trains it.

A new one is one function in `architectures` that returns its model, and one entry in `NETWORKS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import keras

from trainer.architectures import compact, lite0, scene, seed
from trainer.augmentation import Augmentation, augment, mirror
from trainer.errors import TrainerError
from trainer.image import InputSpec


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
