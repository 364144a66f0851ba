"""moodsort run, sort, classify, correct, report, status, doctor; and the command group itself."""

from __future__ import annotations

import importlib
import json
import logging
import os
import shlex
import stat
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from daemon import settings as configuration
from daemon.errors import ServiceError, SettingsError
from daemon.identity import Identity
from daemon.settings import Settings
from db.cli import since_option, until_option
from db.errors import LedgerError
from db.text import one_line, printable
from trainer.errors import ImageError, TrainerError

if TYPE_CHECKING:
    from daemon.classifier import Photo
    from daemon.doctor import Finding, Problem, Repair
    from daemon.reporting import Reporter
    from daemon.service import Reload
    from trainer.bundle import Verdict
    from trainer.image import View

log = logging.getLogger(__name__)

COMMANDS = {
    "run": ("daemon.cli:run", "Watch the inbox and file what comes in."),
    "sort": ("daemon.cli:sort", "File all images in a folder, then exit."),
    "bulk": ("daemon.bulk.cli:bulk", "Judge an archive of any size on Ray, into Parquet files."),
    "classify": ("daemon.cli:classify", "Judge images; move and record nothing."),
    "results": ("db.cli:results", "Show decisions, newest first."),
    "stats": ("db.cli:stats", "Show how many images were decided, and how."),
    "export": ("db.cli:export", "Write decisions to a file: CSV, JSON, Parquet, SQLite."),
    "report": ("daemon.cli:report", "Write a page about the decisions of a period."),
    "correct": ("daemon.cli:correct", "Say what filed images are; they are moved there."),
    "resort": ("daemon.model_cli:resort", "Decide filed images again with the model of now."),
    "models": ("daemon.model_cli:models", "Tell which models were used; choose another."),
    "gallery": ("daemon.gallery.cli:gallery", "Look at decisions in a browser; correct by a key."),
    "browse": ("daemon.browse.cli:browse", "Ask the database in SQL, in a browser."),
    "status": ("daemon.cli:status", "Tell whether the service works, and how it does."),
    "doctor": ("daemon.cli:doctor", "Compare the database with the folders; repair."),
    "clean": (
        "trainer.cli:clean",
        "Look for bad and repeated images in a data set.",
    ),
    "train": ("trainer.cli:train", "Train a network and save it as a model bundle."),
    "evaluate": ("trainer.cli:evaluate", "Measure how good a model bundle is."),
}
"""Where each command lives, and its line in the help: loading them all to show it takes seconds."""


class Failed(click.ClickException):
    """It could not work, or can no longer; to start it again may help."""

    def show(self, file: IO[Any] | None = None) -> None:
        """One line; in the journal it is an error, as of `daemon.logs`."""
        from daemon import logs

        mark = "<3>" if logs.goes_to_journal(sys.stderr, os.environ) else ""
        click.echo(f"{mark}Error: {self.format_message()}", file=file, err=True)


class Misconfigured(Failed):
    """A setting is no good; to start it again would not help."""

    exit_code = os.EX_CONFIG


class Moodsort(click.Group):
    """Loads a command when it is called, and shows errors as sentences."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return _knowing_the_configuration(command) if module == "db.cli" else command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table above, without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run, and turn what is known to go wrong into one line."""
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
            return result
        except (ServiceError, LedgerError, TrainerError) as error:
            kind = Misconfigured if isinstance(error, SettingsError) else Failed
            raise kind(one_line(str(error))) from error
        except BrokenPipeError:
            raise  # Who reads has seen enough; click ends quietly.
        except OSError as error:
            name = f"{error.filename}: " if error.filename else ""
            raise Failed(one_line(f"{name}{error.strerror}.")) from error


@click.group(
    cls=Moodsort,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: moodsort run --inbox ~/Pictures/inbox",
)
@click.version_option(package_name="moodsort")
def main() -> None:
    """Sort images into happy and sad ones, and remember what was decided."""
    # Pillow warns of large and of half broken images; whether they are good is decided here.
    warnings.filterwarnings("ignore", module=r"PIL\.")


