"""A small network whose answers are known, and bundles that hold it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from PIL import Image

from tests.helpers import encoded
from trainer import backend
from trainer.bundle import FACES_FILE, MODEL_FILE, Bundle, Stage
from trainer.fusion import Fusion
from trainer.image import DecodedImage, View, decode
from trainer.judging import FaceJudge, Predictor
from trainer.stored import StoredNetwork

backend.start()

import keras  # noqa: E402
from keras import layers  # noqa: E402

SIDE = 32


def bright_is_sad(sureness: float = 4.0, channels: int = 1) -> keras.Model:
    """One filter sees what is bright and speaks for sad, the other what is dark and for happy."""
    see = layers.Conv2D(2, 1, activation="relu")
    decide = layers.Dense(1, activation="sigmoid")
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, channels), dtype="uint8"),
            layers.Rescaling(1 / 127.5, -1),
            see,
            layers.AveragePooling2D(4),
            layers.GlobalAveragePooling2D(),
            decide,
        ]
    )
    kernel = np.full((1, 1, channels, 2), 1 / channels) * [1.0, -1.0]
    see.set_weights([kernel, np.array([-0.5, -0.5])])
    decide.set_weights([np.array([[sureness], [-sureness]]), np.zeros(1)])
    return model


def predictor(sureness: float = 4.0, channels: int = 1, temperature: float = 1.0) -> Predictor:
    """That network, ready to be asked."""
    return Predictor(_stored(sureness, channels), temperature)


@cache
def _stored(sureness: float, channels: int) -> StoredNetwork:
    return StoredNetwork.of(bright_is_sad(sureness, channels))


def bundle_of(
    like: Bundle,
    *,
    faces: FaceJudge | None = None,
    whole: Predictor | None = None,
    fusion: Fusion | None = None,
) -> Bundle:
    """These networks; all else is said as `like` says it."""
    info = replace(
        like.info,
        faces=_stage(faces.predict, FACES_FILE if whole else MODEL_FILE) if faces else None,
        whole=_stage(whole, MODEL_FILE) if whole else None,
        fusion=fusion,
    )
    return Bundle(info, "", faces=faces, whole=whole)


def _stage(network: Predictor, file: str) -> Stage:
    return Stage("small", file, network.spec, network.temperature)


def seen(image: Image.Image, view: View, file_format: str = "PNG") -> DecodedImage:
    """The image as a file that is decoded."""
    return decode(encoded(image, file_format), view)
