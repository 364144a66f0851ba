"""Train what says where tiny faces may be: trainer/pretrained/spotter.keras and .tflite.

python docs/train_spotter.py HEADS… --photos PHOTOS --out trainer/pretrained

It learns from crowds that docs/crowds.py composes of one half of the people and the photos, and
from that half as it is. On two cores that takes twenty minutes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from crowds import WHOLE, Boxes, Composer, Pixels, Scene, scenes
from numpy.typing import NDArray
from PIL import Image

from trainer import backend, bundle
from trainer.crowds import LARGER
from trainer.detection import Detector, longer_sides
from trainer.finding import FaceFinder
from trainer.image import View, larger_photo
from trainer.spotting import STRIDE
from trainer.stored import StoredNetwork
from trainer.views import letterboxed

backend.start()

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402

CROWDS = 1500
"""Photos to compose."""

COUNTS = (0, 1, 3, 6, 12, 20, 30, 40)
"""Of the faces in one; things that are none come to it, at most THINGS."""
THINGS = 12

SIDES = (20.0, 130.0)
"""Pixels of a face in one."""

VIEWS = ((256, FaceFinder.photo_side), (640, LARGER))
"""Longer sides of the views that the network learns from, and of the photos they show.

In use such photos are looked at in quarters, 1.3 times larger than in the second view.
"""

LARGEST = 56.0
"""Pixels of a face in a view that the network is to see; larger ones the detector sees itself."""

WINDOW = 256
"""Pixels of the sides of the parts of views that it learns from."""

SHARES = (0.3, 0.3, 0.4)
"""Of crowds in the one view and in the other, and of photos without a crowd."""

BATCH, STEPS, EPOCHS = 32, 200, 18
RATE = 4e-3

FACES_WEIGH = 2.0
"""Weight of a place with a face, in that of one without."""

SURE = 0.6
"""The detector's score of a face in a photo as it is, from which it is one."""

LEAST = 100
"""Pixels of the longer side of a photo that is learnt from as it is."""


@dataclass(frozen=True)
class Lesson:
    """A view, uint8 (h, w, 3), with the boxes of faces to be seen in it and of others: (n, 4)."""

    view: Pixels
    faces: Boxes
    others: Boxes