@click.command(epilog="Example: moodsort run --inbox ~/Pictures/inbox --batch-size 128")
@configuration.options()
def run(config: Path | None, **flags: Any) -> None:
    """Watch the inbox and file what comes in.

    Images are moved to the happy or the sad folder, files that cannot be judged to the failed
    folder; each gets a row in the database. Ends on Ctrl-C or SIGTERM. SIGHUP lets it read its
    settings and its model again, unless it runs on a terminal.

    Every setting may also stand in a TOML file (batch_size = 128) or in the environment
    (MOODSORT_BATCH_SIZE=128). A flag goes before the environment, that before the file.
    """
    from daemon import reporting
    from daemon.service import Reload

    read = partial(configuration.load, config, os.environ, flags)
    settings = read()
    if settings.log_format == "text":
        _greet(settings)
    if _on_terminal():
        reporter: Reporter = reporting.LiveReporter(settings.inbox, recursive=settings.recursive)
    else:
        reporter = reporting.Reporter()
    # The end of a terminal is told by the same signal as the wish for a reload.
    reload = None if _on_terminal() else Reload(threading.Event(), read)
    _serve(settings, reporter, reload=reload)


@click.command(epilog="Example: moodsort sort holiday --happy holiday-happy --sad holiday-sad")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@configuration.options(configuration.NAMES - {"inbox", "metrics_listen"})
def sort(folder: Path, config: Path | None, **flags: Any) -> None:
    """File all images in FOLDER, then exit.

    The same as `run`, for what lies in FOLDER now; takes the same settings. Ends with 0 also
    when some images could not be judged: the summary counts them.
    """
    from daemon import inbox, reporting

    settings = configuration.load(config, os.environ, {**flags, "inbox": folder})
    if _on_terminal():
        total = inbox.count_files(folder, recursive=settings.recursive, most_seconds=60)
        reporter: Reporter = reporting.ProgressReporter(total)
    else:
        reporter = reporting.Reporter()
    _serve(settings, reporter, once=True)


def _on_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def _greet(settings: Settings) -> None:
    """Where to drop images, and how to query."""
    click.echo(f"Drop images into {click.format_filename(settings.inbox.absolute())}")
    ask = [sys.argv[0], "results"]
    if settings.database != Settings.database:
        is_url = "://" in settings.database  # which may hold a password
        ask += ["--database", "URL" if is_url else settings.database]
    click.echo(f"Query the decisions with: {shlex.join(ask)}")


def _serve(
    settings: Settings, reporter: Reporter, *, once: bool = False, reload: Reload | None = None
) -> None:
    from daemon import loading, logs, service, signals

    stop = threading.Event()
    os.umask(os.umask(0) | stat.S_IWOTH)  # Nothing that it makes is for everybody to write to.
    logs.set_up(logging.WARNING if _on_terminal() else logging.INFO, settings.log_format)
    with signals.heeded(stop, reload.asked if reload else None):
        folders = loading.make_folders(settings)
        try:
            with reporter.display():
                service.serve(settings, folders, reporter, stop, once=once, reload=reload)
        except service.StoppedWhileLoading:
            _sum_up("Stopped", settings, reporter)
            if sys.stdout is not None:
                sys.stdout.flush()
            os._exit(130 if once else 0)
    _sum_up("Done" if once and not stop.is_set() else "Stopped", settings, reporter)
    if once and stop.is_set():
        raise click.exceptions.Exit(130)


def _sum_up(how: str, settings: Settings, reporter: Reporter) -> None:
    if settings.log_format == "text":
        click.echo(f"{how}: {reporter.tally}.")
    else:
        log.info(how.lower(), extra=reporter.tally.counts())


CHUNK = 64
"""Images that `classify` reads ahead and judges at once."""


