"""One TOML file, the environment and flags -> one frozen object.

A flag goes before the environment, that before the file, that before the default.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import Field, dataclass, field, fields
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from daemon.errors import SettingsError

if TYPE_CHECKING:
    from trainer.faces import FaceLimits

PREFIX = "MOODSORT_"
CONFIG_VARIABLE = PREFIX + "CONFIG"


class Address(click.ParamType[str]):
    """Where to listen: HOST:PORT, [::1]:PORT, or nothing."""

    name = "host:port"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Raises click.BadParameter for anything else."""
        try:
            if value:
                host_and_port(value)
        except ValueError:
            self.fail(f"{value!r} is no address like 127.0.0.1:9109", param, ctx)
        return str(value)


AUTO = "auto"


class RangeOrAuto(click.IntRange):
    """A whole number in a range, or AUTO."""

    name = "integer range or auto"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Raises click.BadParameter for anything else."""
        return AUTO if value == AUTO else super().convert(value, param, ctx)


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of HOST:PORT.

    Raises:
        ValueError: it is no such thing.
    """
    host, _, port = address.rpartition(":")
    if not host or not 0 < int(port) < 65536:
        raise ValueError(address)
    return host.removeprefix("[").removesuffix("]"), int(port)


FOLDER = click.Path(file_okay=False, path_type=Path)
HOME = Path("moodsort-data")

CURRENT, SHIPPED = "current", "default"
"""What may be said for a model instead of its path; CURRENT is also the name of a link to it."""


def _setting(
    default: Any,
    kind: click.ParamType[Any],
    about: str,
    *,
    shown: str | None = None,
    key: str | None = None,
) -> Any:
    shown = shown or (str(default).lower() if isinstance(default, bool) else str(default))
    about = f"{about} Default: {shown}."
    return field(default=default, metadata={"kind": kind, "help": about, "key": key})


