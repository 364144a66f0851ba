"""Cross-validate networks on a data set, on the same folds, for docs/accuracy.md.

python docs/accuracy.py DATA [--network seed --network scene …] [--faces BUNDLE]
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from trainer import backend, bundle, evaluation, fusion
from trainer.cleaning import CleanData, clean
from trainer.dataset import Example, decoded_batches, find_examples
from trainer.graph import Graph
from trainer.image import InputSpec, View
from trainer.judging import Judged
from trainer.logits import logit, probability

backend.start()

from trainer.networks import Network, network  # noqa: E402
from trainer.training import Plan, fit  # noqa: E402

FOLDS = 5
INNER_FOLDS = 3
WORKERS = 2

Indices = NDArray[np.int64]
Logits = NDArray[np.float64]


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--network", "names", multiple=True, default=("seed", "scene"))
@click.option("--faces", "faces", help="A bundle that judges faces; nothing of it is trained.")
@click.option("--seeds", type=click.IntRange(1), default=1, help="Trainings of each network.")
def main(data: Path, names: Sequence[str], faces: str | None, seeds: int) -> None:
    """Print a table of what each network makes of the folds of DATA."""
    examples = find_examples(data)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        spec = network(names[0]).input if names else InputSpec(48, 48, 1)
        cleaned = clean(examples, spec, folder / "folds.npy", workers=WORKERS)
        folds = list(folds_of(cleaned, np.arange(len(cleaned.labels)), FOLDS))
        click.echo(f"{len(cleaned.labels)} images, {np.bincount(cleaned.labels)} of each class")
        beside = None
        if faces:
            beside, of_whole = judge_faces(faces, cleaned.examples)
            alone = np.where(beside.there, beside.logits, of_whole)
            tell("faces alone", cleaned.labels, alone, folds)
            right = ((beside.logits > 0) == cleaned.labels)[beside.there]
            click.echo(f"{len(right)} images have a face that counts; {right.mean():.3f} are right")
        for name in names:
            for seed in range(seeds):
                cross_validate(network(name), examples, folds, seed, beside, folder)


def folds_of(data: CleanData, rows: Indices, count: int) -> Iterator[tuple[Indices, Indices]]:
    """Training and test indices of each fold of `rows`; near duplicates are on one side."""
    folds = StratifiedGroupKFold(count, shuffle=True, random_state=0)
    for train, test in folds.split(rows, data.labels[rows], data.groups[rows]):
        yield rows[train], rows[test]


@dataclass(frozen=True)
class Faces:
    """Of each image the logits of its faces, NaN where there are none, and the share they leave."""

    logits: Logits
    rest: NDArray[np.float64]

    @property
    def there(self) -> NDArray[np.bool_]:
        """Which images have some."""
        return ~np.isnan(self.logits)


def judge_faces(where: str, examples: Sequence[Example]) -> tuple[Faces, Logits]:
    """What a bundle says of the faces of each image, and of the whole."""
    loaded = bundle.load(where)
    assert loaded.faces
    network = loaded.faces.predict
    judged: list[Judged | None] = []
    whole: list[NDArray[np.float64]] = []
    view = View(network.spec, loaded.faces.photo_side)
    for _, images in decoded_batches(examples, view, WORKERS):
        judged += loaded.faces.judge(images)
        whole.append(network.logits(np.stack([image.pixels for image in images])))
    of_faces = np.array([one.logit if one else np.nan for one in judged]) / network.temperature
    rest = np.array([one.rest if one else 1.0 for one in judged])
    return Faces(of_faces, rest), np.concatenate(whole) / network.temperature


def cross_validate(
    net: Network,
    examples: Sequence[Example],
    folds: Sequence[tuple[Indices, Indices]],
    seed: int,
    faces: Faces | None,
    folder: Path,
) -> None:
    """Print a row for the network alone, and one for it with the faces beside it."""
    data = clean(examples, net.input, folder / f"{net.name}-{seed}.npy", workers=WORKERS)
    alone, both = np.zeros(len(data.labels)), np.zeros(len(data.labels))
    for train, test in folds:
        alone[test] = learnt(net, data, train, test, seed)
        both[test] = alone[test]
        if faces:
            within = np.zeros(len(data.labels))
            for inner, held_out in folds_of(data, train, INNER_FOLDS):
                within[held_out] = learnt(net, data, inner, held_out, seed)
            rows = train[faces.there[train]]
            weigh = fusion.fit(
                faces.logits[rows], within[rows], faces.rest[rows], data.labels[rows]
            )
            for i in test[faces.there[test]]:
                both[i] = weigh(faces.logits[i], alone[i], faces.rest[i])
            click.echo(f"{weigh}", err=True)
    tell(f"{net.name}, seed {seed}", data.labels, alone, folds)
    if faces:
        tell(f"{net.name} and faces, seed {seed}", data.labels, both, folds)


def learnt(net: Network, data: CleanData, train: Indices, test: Indices, seed: int) -> Logits:
    """What the network says of the images `test` when it has learnt from `train` alone."""
    with tempfile.TemporaryDirectory() as temporary:
        plan = Plan(
            targets=data.labels.astype(np.float32),
            epochs=net.epochs,
            patience=net.epochs,
            seed=seed,
            precision="float32",
            logs=Path(temporary) / "logs",
            state=Path(temporary) / "state.npz",
            run={},
        )
        # A validation part would be too small to choose an epoch by, and is better learnt from.
        model = fit(net, data, train, train, plan, lambda line: None).model
    return logit(Graph(model).at(test, data.pixels)[0][:, 0])


def tell(
    name: str, labels: Indices, logits: Logits, folds: Sequence[tuple[Indices, Indices]]
) -> None:
    """Print a row: the accuracy on all folds together and on each, balanced accuracy, AUC."""
    p_sad = probability(logits)
    measured = evaluation.measure(labels, p_sad)
    low, high = evaluation.intervals(labels, p_sad)["accuracy"]
    right = (p_sad > 0.5) == labels
    cells = [
        name,
        f"{measured.accuracy:.3f} ({low:.3f} to {high:.3f})",
        ", ".join(f"{right[test].mean():.2f}" for _, test in folds),
        f"{measured.balanced_accuracy:.3f}",
        f"{measured.auc:.3f}",
    ]
    click.echo(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