@click.command(epilog="Example: find photos -name '*.jpg' | moodsort classify - --json")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path())
@configuration.options(configuration.JUDGING)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def classify(images: tuple[str, ...], config: Path | None, as_json: bool, **flags: Any) -> None:
    """Judge images; move and record nothing.

    IMAGE may be - to read paths from standard input, one a line. Ends with 1 if an image could
    not be judged. Settings come from flags, the environment and a file as those of `run`.
    """
    from daemon import classifier
    from trainer import bundle

    settings = configuration.load(config, os.environ, flags)
    loaded = bundle.load(settings.bundle, settings.face_limits)
    failures = 0
    paths = _paths(images)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while chunk := list(islice(paths, CHUNK)):
            photos = list(pool.map(lambda path: _read(path, loaded.info.view), chunk))
            for photo, verdict in zip(photos, classifier.judge(loaded, photos), strict=True):
                failures += isinstance(verdict, ImageError)
                _print_verdict(photo.path, verdict, as_json=as_json)
    if failures:
        raise click.exceptions.Exit(1)


def _paths(images: tuple[str, ...]) -> Iterator[Path]:
    for image in images:
        if image == "-":
            for line in sys.stdin.buffer:
                if name := line.rstrip(b"\r\n"):
                    yield Path(os.fsdecode(name))
        else:
            yield Path(image)


def _read(path: Path, view: View) -> Photo:
    from daemon import classifier

    try:
        # The service never follows links; here somebody has named this one.
        return replace(classifier.read(path.resolve(), view), path=path)
    except classifier.Unsettled:
        kind = "is no regular file, or is being written" if path.exists() else "does not exist"
        reason = f"The file {kind}."
    except (OSError, RuntimeError, ValueError) as error:
        reason = f"The path cannot be followed: {error}."
    return classifier.Photo(path, Identity(0, 0), None, ImageError("unreadable", reason))


def _print_verdict(path: Path, verdict: Verdict | ImageError, *, as_json: bool) -> None:
    name = printable(path)
    if isinstance(verdict, ImageError):
        row: dict[str, Any] = {
            "path": name,
            "error_code": verdict.code,
            "error_detail": str(verdict),
        }
        text = f"{name}: {verdict.code}: {verdict}"
    else:
        row = {
            "path": name,
            "label": verdict.label,
            "probability": verdict.probability,
            "p_sad": verdict.p_sad,
            "decided_by": verdict.decided_by,
            "faces": [face.flat() for face in verdict.faces],
        }
        text = f"{name}: {verdict.label} {verdict.probability:.3f}"
    click.echo(json.dumps(row) if as_json else one_line(text))


@click.command(epilog="Example: moodsort correct moodsort-data/happy/rain.jpg --label sad")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path())
@click.option("--label", type=click.Choice(["happy", "sad"]), required=True, help="What they are.")
@configuration.options({*configuration.FOLDERS, "database"})
def correct(images: tuple[str, ...], label: str, config: Path | None, **flags: Any) -> None:
    """Say what filed images are: it is recorded, and they are moved to where such ones lie.

    IMAGE is a file where moodsort filed it, or - to read paths from standard input, one a line.
    That an image is what it was taken for is worth saying, too: it is recorded, and stays. Works
    beside the service. Ends with 1 if an image could not be corrected.

    Settings come from flags, the environment and a file as those of `run`.
    """
    from daemon import correcting

    settings = configuration.load(config, os.environ, flags)
    logging.getLogger("daemon").addHandler(logging.NullHandler())  # What it does is told here.
    refused = 0
    for answer in correcting.correct(settings, _paths(images), label):
        name = printable(answer.image)
        if isinstance(answer, correcting.Refused):
            refused += 1
            click.echo(one_line(f"{name}: {answer.reason}"), err=True)
        else:
            click.echo(one_line(f"{name}: {label}, lies at {printable(answer.destination)}"))
    if refused:
        raise click.exceptions.Exit(1)


@click.command(epilog="Example: moodsort report week.html --since 7d")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@configuration.options({*configuration.FOLDERS, "database"})
@since_option
@until_option
def report(
    file: Path,
    config: Path | None,
    since: datetime | None,
    until: datetime | None,
    **flags: Any,
) -> None:
    """Write a page about the decisions of a period to FILE, which must not exist.

    It tells how many images came when, how sure the decisions are, and what failed, and shows the
    least and the most certain images: think before you pass it on. It is HTML, and needs nothing
    else; times are local.

    Settings come from flags, the environment and a file as those of `run`.
    """
    from db.exporting import drafted
    from db.statistics import Period

    if since and until and since >= until:
        raise click.UsageError("--since must be earlier than --until.")
    settings = configuration.load(config, os.environ, flags)
    with drafted(file) as draft:
        from daemon import digest  # It loads what draws, which takes a second.

        draft.write_text(digest.render(settings, Period(since, until)), encoding="utf-8")
    click.echo(f"A report in {click.format_filename(file)}")