@click.command()
@click.argument("heads", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--photos", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", required=True, type=click.Path(exists=True, path_type=Path))
def main(heads: Sequence[Path], photos: Path, out: Path) -> None:
    """Write spotter.keras and spotter.tflite into the folder OUT."""
    keras.utils.set_random_seed(1)
    detector = Detector(bundle.face_finder().network)
    composer = Composer(heads, photos, measuring=False, detector=detector)
    model = spotter()
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(
                RATE / 10, STEPS * EPOCHS, warmup_target=RATE, warmup_steps=STEPS // 2
            )
        ),
        loss,
    )
    alone = [
        scene
        for folder in dict.fromkeys((photos, *heads))
        for scene in scenes(folder, LEAST, measuring=False, detector=detector)
    ]
    some = lessons(composer, alone)
    batches = tf.data.Dataset.from_generator(
        lambda: _batches(some),
        output_signature=(
            tf.TensorSpec((BATCH, WINDOW, WINDOW, 3), tf.uint8),
            tf.TensorSpec((BATCH, WINDOW // STRIDE, WINDOW // STRIDE, 3), tf.float32),
        ),
    )
    model.fit(batches.prefetch(8), steps_per_epoch=STEPS, epochs=EPOCHS, verbose=2)
    side, _ = VIEWS[0]
    stored = StoredNetwork.of(model, (side * 3 // 4, side, 3))
    for name, content in stored.files("spotter.keras").items():
        (out / name).write_bytes(content)


def spotter() -> keras.Model:
    """From uint8 (n, height, width, 3), sides multiples of 16, to what is at each STRIDE pixels.

    That is float32 (n, rows, columns, 2): the logit of a face, and how often its side is twice a
    STRIDE.
    """
    image = keras.Input((None, None, 3), dtype="uint8")
    x = layers.Rescaling(1 / 127.5, -1.0)(image)
    x = layers.Conv2D(12, 3, 2, padding="same", activation="relu")(x)
    for filters, strides in ((24, 2), (24, 1), (48, 2), *(((48, 1),) * 5)):
        x = _block(x, filters, strides)
    face = layers.Conv2D(1, 1, bias_initializer=_rare())(x)
    return keras.Model(image, layers.Concatenate()([face, layers.Conv2D(1, 1)(x)]), name="spotter")


def loss(truth: Any, told: Any) -> Any:
    """Of what is told of places, by the truth: face or none, what that weighs, and the side."""
    face, weight, side = (truth[..., i] for i in range(3))
    wrong = keras.ops.binary_crossentropy(face, told[..., 0], from_logits=True)
    return keras.ops.mean(weight * wrong + face * keras.ops.abs(told[..., 1] - side))


def _block(x: Any, filters: int, strides: int) -> Any:
    """As those of BlazeFace: a depthwise convolution, one of single pixels, and what was before."""
    y = layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False)(x)
    y = layers.Conv2D(filters, 1)(y)
    return layers.ReLU()(y if strides > 1 else layers.Add()([x, y]))


def _rare() -> Any:
    """Faces are, so that a network which knows nothing had better say."""
    return keras.initializers.Constant(-4.0)


def lessons(composer: Composer, alone: Sequence[Scene]) -> list[list[Lesson]]:
    """Those of crowds in each of the VIEWS, and those of photos as they are."""
    of_views: list[list[Lesson]] = [[] for _ in VIEWS]
    for seed in range(CROWDS):
        rng = random.Random(seed)  # noqa: S311
        side = SIDES[0] * (SIDES[1] / SIDES[0]) ** rng.random()
        crowd = composer.compose(rng, side, rng.choice(COUNTS), things=rng.randrange(THINGS))
        image = crowd.decoded(rng.randrange(84, 92), View(WHOLE, FaceFinder.photo_side))
        for some, (side_of_view, side_of_photo) in zip(of_views, VIEWS, strict=True):
            photo = larger_photo(image, side_of_photo)
            photo = image.photo if photo is None else photo
            assert photo is not None
            scale = max(photo.size) / max(image.width, image.height)
            some.append(_lesson(photo, side_of_view, crowd.faces * scale, crowd.others * scale))
    return [*of_views, [_alone(scene, side) for scene in alone for side, _ in VIEWS]]


def _alone(scene: Scene, side: int) -> Lesson:
    """A photo as it is; whether what the detector is not sure of is a face, does not matter."""
    sure = scene.faces.sure(SURE)
    photo = Image.fromarray(scene.photo)
    return _lesson(photo, side, scene.faces[sure].boxes, scene.faces[~sure].boxes)


def _lesson(photo: Image.Image, side: int, faces: Boxes, others: Boxes) -> Lesson:
    view = letterboxed(photo, side)
    corner = np.tile(view.corner, 2)
    return Lesson(view.pixels, faces * view.scale + corner, others * view.scale + corner)


def _batches(some: Sequence[Sequence[Lesson]]) -> Iterator[tuple[Any, ...]]:
    """Without end: windows, and what is true of each of their places."""
    rng = np.random.default_rng(1)
    while True:
        kinds = rng.choice(len(some), BATCH, p=SHARES).tolist()
        windows = [_window(rng, some[kind][int(rng.integers(len(some[kind])))]) for kind in kinds]
        yield tuple(np.stack(part) for part in zip(*windows, strict=True))


def _window(rng: np.random.Generator, lesson: Lesson) -> tuple[Pixels, NDArray[np.float32]]:
    """Part of a view, perhaps mirrored and in other colours, and what is true of its places."""
    rest = [max(0, WINDOW - side) for side in lesson.view.shape[:2]]
    y, x = (
        int(rng.integers(max(0, side - WINDOW) // STRIDE + 1)) for side in lesson.view.shape[:2]
    )
    turn = -1 if rng.random() < 0.5 else 1

    def part(whole: NDArray[Any], step: int) -> NDArray[Any]:
        places = WINDOW // step
        top, left = y * STRIDE // step, x * STRIDE // step
        missing = [*((0, side // step) for side in rest), (0, 0)]
        return np.pad(whole, missing)[top : top + places, left : left + places][:, ::turn]

    return _recoloured(rng, part(lesson.view, 1)), part(_truth(lesson), STRIDE)


def _truth(lesson: Lesson) -> NDArray[np.float32]:
    """For each place of the view: whether the middle of a face is there, its weight, and its side.

    Near the middle of a face, and on one that was there before, either answer is right.
    """
    rows, columns = (length // STRIDE for length in lesson.view.shape[:2])
    truth = np.zeros((rows, columns, 3), np.float32)
    truth[..., 1] = 1
    for left, top, right, bottom in np.maximum(lesson.others / STRIDE, -2).astype(int).tolist():
        truth[max(0, top - 1) : bottom + 2, max(0, left - 1) : right + 2, 1] = 0
    middles = ((lesson.faces[:, :2] + lesson.faces[:, 2:]) / 2 / STRIDE).astype(int)
    inside = (middles >= 0).all(axis=1) & (middles < [columns, rows]).all(axis=1)
    middles, sides = middles[inside], longer_sides(lesson.faces)[inside]
    for (x, y), side in zip(middles, sides, strict=True):
        reach = max(1, round(float(side) / STRIDE / 5))
        truth[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1, 1] = 0
    for (x, y), side in zip(middles, sides, strict=True):
        if side <= LARGEST:
            truth[y, x] = 1, FACES_WEIGH, np.log2(max(side, 1) / STRIDE)
    return truth


def _recoloured(rng: np.random.Generator, view: Pixels) -> Pixels:
    """Often with another contrast and brightness, at times gray or in other colours."""
    colours: NDArray[np.floating] = view.astype(np.float32)
    if rng.random() < 0.7:
        colours = (colours - 128) * rng.uniform(0.6, 1.3) + 128 + rng.uniform(-30, 30)
    kind = rng.random()
    if kind < 0.3:
        colours = np.broadcast_to(colours.mean(axis=-1, keepdims=True), view.shape)
    elif kind < 0.65:
        colours = colours * rng.uniform(0.85, 1.15, 3)
    return np.asarray(np.clip(colours, 0, 255), np.uint8)


if __name__ == "__main__":
    main()
