"""Logs of a training for TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from trainer.dataset import CLASSES
from trainer.errors import TrainerError
from trainer.graph import compiled

SHOWN = 4
"""How many mistakes of each kind are logged after an epoch."""


class Logbook:
    """The graph of `model`, then each epoch's figures and mistakes, in `folder`.

    Below it are `train/` and `validation/`, as Keras' own callback names them. All methods raise
    TrainerError where they cannot write.
    """

    def __init__(self, folder: Path, model: keras.Model) -> None:
        with _errors_for_people(folder):
            self._train = tf.summary.create_file_writer(str(folder / "train"))
            self._validation = tf.summary.create_file_writer(str(folder / "validation"))
            with self._train.as_default(step=0):
                tf.summary.graph(_graph(model))
        self._folder = folder

    def __enter__(self) -> Self:
        """For `with`: whatever happens, what was logged is written."""
        return self

    def __exit__(self, *_: object) -> None:
        """Write what is still held back."""
        self._train.close()
        self._validation.close()

    def scalars(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Log one epoch's figures (the first epoch is 1); `val_` names are of validation."""
        with _errors_for_people(self._folder):
            for name, value in figures.items():
                of_validation = name.startswith("val_")
                writer = self._validation if of_validation else self._train
                with writer.as_default(step=epoch):
                    tf.summary.scalar(f"epoch_{name.removeprefix('val_')}", value)
                writer.flush()

    def mistakes(
        self,
        epoch: int,
        labels: NDArray[np.int64],
        p_sad: NDArray[np.float32],
        image: Callable[[int], NDArray[np.uint8]],
    ) -> None:
        """Show the surest mistakes among validation images, of which these are labels and p (n,).

        `image` gives one of them, uint8 (h, w, c). Tags are like `called-sad/1`, the surest first.
        """
        with _errors_for_people(self._folder), self._validation.as_default(step=epoch):
            for called, name in enumerate(CLASSES):
                for place, i in enumerate(_surest_mistakes(labels, p_sad, called), start=1):
                    tf.summary.image(f"called-{name}/{place}", image(i)[None])
            self._validation.flush()


@contextmanager
def _errors_for_people(folder: Path) -> Iterator[None]:
    """TensorFlow tells of a full disk as it tells of full memory; nobody must take it for that."""
    try:
        yield
    except tf.errors.OpError as error:
        raise TrainerError(f"The logs in {folder} cannot be written: {error.message}.") from None


def _graph(model: keras.Model) -> Any:
    return compiled(model, model.input_shape).get_concrete_function().graph


def _surest_mistakes(
    labels: NDArray[np.int64], p_sad: NDArray[np.float32], called: int
) -> Sequence[int]:
    sure = p_sad if called else 1 - p_sad
    wrong = np.flatnonzero((labels != called) & (sure > 0.5))
    return [int(i) for i in wrong[np.argsort(-sure[wrong])][:SHOWN]]