@click.command(epilog="Example: moodsort status --config /etc/moodsort/moodsort.toml")
@configuration.options({"inbox"})
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each service.")
def status(config: Path | None, *, as_json: bool, **flags: Any) -> None:
    """Tell whether the service of an inbox works, and how it does.

    Ends with 0 if it is well, else with 1: also while it starts, or waits for a full disk. Where
    several services share the inbox each is told of, and all have to be well.
    """
    from daemon import status as reports

    settings = configuration.load(config, os.environ, flags)
    found = reports.examine(settings.folders["inbox"])
    for number, health in enumerate(found):
        if as_json:
            click.echo(json.dumps(health.flat()))
            continue
        if number:
            click.echo()
        for name, text in reports.lines(health):
            click.echo(f"{name:9} {one_line(text)}")
    if not all(health.healthy for health in found):
        raise click.exceptions.Exit(1)


@click.command(epilog="Example: moodsort doctor --deep --json")
@configuration.options({*configuration.FOLDERS, "database"})
@click.option("--repair", is_flag=True, help="First do what loses nothing, and say what.")
@click.option("--deep", is_flag=True, help="Also read all filed images, and compare their hashes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def doctor(config: Path | None, *, repair: bool, deep: bool, as_json: bool, **flags: Any) -> None:
    """Compare the database with the folders, and tell what does not fit together.

    Ends with 1 if something is wrong. It may run beside the service, but for --repair: that ends
    moves which a killed service has left half done, and removes the rests of copies. Images and
    rows of filed ones are never touched.

    Settings come from flags, the environment and a file as those of `run`.
    """
    from daemon import doctor as checks

    settings = configuration.load(config, os.environ, flags)
    logging.getLogger("daemon").addHandler(logging.NullHandler())  # What it does is told here.
    if repair:
        for done in checks.repair(settings):
            _print_repair(done, as_json=as_json)
    found: Counter[Problem] = Counter()
    for finding in checks.examine(settings, deep=deep):
        if not found and not as_json:
            click.echo(f"{'problem':12} {'row':>8}  file")
        found[finding.problem] += 1
        _print_finding(finding, as_json=as_json)
    if not as_json:
        for problem, count in found.items():
            click.echo(f"{count} {problem}: {problem.about}")
    if found:
        raise click.exceptions.Exit(1)
    if not as_json:
        click.echo("All is well.")


def _print_repair(repair: Repair, *, as_json: bool) -> None:
    name = printable(repair.path)
    if as_json:
        click.echo(json.dumps({"repaired": repair.done, "id": repair.id, "path": name}))
    else:
        click.echo(one_line(f"repaired: {name}: {repair.done}"))


def _print_finding(finding: Finding, *, as_json: bool) -> None:
    name, problem = printable(finding.path), finding.problem
    if as_json:
        row = {"problem": problem, "id": finding.id, "path": name, "detail": problem.about}
        click.echo(json.dumps(row))
    else:
        id = "" if finding.id is None else finding.id
        click.echo(one_line(f"{problem:12} {id:>8}  {name}"))


def _knowing_the_configuration(command: click.Command) -> click.Command:
    """Let a query find the database that the service's configuration names."""

    def take_database(ctx: click.Context, param: click.Parameter, config: Path | None) -> None:
        if config is not None:
            settings = configuration.load(config, {}, {})
            ctx.default_map = {"database": settings.database}

    option = click.Option(
        ["--config"],
        envvar=configuration.CONFIG_VARIABLE,
        type=click.Path(path_type=Path),
        expose_value=False,
        is_eager=True,
        callback=take_database,
        help="The service's TOML file, for its database.",
    )
    if all(param.name != option.name for param in command.params):
        command.params.append(option)
    return command


if __name__ == "__main__":
    main()
