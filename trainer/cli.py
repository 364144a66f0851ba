"""moodsort clean | train | evaluate."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainer import backend, bundle
from trainer.dataset import CLASSES, CORRECTIONS, find_examples
from trainer.errors import DataError, TrainerError
from trainer.image import InputSpec

if TYPE_CHECKING:
    from trainer.bundle import Bundle
    from trainer.cleaning import CleanData, Flagged

WORKERS = os.cpu_count() or 1

STATE = "state.npz"
"""What an interrupted training is kept in."""


class Shares(click.ParamType[tuple[float, float, float]]):
    """Three whole percentages like 70/20/10 -> three shares that sum to 1."""

    name = "TRAIN/VALIDATION/TEST"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, float, float]:
        """Raises click.BadParameter for anything else."""
        match = re.fullmatch(r"(\d+)/(\d+)/(\d+)", str(value))
        parts = [int(part) for part in match.groups()] if match else []
        if sum(parts) != 100 or 0 in parts:
            self.fail("three whole numbers above 0 that sum to 100, like 70/20/10", param, ctx)
        return parts[0] / 100, parts[1] / 100, parts[2] / 100


class Pattern(click.ParamType[re.Pattern[str]]):
    """A regular expression with a group."""

    name = "REGEX"

    def convert(self, value: Any, param: Any, ctx: Any) -> re.Pattern[str]:
        """Raises click.BadParameter where it does not compile or has no group."""
        try:
            pattern = re.compile(str(value))
        except re.error as error:
            self.fail(f"{value!r} is no regular expression: {error}", param, ctx)
        if not pattern.groups:
            self.fail(f"{value!r} has no (group) that names what belongs together", param, ctx)
        return pattern


@click.command(
    epilog="Example: moodsort train photos --out models/mine --network compact --epochs 40"
)
@click.argument("data", nargs=-1, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The bundle to make.")
@click.option("--network", "network_name", help="compact (default), lite0, scene or seed.")
@click.option("--epochs", type=click.IntRange(1), help="Default: what the network's recipe says.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Of all that is random.",
)
@click.option(
    "--split",
    "shares",
    type=Shares(),
    help="Default: 70/20/10; with corrections alone 50/25/25.",
)
@click.option(
    "--group-by",
    type=Pattern(),
    help="Files whose names match share a side of the split with all that have the same text in "
    "the first group, like '^(.+)_\\d+' for one person's photos.",
)
@click.option(
    "--patience",
    type=click.IntRange(1),
    help="Stop after so many epochs without a lower validation loss. Default: the recipe's.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "mixed_bfloat16", "mixed_float16"]),
    default="auto",
    show_default=True,
    help="What training computes in; auto takes the fastest that the processor is made for. The "
    "finished model is float32.",
)
@click.option(
    "--strategy",
    type=click.Choice(["auto", "mirrored", "multiworker"]),
    default="auto",
    show_default=True,
    help="Train on all GPUs (mirrored) or on all machines that TF_CONFIG names (multiworker); auto "
    "finds out.",
)
@click.option(
    "--from",
    "begun_from",
    metavar="BUNDLE",
    help="Begin with the weights of this model rather than with random ones.",
)
@click.option(
    "--corrections",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Teach the model of --from what `moodsort export --corrections DIR` has laid out, beside "
    "DATA that it has learnt from; or alone, where that is not there any more.",
)
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    metavar="BUNDLE",
    help="Learn mostly what this model says of the training images, rather than their labels. "
    "Several together say more.",
)
@click.option(
    "--faces",
    "faces_from",
    metavar="BUNDLE",
    help="With a network for whole images: judge faces as this model does, and weigh both.",
)
@click.option(
    "--resume", is_flag=True, help="Go on where an interrupted training stopped, if there is one."
)
@click.option(
    "--logs", type=click.Path(path_type=Path), help="For TensorBoard. Default: OUT with -logs."
)
def train(
    data: tuple[Path, ...],
    out: Path,
    network_name: str | None,
    epochs: int | None,
    seed: int,
    shares: tuple[float, float, float] | None,
    group_by: re.Pattern[str] | None,
    patience: int | None,
    precision: str,
    strategy: str,
    begun_from: str | None,
    corrections: Path | None,
    teachers: tuple[str, ...],
    faces_from: str | None,
    resume: bool,
    logs: Path | None,
) -> None:
    """Train a network on DATA and save it as a model bundle.

    Each DATA is a folder that holds the folders happy/ and sad/. Broken and repeated images are
    left out; the rest is split by content into training, validation and test images. What is kept
    are the weights of the epoch with the lowest validation loss. A training that was interrupted
    goes on with --resume and ends as if it had not been. On several machines, give each the same
    command, the same files and an OUT that all of them share.

    With --corrections it is the networks of another model that learn, each from what it looks at;
    what comes of it is compared with that model on images that were held out.
    """
    bundle.require_new(out)
    if corrections:
        _require_alone(begun_from, network_name, strategy, teachers, faces_from, resume=resume)
        assert begun_from  # as is required
        _tune(
            begun_from,
            corrections,
            data,
            out,
            shares=shares or ((0.7, 0.2, 0.1) if data else (0.5, 0.25, 0.25)),
            group_by=group_by,
            epochs=epochs,
            patience=patience,
            seed=seed,
            precision=precision,
            logs=logs,
        )
        return
    if not data:
        raise click.UsageError("Name a DATA to learn from, or --corrections.")
    examples = [e for source, folder in enumerate(data) for e in find_examples(folder, source)]
    backend.start()
    from trainer import devices

    together = devices.choose(strategy)
    unfinished = out.with_name(f"{out.name}-unfinished")
    folder = unfinished if together.is_first else Path(f"{unfinished}-{together.index}")
    if folder.exists() and not resume:
        raise TrainerError(
            f"A training of {out} runs, or was interrupted and has left {folder}. "
            "Go on with --resume, or delete that folder to begin anew."
        )
    from trainer.assessment import Training, assess
    from trainer.cleaning import clean as clean_examples
    from trainer.cleaning import require_enough
    from trainer.distillation import soften
    from trainer.networks import network
    from trainer.splitting import fingerprint, split
    from trainer.training import Plan, fit

    net = network(network_name or "compact")
    training = Training(
        name=out.stem,
        network=net.name,
        command=_command(),
        finder=bundle.face_finder() if net.judges_faces else None,
        beside=_beside(faces_from, net.name, judges_faces=net.judges_faces),
    )
    taught_by = [bundle.load(teacher) for teacher in teachers]
    begun_by = bundle.load(begun_from) if begun_from else None
    with _kept_while_of_use(folder, STATE) as state:
        with _progress("Reading", len(examples)) as advance:
            cleaned = clean_examples(
                examples,
                net.input,
                folder / "pixels.npy",
                workers=WORKERS,
                progress=advance,
                finder=training.finder,
            )
        _report_left_out(cleaned)
        require_enough(cleaned)
        parts = split(cleaned, shares or (0.7, 0.2, 0.1), group_by)
        _say(f"Split: {', '.join(f'{len(part)} {name}' for name, part in parts.items())}.")
        epochs = epochs or net.epochs
        precision = backend.fastest_precision() if precision == "auto" else precision
        plan = Plan(
            targets=soften(cleaned, taught_by),
            epochs=epochs,
            patience=patience or net.patience,
            seed=seed,
            precision=precision,
            logs=(logs or out.with_name(f"{out.name}-logs"))
            if together.is_first
            else folder / "logs",
            state=unfinished / STATE,
            devices=together,
            run={
                "network": net.name,
                "epochs": epochs,
                "seed": seed,
                "precision": precision,
                "training data": fingerprint(cleaned, parts["train"]),
                "validation data": fingerprint(cleaned, parts["validation"]),
                "teachers": [teacher.sha256 for teacher in taught_by],
                "beginning": begun_by.sha256 if begun_by else None,
            },
            begin=begun_by.main.network.model.get_weights() if begun_by else None,
        )
        fitted = fit(net, cleaned, parts["train"], parts["validation"], plan, _say)
        if not together.is_first:
            _say(f"The first of {together.count} processes saves {out}.")
            together.wait_for_all()
            return
        made, extras = assess(fitted, cleaned, parts, training, workers=WORKERS, say=_say)
        bundle.save(out, made, extras)
        state.unlink()
    together.wait_for_all()
    _say(f"Saved {out}; try it: moodsort classify IMAGE --model {out}")


def _require_alone(
    begun_from: str | None,
    network_name: str | None,
    strategy: str,
    teachers: Sequence[str],
    faces_from: str | None,
    *,
    resume: bool,
) -> None:
    if not begun_from:
        raise click.UsageError("Name the model that is to learn from the corrections with --from.")
    given = {
        "--network": network_name,
        "--strategy": strategy != "auto",
        "--teacher": teachers,
        "--faces": faces_from,
        "--resume": resume,
    }
    if needless := [flag for flag, value in given.items() if value]:
        raise click.UsageError(
            f"With --corrections the networks are those of {begun_from}, and learning takes few "
            f"epochs: leave out {', '.join(needless)}."
        )


def _tune(
    begun_from: str,
    corrections: Path,
    data: Sequence[Path],
    out: Path,
    *,
    shares: tuple[float, float, float],
    group_by: re.Pattern[str] | None,
    epochs: int | None,
    patience: int | None,
    seed: int,
    precision: str,
    logs: Path | None,
) -> None:
    # The corrections come first, and so are kept where the same image is in DATA, too.
    examples = find_examples(corrections, CORRECTIONS, one_class=True)
    examples += [
        e for source, d in enumerate(data, CORRECTIONS + 1) for e in find_examples(d, source)
    ]
    base = bundle.load(begun_from)
    backend.start()
    from trainer import tuning

    with (
        tempfile.TemporaryDirectory(dir=out.parent, prefix=".moodsort-") as scratch,
        _progress("Reading", len(examples) * len(base.info.stages)) as advance,
    ):
        how = tuning.Tuning(
            name=out.stem,
            command=_command(),
            shares=shares,
            group_by=group_by,
            epochs=epochs or tuning.EPOCHS,
            patience=patience or epochs or tuning.EPOCHS,
            seed=seed,
            precision=backend.fastest_precision() if precision == "auto" else precision,
            logs=logs or out.with_name(f"{out.name}-logs"),
            scratch=Path(scratch),
            workers=WORKERS,
        )
        made, extras = tuning.tune(base, examples, how, say=_say, progress=advance)
    bundle.save(out, made, extras)
    _say(f"Saved {out}; let the service use it: moodsort models promote {out}")


def _beside(where: str | None, network: str, *, judges_faces: bool) -> Bundle | None:
    """A bundle that judges faces, to be used beside a network for whole images."""
    if where is None:
        return None
    if judges_faces:
        raise DataError(f"The network {network} judges faces itself; leave out --faces.")
    beside = bundle.load(where)
    if not beside.faces:
        raise DataError(f"The model {where} does not judge faces.")
    return beside


def _command() -> str:
    """What the user typed."""
    return shlex.join(["moodsort", *sys.argv[1:]])


@contextmanager
def _kept_while_of_use(folder: Path, name: str) -> Iterator[Path]:
    """The path of the file `name` in `folder`, which is removed unless that file is left in it."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise TrainerError(f"The folder {folder} cannot be made: {error.strerror}.") from None
    try:
        yield folder / name
    except KeyboardInterrupt:
        if (folder / name).exists():
            _say("The same command with --resume goes on after the last whole epoch.")
        raise
    finally:
        if not (folder / name).exists():
            shutil.rmtree(folder, ignore_errors=True)