@dataclass(frozen=True)
class Settings:
    """All that the service can be told.

    The metadata of a field is its type, its help, and its key in a TOML file (`table.key`) where
    that is another than its name.
    """

    inbox: Path = _setting(HOME / "inbox", FOLDER, "Where images are dropped.")
    happy: Path = _setting(HOME / "happy", FOLDER, "Where happy images go.")
    sad: Path = _setting(HOME / "sad", FOLDER, "Where sad images go.")
    failed: Path = _setting(HOME / "failed", FOLDER, "Where files go that cannot be judged.")
    unsure: Path = _setting(
        HOME / "unsure", FOLDER, "Where images go that are less probable than unsure_below."
    )
    database: str = _setting(
        str(HOME / "moodsort.db"), click.STRING, "SQLite file or database URL."
    )
    model: str = _setting(
        CURRENT,
        click.STRING,
        "Model bundle: a folder, a .zip, default for the shipped one, or current for the one that "
        "`moodsort models` chose, which at first is the shipped one, too.",
    )
    models: Path = _setting(
        HOME / "models", FOLDER, "Where `moodsort models promote` keeps the models that it chose."
    )
    unsure_below: float = _setting(
        0.0,
        click.FloatRange(0, 1),
        "Images whose label is less probable than this are unsure; 0: none is.",
    )
    batch_size: int | Literal["auto"] = _setting(
        AUTO,
        RangeOrAuto(1, 1024),
        "Most images taken at once; auto: 64, and on GPUs as many as they judge fastest.",
    )
    max_wait_ms: int = _setting(
        20, click.IntRange(0, 10_000), "Longest wait for a batch to fill, in milliseconds."
    )
    decode_workers: int = _setting(
        os.cpu_count() or 1,
        click.IntRange(1, 256),
        "Processes that read images and, without a GPU, judge them.",
        shown="one for each core",
    )
    settle_seconds: float = _setting(
        2.0,
        click.FloatRange(0.1, 3600),
        "How long a file must stay unchanged where its writer's end is not seen.",
    )
    rescan_seconds: float = _setting(
        300.0, click.FloatRange(1, 86_400), "How often the whole inbox is looked through."
    )
    recursive: bool = _setting(True, click.BOOL, "Also take images in folders inside the inbox.")
    poll: bool = _setting(
        False, click.BOOL, "Look through the inbox instead of watching it (network shares)."
    )
    lease_seconds: float = _setting(
        30.0,
        click.FloatRange(1, 3600),
        "After so long without a sign of life others take over what a service has claimed; only "
        "with PostgreSQL.",
    )
    log_format: str = _setting(
        "text",
        click.Choice(["text", "json"]),
        "How the log is written: text (key=value) or json, one line an event.",
    )
    metrics_listen: str = _setting(
        "", Address(), "Serve metrics for Prometheus at HOST:PORT.", shown="nowhere"
    )
    faces: bool = _setting(
        True,
        click.BOOL,
        "Let the faces decide that are found; without, the whole image always does.",
        key="faces.enabled",
    )
    faces_min_size: int = _setting(
        16,
        click.IntRange(1, 10_000),
        "Smallest face that counts: its longer side, in pixels of the image.",
        key="faces.min_size",
    )
    faces_min_score: float = _setting(
        0.6,
        click.FloatRange(0, 1),
        "How sure it must be that a face that counts is one, 0 to 1.",
        key="faces.min_score",
    )
    faces_max_count: int = _setting(
        50,
        click.IntRange(1, 1000),
        "Most faces of an image that count; the largest do.",
        key="faces.max_count",
    )

    @property
    def folders(self) -> dict[str, Path]:
        """FOLDERS by name, as absolute paths without links."""
        return {name: Path(getattr(self, name)).resolve() for name in FOLDERS}

    @property
    def used_folders(self) -> dict[str, Path]:
        """The same without `unsure`, where nothing is: that may be anywhere."""
        folders = self.folders
        if not self.unsure_below:
            del folders["unsure"]
        return folders

    @property
    def bundle(self) -> str:
        """The model bundle that `model` stands for now, as `trainer.bundle.load` takes it."""
        if self.model != CURRENT:
            return self.model
        link = self.models / CURRENT
        return str(link.resolve()) if os.path.lexists(link) else SHIPPED

    @property
    def face_limits(self) -> FaceLimits:
        """Which faces count, as the trainer takes it."""
        from trainer.faces import FaceLimits

        return FaceLimits(
            enabled=self.faces,
            smallest=self.faces_min_size,
            score=self.faces_min_score,
            most=self.faces_max_count,
        )


NAMES = frozenset(f.name for f in fields(Settings))
FOLDERS = ("inbox", "happy", "sad", "failed", "unsure")
FIXED = (
    *("inbox", "database", "recursive", "poll", "lease_seconds", "log_format", "metrics_listen"),
)
"""The settings that stay as they are while the service runs."""

JUDGING = frozenset(
    {"model", "models", "faces", "faces_min_size", "faces_min_score", "faces_max_count"}
)
"""The settings that say how an image is judged."""

KEYS = {f.metadata["key"] or f.name: f.name for f in fields(Settings)}
"""The name of the setting that a key of a TOML file stands for."""

TABLES = frozenset(key.split(".")[0] for key in KEYS if "." in key)


NATIVE: dict[type[click.ParamType[Any]], tuple[type, ...]] = {
    type(FOLDER): (),
    type(click.STRING): (),
    type(click.BOOL): (bool,),
    Address: (),
    click.Choice: (),
    click.IntRange: (int,),
    RangeOrAuto: (int,),
    click.FloatRange: (int, float),
}
"""What a TOML file may say for a setting, besides text."""


def load(config: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any]) -> Settings:
    """Settings from a TOML file (or none), the environment and flags (None: not given).

    Relative paths in the file are taken from the file's folder.

    Raises:
        SettingsError: the file cannot be read, a key is unknown, or a value is bad.
    """
    values: dict[str, Any] = {}
    if config is not None:
        values |= _from_file(config)
    for name in (f.name for f in fields(Settings)):
        variable = PREFIX + name.upper()
        if environ.get(variable):
            values[name] = _parse(name, environ[variable], variable)
        if flags.get(name) is not None:
            values[name] = flags[name]
    settings = Settings(**values)
    try:
        _require_apart(settings)
    except (OSError, RuntimeError, ValueError) as error:
        raise SettingsError(f"A path in the settings cannot be followed: {error}.") from None
    return settings


