from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from daemon.cli import main
from daemon.loading import make_folders
from daemon.status import examine
from tests.daemon.filed import filed
from tests.daemon.test_correcting import correct
from tests.db.filled import judge
from tests.faces import draw_folder
from tests.helpers import MOODSORT, Place, Service, jpeg, json_lines, moodsort, wait_until
from trainer.bundle import inspect

SHIPPED = Path(__file__).parents[2] / "trainer" / "pretrained"
SHIPPED_HASH = inspect(str(SHIPPED))[1]


def bundle(root: Path, folder_name: str, **about: Any) -> Path:
    """The shipped one by another name; `about`: what else it says of itself."""
    folder = shutil.copytree(SHIPPED, root / folder_name)
    info = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(info | {"name": folder_name} | about))
    return folder


def held_out(right_before: int, right_after: int, before: str = SHIPPED_HASH) -> dict[str, Any]:
    counts = {"images": 20, "right_before": right_before, "right_after": right_after}
    record = {"before": before, "all": counts}
    return {"metrics": {"held_out": record}}


def models(place: Place, *args: str | Path) -> Result:
    where = ("--models", place.root / "models", "--inbox", place.inbox)
    return CliRunner().invoke(main, ["models", *map(str, (*args, *where))])


def in_use(place: Place) -> str:
    return inspect(place.settings().bundle)[0].name


def test_at_first_the_shipped_model_is_used(place: Place) -> None:
    assert place.settings().bundle == "default"
    refused = models(place, "rollback")
    assert refused.exit_code == 1
    assert "No model was promoted yet" in refused.stderr


def test_what_is_not_worse_by_its_own_record_is_used(place: Place, tmp_path: Path) -> None:
    good = bundle(tmp_path, "good", **held_out(15, 15))
    done = models(place, "promote", good, "--json")
    assert done.exit_code == 0, done.output
    [told] = json_lines(done.stdout)
    assert (told["name"], told["before_sha256"]) == ("good", SHIPPED_HASH)
    assert told["compared"] == {"images": 20, "right_before": 15, "right_after": 15}
    assert "its next start uses it" in told["service"]
    shutil.rmtree(good)
    assert in_use(place) == "good"
    assert not [p.name for p in (place.root / "models").iterdir() if p.name.startswith(".")]


def test_what_is_worse_is_refused_unless_forced(place: Place, tmp_path: Path) -> None:
    worse = bundle(tmp_path, "worse", **held_out(15, 14))
    refused = models(place, "promote", worse)
    assert refused.exit_code == 1
    assert "right in 14 of 20 held out images, the model in use in 15" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert place.settings().bundle == "default"
    assert models(place, "promote", worse, "--force").exit_code == 0
    assert in_use(place) == "worse"


def test_a_record_about_another_model_says_nothing(place: Place, tmp_path: Path) -> None:
    stranger = bundle(tmp_path, "stranger", **held_out(1, 20, before="f" * 64))
    for model in (stranger, bundle(tmp_path, "silent")):
        refused = models(place, "promote", model)
        assert refused.exit_code == 1
        assert "Let both judge a data set with --on DATA" in refused.stderr


def test_both_are_judged_on_a_data_set(place: Place, tmp_path: Path) -> None:
    draw_folder(tmp_path / "faces", 5, seed=9)
    info = json.loads((SHIPPED / "bundle.json").read_text())
    stubborn = bundle(tmp_path, "stubborn", threshold=0.999999)  # Hardly anything is sad to it.
    refused = models(place, "promote", stubborn, "--on", tmp_path / "faces")
    assert "stubborn is worse: right in 5 of 10" in refused.stderr
    same = bundle(tmp_path, "same", threshold=info["threshold"])
    done = models(place, "promote", same, "--on", tmp_path / "faces")
    assert done.exit_code == 0, done.output
    assert "same: right in 10 of 10 held out images, the model in use in 10." in done.stdout


