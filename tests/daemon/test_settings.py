from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from daemon.cli import main
from daemon.errors import SettingsError
from daemon.loading import make_folders
from daemon.settings import Settings, load
from trainer.faces import FaceLimits

EXAMPLE = Path(__file__).parents[2] / "systemd" / "moodsort.toml"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "moodsort.toml"


def test_defaults() -> None:
    assert load(None, {}, {}) == Settings()


def test_precedence_is_flag_environment_file_default(config: Path) -> None:
    config.write_text("batch_size = 8\nmax_wait_ms = 8\nsettle_seconds = 8\n")
    environ = {"MOODSORT_BATCH_SIZE": "16", "MOODSORT_MAX_WAIT_MS": "16"}
    got = load(config, environ, {"batch_size": 32, "max_wait_ms": None})
    assert (got.batch_size, got.max_wait_ms, got.settle_seconds) == (32, 16, 8.0)
    assert got.rescan_seconds == Settings.rescan_seconds


def test_a_batch_is_as_large_as_is_said_or_found(config: Path) -> None:
    assert Settings().batch_size == "auto"
    config.write_text("batch_size = 8\n")
    assert load(config, {}, {"batch_size": "auto"}).batch_size == "auto"
    config.write_text('batch_size = "auto"\n')
    assert load(config, {}, {}).batch_size == "auto"
    assert load(config, {"MOODSORT_BATCH_SIZE": "16"}, {}).batch_size == 16


def test_relative_paths_are_taken_from_the_file(config: Path) -> None:
    config.write_text('inbox = "in"\ndatabase = "a.db"\nmodel = "bundles/mine"\nhappy = "/h"\n')
    got = load(config, {}, {})
    assert got.inbox == config.parent / "in"
    assert got.database == str(config.parent / "a.db")
    assert got.model == str(config.parent / "bundles/mine")
    assert got.happy == Path("/h")


def test_names_that_are_no_paths_stay(config: Path) -> None:
    config.write_text('database = "postgresql+psycopg://host/db"\nmodel = "default"\n')
    got = load(config, {}, {})
    assert (got.database, got.model) == ("postgresql+psycopg://host/db", "default")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("batchsize = 3", "unknown key 'batchsize'"),
        ("batch_size = 'many'", "batch_size in .*'many' is not a valid int"),
        ("unsure_below = 1.5", "unsure_below in .*1.5 is not in the range 0<=x<=1"),
        ("batch_size = 0", "batch_size in .*0 is not in the range"),
        ("batch_size = true", "batch_size in .*True is not a valid"),
        ("batch_size = [3]", "batch_size in "),
        ("inbox = 3", "inbox in "),
        ("recursive = 3", "recursive in "),
        ("inbox = ", "no valid TOML"),
        ("batch_size = 1.7", "batch_size in .*1.7 is not a valid"),
        ("batch_size = inf", "batch_size in "),
        ("settle_seconds = nan", "settle_seconds in .*nan is no number"),
        ('inbox = "~nosuchuser/x"', "inbox in "),
        ('inbox = "a\\u0000b"', "inbox in .*null byte"),
        ("[faces]\nmin_size = 'many'", r"faces\.min_size in .*'many' is not a valid int"),
        ("[faces]\nmin_score = 2", r"faces\.min_score in .*2.0 is not in the range"),
        ("[faces]\nenabled = 3", r"faces\.enabled in .*3 is not a valid bool"),
        ("[faces]\nsize = 3", r"unknown key 'faces\.size'; known are .*faces\.min_size"),
        ("faces = true", r"unknown key 'faces'; known are .*faces\.enabled"),
        ("faces_min_size = 3", "unknown key 'faces_min_size'"),
        ("[inbox]\npath = 3", "inbox in "),
        ("[other]", "unknown key 'other'"),
    ],
)
def test_a_bad_file_is_a_sentence_that_names_the_key(
    config: Path, text: str, sentence: str
) -> None:
    config.write_text(text)
    with pytest.raises(SettingsError, match=sentence) as caught:
        load(config, {}, {})
    assert str(config) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_faces_have_a_table_of_their_own(config: Path) -> None:
    config.write_text("batch_size = 8\n[faces]\nenabled = false\nmin_size = 30\nmax_count = 5\n")
    environ = {"MOODSORT_FACES": "yes", "MOODSORT_FACES_MIN_SIZE": "40"}
    assert load(config, {}, {}).face_limits == FaceLimits(False, smallest=30, most=5)
    got = load(config, environ, {"faces_min_size": 50, "faces_min_score": 0.9})
    assert got.face_limits == FaceLimits(True, smallest=50, score=0.9, most=5)
    assert load(None, {}, {}).face_limits == FaceLimits()


