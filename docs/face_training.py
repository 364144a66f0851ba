"""Train the shipped face network with JAX on a GPU, from what docs/face_crops.py wrote.

python docs/face_training.py CROPS.npz OUT

Needs Keras 3, JAX, Optax, Pillow, scikit-learn and click, and of this project the folder `trainer`
alone: no TensorFlow. On an NVIDIA H200 it takes eight minutes.

First a teacher for each fold, WIDER times as wide as `compact`, learns from all others. Then
`compact` learns from all folds what labels and teachers say: OUT/faces.keras. To tell how that does
on people and images that no part of it has seen, as many more students learn from one teacher each,
and from the folds that this one has seen. What was said of each image is in OUT/judged.npz, as
probabilities of sad, (n,): by the `student`; by those of the `teachers` and of the `students` that
have not seen its fold.

The teachers look at the same varied images as their students, for long. Source: Beyer et al. 2022,
"Knowledge distillation: A good teacher is patient and consistent".
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ["KERAS_BACKEND"] = "jax"
sys.path.insert(0, str(Path(__file__).parents[1]))

import click
import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
from numpy.typing import NDArray

from trainer.architectures import compact
from trainer.evaluation import measure
from trainer.image import InputSpec

SPEC = InputSpec(48, 48, 1)
SIDE = SPEC.width
WIDER = 2
TEACHER_EPOCHS = 120
STUDENT_EPOCHS = 240
ONE_TEACHER_EPOCHS = 120
BATCH = 128
AT_ONCE = 2048
"""Images that are judged at once."""

PEAK = {1: 2.8e-3, WIDER: 2e-3}
"""Largest rate of learning, by how wide a network is."""
DECAY = 0.05
WARM_UP = 20
"""The first of so many parts of a training has a rising rate."""
SMOOTHING = 0.1
TAUGHT = 0.7
"""Share of a target that is what the teachers say; the rest is the label."""

Array = Any
"""A JAX array."""


class Weights(NamedTuple):
    """Of a network: what is trained, and what is counted along."""

    trained: list[Array]
    counted: list[Array]


class Learning(NamedTuple):
    """How far a training has come; `averaged` are the weights' moving averages."""

    weights: Weights
    averaged: list[Array]
    optimizer: Any
    key: Array


class Examples(NamedTuple):
    """What may be learnt from, all of it on the device.

    pixels: uint8 (n, h, w, 1). labels: float32 (n,), 1 for sad. weights: float32 (n,).
    """

    pixels: Array
    labels: Array
    weights: Array