@click.command(epilog="Example: moodsort clean photos --apply")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--apply", is_flag=True, help="Move what is flagged to DATA-set-aside.")
@click.option(
    "--sheet",
    type=click.Path(dir_okay=False, path_type=Path),
    default="flagged.png",
    show_default=True,
    help="Where to draw pictures of what is flagged.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def clean(data: Path, apply: bool, sheet: Path, as_json: bool) -> None:
    """Look for bad, repeated and contradicting images in a data set.

    DATA is a folder that holds the folders happy/ and sad/. Files that show the same, or nearly the
    same, but have different labels come first: at most one of the labels is right. Nothing is moved
    without --apply, and nothing is ever deleted.
    """
    from trainer import cleaning, contact_sheet
    from trainer.contact_sheet import Item

    data = data.absolute()
    examples = find_examples(data)
    with (
        tempfile.TemporaryDirectory(prefix="moodsort-") as temporary,
        _progress("Reading", len(examples)) as advance,
    ):
        store = Path(temporary) / "pixels.npy"
        spec = InputSpec(64, 64, 1)
        cleaned = cleaning.clean(examples, spec, store, workers=WORKERS, progress=advance)
    flagged = sorted(cleaned.flagged, key=_conflicts_first)
    if flagged:
        contact_sheet.save([Item(f.example.path, f.code) for f in flagged], sheet)
    aside = data.with_name(f"{data.name}-set-aside")
    moved = cleaning.set_aside(flagged, data, aside) if apply else 0
    if as_json:
        click.echo(json.dumps(_findings(cleaned, flagged, moved)))
        return
    _print_findings(cleaned, flagged)
    if flagged:
        click.echo(f"Pictures of them: {sheet}")
        click.echo(f"Moved {moved} to {aside}" if apply else "Move them aside with --apply.")


def _conflicts_first(flaw: Flagged) -> tuple[bool, str, str]:
    return not flaw.code.endswith("conflict"), flaw.code, str(flaw.example.path)


def _findings(data: CleanData, flagged: Sequence[Flagged], moved: int) -> dict[str, Any]:
    classes = _class_counts(data)
    return {
        "classes": classes,
        "imbalance": _imbalance(classes),
        "counts": dict(Counter(flaw.code for flaw in flagged)),
        "moved": moved,
        "flagged": [
            {
                "path": _text(flaw.example.path),
                "label": CLASSES[flaw.example.label],
                "code": flaw.code,
                "detail": flaw.detail,
                "like": os.fsencode(flaw.like).decode(errors="backslashreplace")
                if flaw.like
                else None,
            }
            for flaw in flagged
        ],
    }


def _imbalance(classes: Mapping[str, int]) -> float:
    """How many times as many images the larger class has."""
    return round(max(classes.values()) / max(1, min(classes.values())), 2)


def _text(path: Path) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")


def _print_findings(data: CleanData, flagged: Sequence[Flagged]) -> None:
    classes = _class_counts(data)
    for name, count in classes.items():
        click.echo(f"{count:8} good images of class {name}")
    click.echo(f"{_imbalance(classes):8} times as many in one class as in the other")
    for code, count in Counter(flaw.code for flaw in flagged).items():
        click.echo(f"{count:8} {code}")
    for flaw in flagged[:LISTED]:
        click.echo(f"{flaw.code:15} {_text(flaw.example.path)}: {flaw.detail}")
    if len(flagged) > LISTED:
        click.echo(f"and {len(flagged) - LISTED} more; --json has them all")


@click.command(epilog="Example: moodsort evaluate default photos --json")
@click.argument("model", metavar="BUNDLE")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a list.")
@click.option(
    "--report",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write an HTML page with curves, calibration, mistakes and what decided.",
)
def evaluate(model: str, data: Path, as_json: bool, page: Path | None) -> None:
    """Measure how well BUNDLE (a folder, a .zip, or default) judges the images in DATA.

    DATA is a folder that holds the folders happy/ and sad/. Precision, recall and F1 are those
    of sad. Every readable image counts, repeated ones too.
    """
    if page and not page.parent.is_dir():  # To be told before the images are judged, not after.
        raise DataError(f"There is no folder {page.parent}.")
    total = len(find_examples(data))
    loaded = bundle.load(model)
    from trainer import evaluation, report

    with _progress("Judging", total) as advance:
        result = evaluation.evaluate(loaded, data, workers=WORKERS, progress=advance)
    judged, threshold = result.judged, loaded.info.threshold
    measured = evaluation.measure(judged.labels, judged.p_sad, threshold)
    if page:
        title = f"Model {loaded.info.name} on {data.name}"
        _write(page, report.render(title, loaded, {data.name: judged}))
    figures = asdict(measured)
    figures = {"images": figures.pop("images"), "skipped": result.skipped, **figures}
    figures["per_second"] = round(result.per_second, 1)
    if as_json:
        click.echo(json.dumps(figures))
        return
    for name, value in figures.items():
        click.echo(f"{name:18} {value if not isinstance(value, float) else f'{value:.4g}'}")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}.") from None


@contextmanager
def _progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    with click.progressbar(
        length=total, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:
        yield bar.update


def _report_left_out(data: CleanData) -> None:
    left_out = [flagged for flagged in data.flagged if not flagged.code.startswith("near_")]
    counts = Counter(flagged.code for flagged in left_out)
    _say(f"Good images: {_listed(_class_counts(data))}; left out: {_listed(counts) or 'none'}.")
    for flagged in left_out[:LISTED]:
        _say(f"  {flagged.example.path}: {flagged.detail}")
    if len(left_out) > LISTED:
        _say(f"  and {len(left_out) - LISTED} more")


LISTED = 20
"""Left out images that are named one by one."""


def _class_counts(data: CleanData) -> dict[str, int]:
    counts = Counter(data.labels.tolist())
    return {name: counts[label] for label, name in enumerate(CLASSES)}


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def _say(text: str) -> None:
    click.echo(text, err=True)