def test_a_bad_variable_is_named() -> None:
    with pytest.raises(SettingsError, match="MOODSORT_POLL: 'perhaps' is not a valid boolean"):
        load(None, {"MOODSORT_POLL": "perhaps"}, {})


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert load(None, {"MOODSORT_INBOX": "", "MOODSORT_POLL": ""}, {}) == Settings()


def test_links_in_a_circle_are_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(SettingsError, match="cannot be followed"):
        load(None, {}, {"inbox": tmp_path / "loop"})


def test_a_folder_that_is_another_by_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "inbox" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "inbox" / "sub")
    paths = {"inbox": tmp_path / "inbox", "happy": tmp_path / "link"}
    with pytest.raises(SettingsError, match=r"happy .* must not lie inside the inbox"):
        load(None, {}, paths)
    with pytest.raises(SettingsError, match="happy and sad are the same folder"):
        load(None, {}, {"happy": tmp_path / "link", "sad": tmp_path / "inbox" / "sub"})


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load(tmp_path / "none.toml", {}, {})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sad": "happy"}, "happy and sad are the same folder"),
        ({"failed": "inbox/failed"}, "failed .* must not lie inside the inbox"),
        ({"database": "inbox/moodsort.db"}, "database .* must not lie inside the inbox"),
        ({"inbox": "happy/inbox"}, "The inbox .* must not lie inside happy"),
        ({"unsure": "inbox/unsure"}, "unsure .* must not lie inside the inbox"),
        ({"unsure": "sad"}, "sad and unsure are the same folder"),
    ],
)
def test_folders_that_would_go_in_circles_are_refused(
    tmp_path: Path, changes: dict[str, str], sentence: str
) -> None:
    names = {name: name for name in ("inbox", "happy", "sad", "failed")} | changes
    paths = {k: str(tmp_path / v) if k == "database" else tmp_path / v for k, v in names.items()}
    with pytest.raises(SettingsError, match=sentence):
        load(None, {}, paths | {"unsure_below": 0.6})


def test_the_folder_unsure_is_only_looked_at_where_it_is_used(tmp_path: Path) -> None:
    paths = {name: tmp_path / name for name in ("inbox", "happy", "sad", "failed")}
    settings = load(None, {}, paths | {"unsure": tmp_path / "sad"})
    make_folders(settings)
    settings = replace(settings, unsure=tmp_path / "unsure")
    assert make_folders(settings).unsure == tmp_path / "unsure"
    assert {folder.name for folder in tmp_path.iterdir()} == set(paths)
    make_folders(replace(settings, unsure_below=0.6))
    assert (tmp_path / "unsure").is_dir()


def test_the_example_file_explains_every_key_and_has_the_defaults(tmp_path: Path) -> None:
    copy = tmp_path / "moodsort.toml"
    copy.write_text(EXAMPLE.read_text())
    got = load(copy, {}, {})
    for f in fields(Settings):
        key = (f.metadata["key"] or f.name).removeprefix("faces.")
        assert f"\n{key} =" in EXAMPLE.read_text().replace("# decode", "decode")
        value = getattr(got, f.name)
        relative = str(value).removeprefix(f"{tmp_path}/")
        assert relative == str(getattr(Settings, f.name)), f.name


@pytest.mark.parametrize("command", ["run", "sort"])
def test_every_setting_is_a_flag(command: str) -> None:
    flags = {f"--{f.name.replace('_', '-')}" for f in fields(Settings)}
    assert flags_of(command) & flags == (
        flags if command == "run" else flags - {"--inbox", "--metrics-listen"}
    )


def test_classify_takes_the_settings_that_say_how_an_image_is_judged() -> None:
    faces = {"--faces", "--no-faces", "--faces-min-size", "--faces-min-score", "--faces-max-count"}
    models = {"--model", "--models"}
    assert flags_of("classify") == {"--config", "--json", "--help"} | models | faces


def flags_of(command: str) -> set[str]:
    shown = CliRunner().invoke(main, [command, "--help"]).output
    lines = [line for line in shown.splitlines() if line.startswith("  -")]
    return {flag for line in lines for flag in re.findall(r"(--[a-z-]+)\b", line[:40])}


def test_a_bad_flag_is_one_line() -> None:
    result = CliRunner().invoke(main, ["run", "--batch-size", "0"])
    assert result.exit_code == 2
    assert "Invalid value for '--batch-size'" in result.stderr


def test_a_bad_key_is_one_line_at_the_command(config: Path) -> None:
    config.write_text("bach_size = 3")
    result = CliRunner().invoke(main, ["run", "--config", str(config)])
    assert result.exit_code == 78
    assert result.stderr.startswith(f"Error: {config}: unknown key 'bach_size'")
    assert result.stderr.count("\n") == 1