def test_back_and_forth(place: Place, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert models(place, "promote", bundle(tmp_path, name), "--force").exit_code == 0
    assert in_use(place) == "two"
    back = models(place, "rollback")
    assert back.exit_code == 0, back.output
    assert "one is used instead of two." in back.stdout
    assert in_use(place) == "one"
    models(place, "rollback")
    assert in_use(place) == "two"


def test_back_to_the_shipped_one(place: Place, tmp_path: Path) -> None:
    models(place, "promote", bundle(tmp_path, "one"), "--force")
    assert models(place, "rollback").exit_code == 0
    assert inspect(place.settings().bundle)[1] == SHIPPED_HASH


def test_what_is_no_bundle_or_used_already_is_refused(place: Place, tmp_path: Path) -> None:
    damaged = bundle(tmp_path, "damaged")
    (damaged / "faces.tflite").write_bytes(b"")
    for model, sentence in (
        (str(tmp_path / "none"), "There is no model bundle"),
        (str(damaged), "is damaged or was changed"),
        ("default", "is the model in use already"),
    ):
        refused = models(place, "promote", model, "--force")
        assert refused.exit_code == 1
        assert sentence in refused.stderr
    assert place.settings().bundle == "default"


def test_a_model_that_the_settings_name_is_not_changed(place: Place, tmp_path: Path) -> None:
    mine = bundle(tmp_path, "mine")
    refused = models(place, "promote", mine, "--force", "--model", "default")
    assert refused.exit_code == 1
    assert 'Let them say model = "current"' in refused.stderr


def test_a_name_that_is_a_path_leads_nowhere(place: Place, tmp_path: Path) -> None:
    models(place, "promote", bundle(tmp_path, "mine", name="../../evil"), "--force")
    kept = Path(place.settings().bundle)
    assert kept.parent == place.root / "models"
    assert kept.name.startswith("______evil-")


@pytest.fixture
def service(place: Place, tmp_path: Path) -> Iterator[Service]:
    config = tmp_path / "moodsort.toml"
    config.write_text("batch_size = 8\n")
    folder = str(place.root / "models")
    with Service(place, "--config", str(config), MOODSORT_MODELS=folder) as one:
        yield one.wait_until_ready()


def test_the_service_takes_it_at_once(service: Service, tmp_path: Path) -> None:
    place = service.place
    told = models(place, "promote", bundle(tmp_path, "mine"), "--force")
    assert "mine is used instead of" in told.stdout
    assert told.stdout.endswith(" The service uses it now.\n")
    (place.inbox / "a.jpg").write_bytes(jpeg())
    service.wait_drained(1)
    [model] = [m for m in place.rows("models") if m["id"] == place.row("a.jpg")["model_id"]]
    assert model["name"] == "mine"
    assert "The service uses it now." in models(place, "rollback").stdout
    assert service.stop() == 0


def test_what_the_service_cannot_take_is_taken_back(service: Service, tmp_path: Path) -> None:
    place = service.place
    (tmp_path / "moodsort.toml").write_text("bach_size = 3\n")
    refused = models(place, "promote", bundle(tmp_path, "mine"), "--force")
    assert refused.exit_code == 1
    assert "The service does not take it: not reloaded" in refused.stderr
    assert inspect(place.settings().bundle)[1] == SHIPPED_HASH
    assert service.stop() == 0


def test_one_on_a_terminal_would_end_and_is_left_alone(place: Place, tmp_path: Path) -> None:
    make_folders(place.settings())
    master, terminal = os.openpty()
    command = [MOODSORT, "run", "--inbox", place.inbox, *place.destinations()]
    try:
        with subprocess.Popen(command, stdout=terminal, stderr=subprocess.DEVNULL) as running:
            wait_until(lambda: examine(place.inbox)[0].healthy, "it works")
            told = models(place, "promote", bundle(tmp_path, "mine"), "--force")
            assert "it uses it when it is started again" in told.stdout
            assert running.poll() is None
            running.terminate()
            assert running.wait() == 0
    finally:
        os.close(master)
        os.close(terminal)


def test_what_was_used_is_listed_with_what_people_say(place: Place) -> None:
    make_folders(place.settings())
    judge(place, "a.jpg", 0.9, model="m")
    judge(place, "b.jpg", 0.9, model="n")
    database = ("--database", str(place.database))
    asked = ["models", *database]
    shown = CliRunner().invoke(main, asked).stdout
    assert "which has decided nothing yet" in shown
    path = filed(place, "happy", "a-second.jpg", jpeg("sad", 1))
    options = ("--inbox", place.inbox, *place.destinations(), "--apply")
    assert moodsort("resort", *options, "--path", "*second*").returncode == 0
    correct(place, "happy", place.sad / path.name)
    rows = json_lines(CliRunner().invoke(main, [*asked, "--json"]).stdout)
    told = [(r["name"], r["images"], r["corrected"], r["agreement"], r["in_use"]) for r in rows]
    assert told == [
        ("m", 1, 0, None, False),
        ("n", 1, 0, None, False),
        ("shipped5", 1, 1, 0.0, True),
    ]
    assert set(rows[-1]["metrics"]) == {"validation", "test"}
    shown = CliRunner().invoke(main, asked).stdout.splitlines()
    assert shown[-1].startswith("*")
    accuracy = rows[-1]["metrics"]["test"]["accuracy"]
    assert shown[-1].split()[-3:] == ["1", "0.0%", f"{accuracy:.1%}"]
