"""What an interrupted training needs to go on as if nothing had happened."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import TrainerError

Arrays = Sequence[NDArray[Any]]


@dataclass
class Checkpoint:
    """The state after an epoch.

    `run`: by name, what makes two trainings the same one. `history`: each figure's value after
    each epoch. `variables`: all of the model's and its optimizer's. `best`: the weights of the
    epoch `best_epoch` (from 0), which had the lowest validation loss so far.
    """

    run: Mapping[str, Any]
    batch_size: int
    history: dict[str, list[float]] = field(default_factory=dict)
    best_epoch: int = -1
    best: Arrays = ()
    variables: Arrays = ()

    @property
    def epochs_done(self) -> int:
        """How many epochs are in `history`."""
        return len(next(iter(self.history.values()), []))

    def add(self, figures: Mapping[str, float], variables: Sequence[Any]) -> None:
        """Note how an epoch went, and the values that the Keras `variables` have after it."""
        for name, value in figures.items():
            self.history.setdefault(name, []).append(value)
        self.variables = [np.asarray(variable) for variable in variables]

    def save(self, path: Path) -> None:
        """Replace the file at `path` whole or not at all.

        Raises:
            TrainerError: it cannot be written.
        """
        facts = {
            "run": self.run,
            "batch_size": self.batch_size,
            "history": self.history,
            "best_epoch": self.best_epoch,
        }
        arrays: dict[str, Any] = {
            **{f"best-{i}": array for i, array in enumerate(self.best)},
            **{f"variable-{i}": array for i, array in enumerate(self.variables)},
        }
        draft = path.with_name(f".{path.name}.draft")
        try:
            with open(draft, "wb") as file:
                np.savez(file, facts=np.array(json.dumps(facts)), **arrays)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise TrainerError(
                f"The state of the training cannot be written to {path}: {error.strerror}."
            ) from None

    @classmethod
    def load(cls, path: Path, run: Mapping[str, Any]) -> Checkpoint:
        """The reverse of `save`.

        Raises:
            TrainerError: it cannot be read, or is of another training than `run`.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                facts = json.loads(str(stored["facts"]))
                found = cls(
                    **facts,
                    best=_numbered(stored, "best"),
                    variables=_numbered(stored, "variable"),
                )
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise TrainerError(
                f"The interrupted training {path} cannot be read: {error}. Delete it to begin anew."
            ) from None
        for name, value in run.items():
            if found.run.get(name) != value:
                raise TrainerError(
                    f"{path} is of another training: its {name} was {found.run.get(name)}, "
                    f"now it is {value}. Give the same again, or delete it to begin anew."
                )
        return found


def _numbered(stored: Mapping[str, NDArray[Any]], name: str) -> list[NDArray[Any]]:
    count = sum(key.startswith(f"{name}-") for key in stored)
    return [stored[f"{name}-{i}"] for i in range(count)]