def options(
    names: Collection[str] = NAMES,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that gives a click command --config and a flag for each of the settings."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for f in reversed(fields(Settings)):
            if f.name in names:
                command = _flag(f)(command)
        return config_option(command)

    return decorate


def _flag(f: Field[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    kind, name = f.metadata["kind"], f.name.replace("_", "-")
    flag = f"--{name}/--no-{name}" if kind is click.BOOL else f"--{name}"
    return click.option(flag, type=kind, default=None, help=f.metadata["help"])


config_option = click.option(
    "--config",
    envvar=CONFIG_VARIABLE,
    type=click.Path(path_type=Path),
    help="TOML file with any of the settings.",
)


def _from_file(config: Path) -> dict[str, Any]:
    try:
        with open(config, "rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise SettingsError(
            f"The configuration {config} cannot be read: {error.strerror}."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"The configuration {config} is no valid TOML: {error}.") from None
    values = {}
    for key, value in _flat(table).items():
        if key not in KEYS:
            raise SettingsError(
                f"{config}: unknown key {key!r}; known are {', '.join(sorted(KEYS))}."
            )
        name, where = KEYS[key], f"{key} in {config}"
        try:
            values[name] = _anchor(name, _parse(name, value, where), config.parent)
        except RuntimeError as error:  # of a home folder that is not known
            raise SettingsError(f"{where}: {error}") from None
    return values


def _flat(table: Mapping[str, Any]) -> dict[str, Any]:
    """With the keys of known tables as `table.key`."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        if name in TABLES and isinstance(value, dict):
            flat |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            flat[name] = value
    return flat


def _parse(name: str, value: Any, where: str) -> Any:
    kind = next(f.metadata["kind"] for f in fields(Settings) if f.name == name)
    is_flag = isinstance(value, bool) and kind is not click.BOOL
    if not isinstance(value, (str, *NATIVE[type(kind)])) or is_flag:
        raise SettingsError(f"{where}: {value!r} is not a valid {kind.name}.")
    try:
        converted = kind.convert(value, None, None)
        if isinstance(converted, float) and not math.isfinite(converted):
            raise ValueError(f"{value!r} is no number to reckon with")
        return converted
    except (click.BadParameter, TypeError, ValueError) as error:
        reason = error.format_message() if isinstance(error, click.BadParameter) else str(error)
        raise SettingsError(f"{where}: {reason.removeprefix('Invalid value: ')}") from None


def _anchor(name: str, value: Any, folder: Path) -> Any:
    """Relative paths of a file become absolute, or at least relative to its folder."""
    if isinstance(value, Path):
        return folder / value.expanduser()
    is_path = (name == "database" and "://" not in value) or (
        name == "model" and value not in (CURRENT, SHIPPED)
    )
    return str(folder / Path(value).expanduser()) if is_path else value


def _require_apart(settings: Settings) -> None:
    """Files must not go in circles: no folder twice, nothing that is written inside the inbox."""
    folders = settings.used_folders
    for one, other in combinations(folders, 2):
        if folders[one] == folders[other]:
            raise SettingsError(f"{one} and {other} are the same folder, {folders[one]}.")
    folders["models"] = settings.models.resolve()
    if "://" not in settings.database:
        folders["database"] = Path(settings.database).resolve()
    inbox = folders.pop("inbox")
    for name, path in folders.items():
        if path.is_relative_to(inbox):
            raise SettingsError(f"{name} ({path}) must not lie inside the inbox ({inbox}).")
        if name not in ("database", "models") and inbox.is_relative_to(path):
            raise SettingsError(f"The inbox ({inbox}) must not lie inside {name} ({path}).")