@click.command()
@click.argument("source", metavar="CROPS", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
def main(source: Path, out: Path) -> None:
    """Train all, and write the network and what was said of each image."""
    out.mkdir(parents=True, exist_ok=True)
    crops = dict(np.load(source))
    learnt_from = crops["parts"] == 0
    shows = [learnt_from & (crops["folds"] != fold) for fold in np.unique(crops["folds"])]
    examples = partial(examples_of, crops, jnp.asarray(crops["pixels"]))

    wide, narrow = Net(WIDER), Net(1)
    teachers = [
        wide.train(f"teacher {fold}", examples(rows), rows, TEACHER_EPOCHS, seed=fold)
        for fold, rows in enumerate(shows)
    ]
    of_teachers = of_folds(crops, [wide.judge(t, crops["pixels"]) for t in teachers])
    tell("teachers", crops, of_teachers)

    taught = wide.teaching(teachers)
    student = narrow.train(
        "student",
        examples(learnt_from),
        learnt_from,
        STUDENT_EPOCHS,
        seed=len(shows),
        taught=taught,
    )
    narrow.save(student, out / "faces.keras")
    of_student = narrow.judge(student, crops["pixels"])
    tell("student", crops, of_student, crops["parts"] == 1)

    students = [
        narrow.train(
            f"student {fold}",
            examples(rows),
            rows,
            ONE_TEACHER_EPOCHS,
            seed=fold,
            taught=wide.teaching([teachers[fold]]),
        )
        for fold, rows in enumerate(shows)
    ]
    of_students = of_folds(crops, [narrow.judge(s, crops["pixels"]) for s in students])
    tell("students", crops, of_students)
    np.savez(out / "judged.npz", teachers=of_teachers, student=of_student, students=of_students)


class Taught(NamedTuple):
    """How teachers judge: a function of their weights and images, and the weights of each."""

    judge: Callable[[Weights, Array], Array]
    weights: list[Weights]


class Net:
    """`compact`, perhaps wider, as JAX computes it."""

    def __init__(self, times: int) -> None:
        self._times = times
        keras.config.set_dtype_policy("mixed_bfloat16")
        self._model = compact(SPEC, times)
        keras.config.set_dtype_policy("float32")
        self._compiled = jax.jit(self._judged)

    def teaching(self, weights: list[Weights]) -> Taught:
        """Teachers that have these weights."""
        return Taught(self._judged, weights)

    def judge(self, weights: Weights, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The probability of sad of each image, (n,)."""
        starts = range(0, len(pixels), AT_ONCE)
        # Filled up, lest the last be another shape to compile for.
        filled = np.resize(pixels, (len(starts) * AT_ONCE, *pixels.shape[1:]))
        said = [np.asarray(self._compiled(weights, filled[i : i + AT_ONCE])) for i in starts]
        return np.concatenate(said)[: len(pixels)]

    def save(self, weights: Weights, path: Path) -> None:
        """Write them as a Keras model in float32."""
        model = compact(SPEC, self._times)
        for variables, values in (
            (model.trainable_variables, weights.trained),
            (model.non_trainable_variables, weights.counted),
        ):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        model.save(path)

    def train(
        self,
        name: str,
        examples: Examples,
        rows: NDArray[np.bool_],
        epochs: int,
        *,
        seed: int,
        taught: Taught | None = None,
    ) -> Weights:
        """Learn from the `rows`, and from teachers, if there are some."""
        random = np.random.default_rng(seed)
        chosen = np.flatnonzero(rows)
        steps = -(-len(chosen) // BATCH)
        optimizer = self._optimizer(epochs * steps)
        epoch = self._epoch(optimizer, epochs * steps, taught.judge if taught else None)
        weights = self._fresh(seed)
        learning = Learning(
            weights, weights.trained, optimizer.init(weights.trained), jax.random.key(seed)
        )
        began = time.monotonic()
        for _ in range(epochs):
            order = np.resize(random.permutation(chosen), (steps, BATCH))
            learning, losses = epoch(learning, examples, taught.weights if taught else [], order)
        loss = float(losses.mean())
        per_second = epochs * steps * BATCH / (time.monotonic() - began)
        click.echo(f"{name}: {epochs} epochs, loss {loss:.4f}, {per_second:.0f} images/s")
        return Weights(learning.averaged, learning.weights.counted)

    def _fresh(self, seed: int) -> Weights:
        keras.utils.set_random_seed(seed)
        model = compact(SPEC, self._times)
        return Weights(
            [jnp.asarray(v.value) for v in model.trainable_variables],
            [jnp.asarray(v.value) for v in model.non_trainable_variables],
        )

    def _judged(self, weights: Weights, pixels: Array) -> Array:
        said, _ = self._model.stateless_call(*weights, pixels, training=False)
        return said[:, 0]

    def _optimizer(self, steps: int) -> optax.GradientTransformation:
        """AdamW on one cosine with a warm-up, as `compact` has it in trainer/networks.py."""
        rate = optax.warmup_cosine_decay_schedule(
            1e-5, PEAK[self._times], max(1, steps // WARM_UP), steps
        )
        decays = [v.name == "kernel" for v in self._model.trainable_variables]
        return optax.adamw(rate, weight_decay=DECAY, mask=decays)

    def _epoch(
        self, optimizer: optax.GradientTransformation, steps: int, teacher: Any
    ) -> Callable[..., tuple[Learning, Array]]:
        """Learns from batches of rows, int (steps, BATCH); gives their losses, (steps,)."""
        kept = min(0.999, 1 - 10 / (10 + steps))

        def loss(trained: Any, counted: Any, x: Array, y: Array, w: Array) -> tuple[Array, Any]:
            said, counted = self._model.stateless_call(trained, counted, x, training=True)
            p = jnp.clip(said[:, 0], 1e-7, 1 - 1e-7)
            return -(w * (y * jnp.log(p) + (1 - y) * jnp.log(1 - p))).mean(), counted

        def step(
            examples: Examples, teachers: list[Weights], learning: Learning, rows: Array
        ) -> tuple[Learning, Array]:
            key, ours = jax.random.split(learning.key)
            x, y, w = vary(
                ours,
                examples.pixels[rows].astype(jnp.float32),
                examples.labels[rows],
                examples.weights[rows],
            )
            y = y * (1 - SMOOTHING) + SMOOTHING / 2
            if teachers:
                said = sum(teacher(weights, x) for weights in teachers) / len(teachers)
                y = (1 - TAUGHT) * y + TAUGHT * said
            (value, counted), slopes = jax.value_and_grad(loss, has_aux=True)(
                *learning.weights, x, y, w
            )
            changes, state = optimizer.update(slopes, learning.optimizer, learning.weights.trained)
            trained = optax.apply_updates(learning.weights.trained, changes)
            averaged = optax.incremental_update(trained, learning.averaged, 1 - kept)
            return Learning(Weights(trained, counted), averaged, state, key), value

        def epoch(
            learning: Learning, examples: Examples, teachers: list[Weights], order: Array
        ) -> tuple[Learning, Array]:
            end: tuple[Learning, Array] = jax.lax.scan(
                partial(step, examples, teachers), learning, order
            )
            return end

        compiled: Callable[..., tuple[Learning, Array]] = jax.jit(epoch)
        return compiled


def vary(key: Array, x: Array, y: Array, w: Array) -> tuple[Array, Array, Array]:
    """Vary images, float32 (n, h, w, 1), labels and weights, (n,).

    As trainer/augmentation.py does, but for the blur.
    """
    keys = iter(jax.random.split(key, 16))

    def draw(low: float, high: float) -> Array:
        return jax.random.uniform(next(keys), (len(x),), minval=low, maxval=high)

    x = jnp.where(each(draw(0, 1)) < 0.5, x, x[:, :, ::-1])
    x = _deformed(x, draw)
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    x = (x - mean) * (1 + each(draw(-0.4, 0.4))) + mean + each(draw(-45, 45))
    x = jnp.clip(x, 0, 255)
    hidden = _stretch(draw)[:, :, None, None] & _stretch(draw)[:, None, :, None]
    x = jnp.where(hidden & (each(draw(0, 1)) < 0.5), each(draw(0, 255)), x)
    share = jax.random.beta(next(keys), 0.3, 0.3, (len(x),))
    share = jnp.maximum(share, 1 - share)

    def mixed(values: Array, mine: Array) -> Array:
        return values * mine + jnp.roll(values, 1, axis=0) * (1 - mine)

    return mixed(x, each(share)), mixed(y, share), mixed(w, share)


def each(values: Array) -> Array:
    """One value an image, (n,), shaped to multiply whole images."""
    return values[:, None, None, None]


def _deformed(x: Array, draw: Callable[[float, float], Array]) -> Array:
    """Turned, zoomed, stretched and shifted about the centre in one resampling."""
    angle, zoom, aspect = draw(-0.26, 0.26), draw(-0.22, 0.22), draw(-0.12, 0.12)
    across, down = jnp.exp(zoom + aspect / 2), jnp.exp(zoom - aspect / 2)
    middle = (SIDE - 1) / 2
    rows, columns = jnp.mgrid[0:SIDE, 0:SIDE] - middle
    rows, columns = rows[None], columns[None]
    cos, sin = jnp.cos(angle), jnp.sin(angle)

    def at(values: Array) -> Array:
        return values[:, None, None]

    to_column = at(cos * across) * columns - at(sin * down) * rows + at(draw(-0.08, 0.08)) * SIDE
    to_row = at(sin * across) * columns + at(cos * down) * rows + at(draw(-0.08, 0.08)) * SIDE

    def sample(image: Array, row: Array, column: Array) -> Array:
        return jax.scipy.ndimage.map_coordinates(image, [row, column], order=1, mode="nearest")

    return jax.vmap(sample)(x[..., 0], to_row + middle, to_column + middle)[..., None]


def _stretch(draw: Callable[[float, float], Array]) -> Array:
    """Bool (n, SIDE): the stretch of one side that is erased."""
    length = draw(0.1, 0.35)
    start = draw(0, 1) * (1 - length)
    at = jnp.arange(SIDE)[None] / SIDE
    return (at >= start[:, None]) & (at < (start + length)[:, None])


def examples_of(
    crops: Mapping[str, NDArray[Any]], pixels: Array, rows: NDArray[np.bool_]
) -> Examples:
    """All examples; within each source of the `rows` both classes weigh the same."""
    weights = np.zeros(len(rows), np.float32)
    for source in np.unique(crops["sources"]):
        there = rows & (crops["sources"] == source)
        for label in (0, 1):
            chosen = there & (crops["labels"] == label)
            weights[chosen] = there.sum() / (2 * max(1, chosen.sum()))
    return Examples(pixels, jnp.asarray(crops["labels"], jnp.float32), jnp.asarray(weights))


def of_folds(
    crops: Mapping[str, NDArray[Any]], said: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Of each image what the network says that has not seen its fold, (n,)."""
    return np.choose(crops["folds"], said)


def tell(
    name: str,
    crops: Mapping[str, NDArray[Any]],
    p_sad: NDArray[np.float32],
    rows: NDArray[np.bool_] | None = None,
) -> None:
    """Print how right it is in each source, of what is not for testing alone."""
    rows = crops["parts"] != -1 if rows is None else rows
    # Those of the first source are for testing alone: FER2013's PublicTest.
    rows = rows & ~((crops["sources"] == 0) & (crops["parts"] == 2))
    for source in np.unique(crops["sources"]):
        there = rows & (crops["sources"] == source)
        told = measure(crops["labels"][there], p_sad[there])
        click.echo(
            f"{name}, source {source}: {told.images} images, accuracy {told.accuracy:.4f}, "
            f"balanced {told.balanced_accuracy:.4f}, ROC-AUC {told.auc:.4f}, {told.confusion}"
        )


if __name__ == "__main__":
    main()
