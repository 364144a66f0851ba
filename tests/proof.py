"""Proof that corrections make a model better, from the first image to the last move.

    python -m tests.proof FOLDER [--images 300] [--corrected 60]

A weak model is trained on few drawn faces; a service sorts images with it; somebody finds two of
three wrong ones and moves them to where they belong, and says of right ones that they are, until
enough are corrected; the model learns from that, is promoted, and what is filed is decided again.
What both models make of other images is measured and told. FOLDER must be new. It takes some
minutes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faces import MOODS, draw_folder
from tests.helpers import Place, Service, moodsort


@dataclass(frozen=True)
class Size:
    """How much of all; `learnt` and `others` count the images of each mood."""

    images: int = 300
    corrected: int = 60
    learnt: int = 40
    others: int = 150
    network: str = "lite0"
    epochs: int = 6


@dataclass(frozen=True)
class Proof:
    """Shares of images that were right: others before and after, filed ones before and after."""

    before: float
    after: float
    filed_before: float
    filed_after: float
    moved: int


def prove(root: Path, size: Size, say: Callable[[str], None]) -> Proof:
    """Go all the way, with the commands that people use."""
    learnt, others = root / "learnt", root / "others"
    draw_folder(learnt, size.learnt, seed=11)
    draw_folder(others, size.others, seed=13)
    weak, better = root / "weak", root / "better"
    network = ("--network", size.network, "--epochs", str(size.epochs), "--seed", "1")
    run("train", learnt, "--out", weak, *network)
    before = accuracy(weak, others)
    say(f"The weak model is right in {before:.1%} of {2 * size.others} other images.")

    place = Place(root / "place")
    where = ("--inbox", place.inbox, *place.destinations())
    models = ("--models", place.root / "models", "--inbox", place.inbox)
    run("models", "promote", weak, "--force", *models)
    with Service(place, MOODSORT_MODELS=str(place.root / "models")) as service:
        service.wait_until_ready()
        dropped = place.root / "dropped"
        draw_folder(dropped, size.images // 2, seed=12, flat=True)
        for image in dropped.iterdir():
            image.rename(place.inbox / image.name)
        service.wait_drained(size.images)
        filed_before = share_right(place)
        say(f"It sorted {size.images} images, {filed_before:.1%} of them rightly.")

        correct(service, size.corrected, where, say)
        run("export", "--corrections", root / "corrections", "--database", place.database)
        learning = ("--corrections", root / "corrections", "--from", weak, "--out", better)
        for line in run("train", learnt, *learning).splitlines():
            if line.startswith("Held out"):
                say(line)
        after = accuracy(better, others)
        say(f"The new model is right in {after:.1%} of the other images.")

        promoted = json.loads(run("models", "promote", better, "--json", *models))
        say(promoted["service"])
        options = ("--models", place.root / "models", "--apply", "--json")
        counts = json.loads(run("resort", *where, *options).splitlines()[-1])
        filed_after = share_right(place)
        say(
            f"Decided again, {counts['changed']} were moved; {filed_after:.1%} of all that it "
            "sorted lies where it belongs now."
        )
        assert corrections(place) == size.corrected
        assert service.stop() == 0
    return Proof(before, after, filed_before, filed_after, counts["changed"])


def correct(
    service: Service, count: int, where: tuple[str | Path, ...], say: Callable[[str], None]
) -> None:
    """Move two of three wrong images, and of right ones say so until `count` are corrected."""
    place = service.place
    filed = sorted(place.files(place.happy, place.sad))
    wrong = [path for path in filed if not is_right(path)]
    wrong = [path for number, path in enumerate(wrong) if number % 3][:count]
    right = [path for path in filed if is_right(path)][: count - len(wrong)]
    for path in wrong:
        to = place.sad if path.parent == place.happy else place.happy
        path.rename(to / path.name)
    service.wait_for(lambda: corrections(place) == len(wrong), "all moves are noticed")
    for mood in MOODS:
        if some := [path for path in right if path.parent.name == mood]:
            run("correct", *some, "--label", mood, *where)
    say(f"{len(wrong)} wrong ones were moved by hand, {len(right)} right ones were said to be so.")


def run(*args: str | Path) -> str:
    """What a command says: on standard output, or else beside it."""
    done = moodsort(*args)
    assert done.returncode == 0, done.stderr
    return done.stdout or done.stderr


def accuracy(model: Path, data: Path) -> float:
    measured: dict[str, Any] = json.loads(run("evaluate", model, data, "--json"))
    return float(measured["accuracy"])


def corrections(place: Place) -> int:
    return sum(row["corrected_label"] is not None for row in place.rows())


def share_right(place: Place) -> float:
    """Of the filed images, by their names."""
    filed = place.files(place.happy, place.sad)
    return sum(map(is_right, filed)) / len(filed)


def is_right(path: Path) -> bool:
    [mood] = [mood for mood in MOODS if f"-{mood}-" in path.name]
    return path.parent.name == mood


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=Size.images)
    parser.add_argument("--corrected", type=int, default=Size.corrected)
    args = parser.parse_args()
    args.folder.mkdir(parents=True)

    def say(line: str) -> None:
        print(line, flush=True)  # noqa: T201

    proof = prove(args.folder.resolve(), Size(args.images, args.corrected), say)
    if not proof.after > proof.before:
        raise SystemExit("The new model is no better.")


if __name__ == "__main__":
    main()
