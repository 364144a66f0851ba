from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.faces import MOODS, draw_face
from trainer import backend
from trainer.checkpoint import Checkpoint
from trainer.cleaning import CleanData
from trainer.dataset import Example
from trainer.errors import TrainerError
from trainer.image import InputSpec

backend.start()

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402

from trainer.networks import Network, network  # noqa: E402
from trainer.training import Fitted, Plan, fit  # noqa: E402

SPEC = InputSpec(16, 16, 1)
TRAIN, VALIDATION = np.arange(40), np.arange(40, 60)


@pytest.fixture(scope="module")
def data() -> CleanData:
    rng = random.Random(1)
    labels = np.arange(60) % 2
    faces = [
        draw_face(rng, MOODS[label], (32, 32)).convert("L").resize((16, 16)) for label in labels
    ]
    return CleanData(
        examples=[Example(Path(f"{i}.png"), int(label), 0) for i, label in enumerate(labels)],
        sha256s=[f"{i:064}" for i in range(60)],
        labels=labels,
        groups=np.arange(60),
        pixels=np.stack([np.asarray(face)[:, :, None] for face in faces]),
        flagged=[],
    )


def build(spec: InputSpec, *further: Any) -> Any:
    return keras.Sequential(
        [
            keras.Input(spec.shape, dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, strides=2),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.3),
            *further,
            layers.Dense(1, activation="sigmoid", dtype="float32"),
        ]
    )


TINY = replace(network("compact"), name="tiny", input=SPEC, build=build, batch_size=16)
"""All that the shipped recipe has (moving averages, dropout, augmentation), in a small network."""


@pytest.fixture
def plan(data: CleanData, tmp_path: Path) -> Plan:
    return Plan(
        targets=data.labels.astype(np.float32),
        epochs=3,
        patience=3,
        seed=5,
        precision="float32",
        logs=tmp_path / "logs",
        state=tmp_path / "state.npz",
        run={"network": "tiny", "seed": 5},
    )


def run(
    data: CleanData, plan: Plan, net: Network = TINY, say: Callable[[str], None] = lambda line: None
) -> Fitted:
    return fit(net, data, TRAIN, VALIDATION, plan, say)


