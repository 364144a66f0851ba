"""Train what says where tiny faces may be: trainer/pretrained/spotter.keras and .tflite.

python docs/train_spotter.py HEADS… --photos PHOTOS --out trainer/pretrained

It learns from crowds that docs/crowds.py composes of one half of the people and the photos, and
from those photos alone. On two cores that takes a quarter of an hour.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from crowds import WHOLE, Boxes, Composer, Pixels
from numpy.typing import NDArray

from trainer import backend, bundle
from trainer.detection import Detector
from trainer.finding import FaceFinder
from trainer.image import View
from trainer.spotting import FACES, STRIDE
from trainer.stored import StoredNetwork
from trainer.views import letterboxed

backend.start()

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402

CROWDS = 1500
"""Photos to compose."""

COUNTS = (0, 6, 12, 20, 30, 40)
"""Of the faces in one; things that are none come to it, at most THINGS."""
THINGS = 12

SIDES = (20.0, 48.0)
"""Pixels of a face in one."""

VIEWS = (256, 512)
"""Longer sides of the views in which the network is to be used."""

WINDOW = 256
"""Pixels of the sides of the parts of views that it learns from."""

SHARES = (0.35, 0.45, 0.2)
"""Of crowds in the one view and in the other, and of photos without a crowd."""

BATCH, STEPS, EPOCHS = 32, 200, 15
RATE = 4e-3

FACES_WEIGH = 2.0
"""Weight of a place with a face, in that of one without."""


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
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    some = lessons(composer)
    batches = tf.data.Dataset.from_generator(
        lambda: _batches(some),
        output_signature=tuple(
            tf.TensorSpec((BATCH, *shape), kind)
            for shape, kind in (
                ((WINDOW, WINDOW, 3), tf.uint8),
                ((WINDOW // STRIDE, WINDOW // STRIDE, 1), tf.float32),
                ((WINDOW // STRIDE, WINDOW // STRIDE), tf.float32),
            )
        ),
    )
    model.fit(batches.prefetch(8), steps_per_epoch=STEPS, epochs=EPOCHS, verbose=2)
    shape = (VIEWS[0] * 3 // 4, VIEWS[0], 3)
    for name, content in StoredNetwork.of(model, shape).files("spotter.keras").items():
        (out / name).write_bytes(content)


def spotter() -> keras.Model:
    """From uint8 (n, height, width, 3), sides multiples of 16, to logits at each STRIDE pixels."""
    image = keras.Input((None, None, 3), dtype="uint8")
    x = layers.Rescaling(1 / 127.5, -1.0)(image)
    x = layers.Conv2D(12, 3, 2, padding="same", activation="relu")(x)
    for filters, strides in ((24, 2), (24, 1), (48, 2), (48, 1), (48, 1), (48, 1)):
        x = _block(x, filters, strides)
    return keras.Model(image, layers.Conv2D(1, 1, bias_initializer=_rare())(x), name="spotter")


def _block(x: Any, filters: int, strides: int) -> Any:
    """As those of BlazeFace: a depthwise convolution, one of single pixels, and what was before."""
    y = layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False)(x)
    y = layers.Conv2D(filters, 1)(y)
    return layers.ReLU()(y if strides > 1 else layers.Add()([x, y]))


def _rare() -> Any:
    """Faces are, so that a network which knows nothing had better say."""
    return keras.initializers.Constant(-4.0)


def lessons(composer: Composer) -> list[list[Lesson]]:
    """Those of crowds in each of the VIEWS, and those of photos without a crowd."""
    of_views: list[list[Lesson]] = [[] for _ in VIEWS]
    for seed in range(CROWDS):
        rng = random.Random(seed)  # noqa: S311
        side = SIDES[0] * (SIDES[1] / SIDES[0]) ** rng.random()
        crowd = composer.compose(rng, side, rng.choice(COUNTS), things=rng.randrange(THINGS))
        image = crowd.decoded(rng.randrange(84, 92), View(WHOLE, FaceFinder.photo_side))
        assert image.photo is not None
        scale = max(image.photo.shape) / max(image.width, image.height)
        for some, side_of_view in zip(of_views, VIEWS, strict=True):
            boxes = crowd.faces * scale, crowd.others * scale
            some.append(_lesson(image.photo, side_of_view, *boxes))
    alone = [
        _lesson(behind.photo, side, behind.faces[:0], behind.faces)
        for behind in composer.backgrounds
        for side in VIEWS
    ]
    return [*of_views, alone]


def _lesson(photo: Pixels, side: int, faces: Boxes, others: Boxes) -> Lesson:
    view = letterboxed(photo, side)
    corner = np.tile(view.corner, 2)
    return Lesson(view.pixels, faces * view.scale + corner, others * view.scale + corner)


def _batches(some: Sequence[Sequence[Lesson]]) -> Iterator[tuple[Any, ...]]:
    """Without end: windows, whether there is a face at each place, and what each weighs."""
    rng = np.random.default_rng(1)
    while True:
        kinds = rng.choice(len(some), BATCH, p=SHARES).tolist()
        windows = [_window(rng, some[kind][int(rng.integers(len(some[kind])))]) for kind in kinds]
        yield tuple(np.stack(part) for part in zip(*windows, strict=True))


def _window(rng: np.random.Generator, lesson: Lesson) -> tuple[Pixels, Any, Any]:
    """Part of a view, perhaps mirrored and in other colours, with its answers and weights."""
    answers, weights = _answers(lesson)
    rest = [max(0, WINDOW - side) for side in lesson.view.shape[:2]]
    y, x = (
        int(rng.integers(max(0, side - WINDOW) // STRIDE + 1)) for side in lesson.view.shape[:2]
    )
    turn = -1 if rng.random() < 0.5 else 1

    def part(whole: NDArray[Any], step: int) -> NDArray[Any]:
        places = WINDOW // step
        top, left = y * STRIDE // step, x * STRIDE // step
        missing = [(0, side // step) for side in rest] + [(0, 0)] * (whole.ndim - 2)
        return np.pad(whole, missing)[top : top + places, left : left + places][:, ::turn]

    view = _recoloured(rng, part(lesson.view, 1))
    return view, part(answers, STRIDE)[..., None], part(weights, STRIDE)


def _answers(lesson: Lesson) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """For each place of the view: 1 where the middle of a face is, and what that weighs.

    Around a face, and on one that was there before, either answer is right.
    """
    rows, columns = (side // STRIDE for side in lesson.view.shape[:2])
    answers, weights = np.zeros((rows, columns), np.float32), np.ones((rows, columns), np.float32)
    small = lesson.others[lesson.others[:, 2] - lesson.others[:, 0] <= FACES[1]]
    for left, top, right, bottom in np.maximum(small / STRIDE, -2).astype(int).tolist():
        weights[max(0, top - 1) : bottom + 2, max(0, left - 1) : right + 2] = 0
    middles = ((lesson.faces[:, :2] + lesson.faces[:, 2:]) / 2 / STRIDE).astype(int)
    for x, y in middles:
        weights[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = 0
    for x, y in middles:
        answers[y, x], weights[y, x] = 1, FACES_WEIGH
    return answers, weights


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