def same(one: Fitted, other: Fitted) -> bool:
    pairs = zip(one.model.get_weights(), other.model.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


class Stop(Exception):
    pass


def stop_after(epoch: int) -> Callable[[str], None]:
    def say(line: str) -> None:
        if line.startswith(f"Epoch {epoch} "):
            raise Stop

    return say


def test_interrupted_and_gone_on_with_is_the_same(
    data: CleanData, plan: Plan, tmp_path: Path
) -> None:
    whole = run(data, plan)
    parts = replace(plan, state=tmp_path / "parts.npz")
    for epoch in (1, 2):
        with pytest.raises(Stop):
            run(data, parts, say=stop_after(epoch))
    resumed = run(data, parts)
    assert resumed.history == whole.history
    assert same(resumed, whole)


def test_the_seed_decides_everything(data: CleanData, plan: Plan, tmp_path: Path) -> None:
    once = replace(plan, epochs=1)
    first = run(data, once)
    again = run(data, replace(once, state=tmp_path / "again.npz"))
    other = run(data, replace(once, state=tmp_path / "other.npz", seed=6))
    assert same(first, again)
    assert not same(first, other)


def test_training_begins_with_the_weights_that_it_is_given(data: CleanData, plan: Plan) -> None:
    still = replace(TINY, optimizer=lambda steps, scale: keras.optimizers.SGD(0.0))
    given = [np.full_like(weights, 0.25) for weights in build(SPEC).get_weights()]
    once = replace(plan, epochs=1, begin=given)
    fitted = run(data, once, still)
    assert all((np.asarray(w) == 0.25).all() for w in fitted.model.trainable_weights)
    with pytest.raises(TrainerError, match="of another network than"):
        run(data, replace(once, begin=given[1:]), still)


def test_what_is_kept_is_the_best_epoch_and_training_stops_when_it_gets_no_better(
    data: CleanData, plan: Plan
) -> None:
    """Learning the opposite of the labels makes validation worse with every epoch."""
    lines: list[str] = []
    backwards = replace(plan, targets=1 - data.labels.astype(np.float32), epochs=20, patience=2)
    fast = replace(TINY, optimizer=lambda steps, scale: keras.optimizers.SGD(0.5), augment=None)
    fitted = run(data, backwards, fast, lines.append)
    losses = fitted.history["val_loss"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 2 < 20
    assert "No better for 2 epochs: stopping." in lines
    assert f"Keeping the weights of epoch {best + 1}, the best on validation." in lines
    p = fitted.model.predict(data.pixels[VALIDATION], verbose=0)[:, 0].astype(np.float64)
    labels = data.labels[VALIDATION]
    loss = -np.mean(np.log(np.where(labels == 1, p, 1 - p)))
    assert loss == pytest.approx(losses[best], rel=1e-4)
    assert run(data, backwards, fast).history == fitted.history  # It does not go on after the end.


def test_mixed_precision_still_gives_a_model_in_float32(data: CleanData, plan: Plan) -> None:
    fitted = run(data, replace(plan, precision="mixed_float16", epochs=1))
    assert fitted.model.dtype_policy.name == "float32"
    assert {weight.dtype.name for weight in fitted.model.get_weights()} == {"float32"}


def test_logs_that_cannot_be_written_are_told_in_a_sentence(
    data: CleanData, plan: Plan, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TrainerError, match=r"The logs in .*file/logs cannot be written"):
        run(data, replace(plan, logs=tmp_path / "file" / "logs"))


def test_a_loss_that_overflows_ends_training_with_a_sentence(data: CleanData, plan: Plan) -> None:
    wild = replace(TINY, optimizer=lambda steps, scale: keras.optimizers.SGD(1e38))
    with pytest.raises(TrainerError, match=r"Epoch 1 of 3: the loss is no number\."):
        run(data, plan, wild)


class Hungry(layers.Layer):  # type: ignore[misc]
    """Has no memory to train on more than `most` images at a time.

    It raises what TensorFlow raises then; to have its allocator really fail takes a minute, in
    which it waits for memory to become free.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def call(self, x: Any, training: bool = False) -> Any:
        if not training:
            return x
        return x + tf.ensure_shape(tf.numpy_function(self.allocate, [x], x.dtype), ())

    def allocate(self, x: np.ndarray) -> np.float32:
        if len(x) > self.most:
            raise MemoryError
        return np.float32(0)


def hungry(most: int) -> Network:
    return replace(TINY, build=lambda spec: build(spec, Hungry(most)))


def test_a_batch_that_does_not_fit_into_memory_is_halved(
    data: CleanData, plan: Plan, tmp_path: Path
) -> None:
    lines: list[str] = []
    once = replace(plan, epochs=1)
    fitted = run(data, once, hungry(8), lines.append)
    assert lines[0] == "Batches of 16 images do not fit into memory; trying 8."
    assert len(fitted.history["loss"]) == 1
    with pytest.raises(TrainerError, match="not enough memory to train on one image"):
        run(data, replace(once, state=tmp_path / "other.npz"), replace(hungry(0), batch_size=1))


def test_memory_that_runs_out_later_costs_no_epoch(data: CleanData, plan: Plan) -> None:
    with pytest.raises(Stop):
        run(data, plan, say=stop_after(1))
    with pytest.raises(TrainerError, match="Make some free and go on with --resume"):
        run(data, plan, hungry(4))


def test_an_interrupted_training_goes_on_only_as_the_same(
    data: CleanData, plan: Plan, tmp_path: Path
) -> None:
    Checkpoint({"network": "tiny", "seed": 4}, 16, {"loss": [0.5]}).save(plan.state)
    with pytest.raises(TrainerError, match="its seed was 4, now it is 5"):
        run(data, plan)
    plan.state.write_bytes(b"half a file")
    with pytest.raises(TrainerError, match=r"cannot be read.*Delete it to begin anew"):
        run(data, plan)
    nowhere = replace(plan, state=tmp_path / "none" / "state.npz")
    with pytest.raises(TrainerError, match=r"cannot be written to .*No such file"):
        run(data, nowhere)


def test_tensorboard_shows_figures_graph_and_mistakes(data: CleanData, plan: Plan) -> None:
    history = run(data, plan).history
    train, validation = (
        EventAccumulator(str(plan.logs / part), size_guidance={"tensors": 0}).Reload()
        for part in ("train", "validation")
    )
    assert train.Tags()["graph"]
    logged = [tf.make_ndarray(e.tensor_proto) for e in validation.Tensors("epoch_loss")]
    assert logged == pytest.approx(history["val_loss"])
    mistakes = [tag for tag in validation.Tags()["tensors"] if tag.startswith("called-")]
    assert mistakes
    [size, *_] = tf.make_ndarray(validation.Tensors(mistakes[0])[0].tensor_proto)
    assert size == b"16"
