"""`moodsort browse`: the database in Datasette, over HTTP."""

from __future__ import annotations

import html
import io
import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from PIL import Image as Picture

from daemon.cli import main
from daemon.service import make_folders
from db.engine import open_for_writing
from db.glossary import RESULTS
from db.questions import QUESTIONS
from db.schema import Face, Image
from tests.daemon.filed import filed
from tests.daemon.looking import Answer, Pages
from tests.db.filled import fail
from tests.helpers import Place, jpeg

pytest.importorskip("datasette", reason="datasette is not installed")

ODD = "<script>alert('&')<\\script>.jpg"


class Browse(Pages):
    """Of a place; ready when it is made."""

    COMMAND, READY = "browse", "Browse it at "

    def rows(self, path: str, **asked: str) -> list[dict[str, Any]]:
        answer = self.ask(f"{path}.json?{urlencode({'_shape': 'array', **asked})}")
        assert answer.status == 200, answer.text
        found: list[dict[str, Any]] = json.loads(answer.text)
        return found


SURE, PERHAPS, STRANGE, BAD = 1, 2, 3, 4


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """In a folder whose name means something in an address."""
    place = Place(tmp_path_factory.mktemp("place") / "50%20?mode=rwc#")
    make_folders(place.settings())
    filed(place, "happy", "surely.jpg", p_sad=0.1)
    filed(place, "sad", "perhaps.jpg", p_sad=0.6)
    filed(place, "happy", ODD, p_sad=0.2)
    fail(place, "bad.jpg")
    face = {"x": 1, "y": 2, "width": 9, "height": 9, "score": 0.9, "p_sad": 0.6}
    place.change(
        sa.insert(Face).values(image_id=PERHAPS, **face),
        sa.update(Image).where(Image.id == SURE).values(corrected_label="sad"),
    )
    return place


@pytest.fixture(scope="module")
def browse(place: Place) -> Iterator[Browse]:
    with Browse(place) as one:
        yield one
        status, said = one.stop()
    assert status == 0
    assert "Traceback" not in said


def thumbnails(page: Answer) -> list[int]:
    return [int(id) for id in re.findall(r'<img src="/-/moodsort/thumbnail/(\d+)"', page.text)]


def test_it_says_what_is_there(browse: Browse) -> None:
    page = browse.ask("/moodsort")
    assert browse.address == f"http://127.0.0.1:{browse.port}/moodsort"
    assert re.findall(r'<h3><a href="/moodsort/(\w+)"', page.text) == ["faces", "models"]
    for name, question in QUESTIONS.items():
        assert f'<a href="/moodsort/{name}" title=' in page.text
        assert question.title in page.text


def test_all_rows_with_the_meanings_of_their_columns(browse: Browse) -> None:
    page = browse.ask("/moodsort/results")
    assert page.status == 200
    told = re.findall(r"<dt>(\w+)</dt><dd>([^<]+)</dd>", page.text)
    assert {name: html.unescape(meaning) for name, meaning in told} == RESULTS
    rows = browse.rows("/moodsort/results")
    assert [row["id"] for row in rows] == [BAD, STRANGE, PERHAPS, SURE]
    assert tuple(rows[0]) == tuple(RESULTS)
    assert [row["id"] for row in browse.rows("/moodsort/results", label="sad")] == [PERHAPS]


def test_images_are_shown_where_rows_tell_of_them(browse: Browse, place: Place) -> None:
    assert thumbnails(browse.ask("/moodsort/results")) == [STRANGE, PERHAPS, SURE]
    assert thumbnails(browse.ask("/moodsort/least_certain")) == [PERHAPS, STRANGE]
    assert thumbnails(browse.ask("/moodsort/corrected")) == [SURE]
    assert thumbnails(browse.ask("/moodsort/faces")) == [PERHAPS]
    assert sorted(thumbnails(browse.ask("/moodsort/decisions"))) == [SURE, PERHAPS, STRANGE]
    page = browse.ask("/moodsort/results")
    assert f"{place.sad}/perhaps.jpg" in html.unescape(page.text)
    assert "<script>alert" not in page.text
    own = urlencode({"sql": f"select {SURE} as id, '/etc/passwd' as destination_path"})
    assert thumbnails(browse.ask(f"/moodsort?{own}")) == [SURE]
    for kind in ("thumbnail", "picture"):
        answer = browse.ask(f"/-/moodsort/{kind}/{PERHAPS}")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "image/jpeg")
        image = Picture.open(io.BytesIO(answer.data))
        assert (image.format, image.size) == ("JPEG", (96, 96))
        assert answer.data != jpeg("sad", len("perhaps.jpg"))


def test_what_is_ready_can_be_asked(browse: Browse) -> None:
    for name in QUESTIONS:
        assert browse.ask(f"/moodsort/{name}").status == 200
    answers = {name: browse.rows(f"/moodsort/{name}") for name in QUESTIONS}
    assert [row["id"] for row in answers["least_certain"]] == [PERHAPS, STRANGE]
    [wrong] = answers["corrected"]
    assert (wrong["id"], wrong["label"], wrong["corrected_label"]) == (SURE, "happy", "sad")
    assert [(row["label"], row["images"]) for row in answers["by_day"]] == [
        ("happy", 2),
        ("sad", 1),
    ]
    [failed] = answers["errors_by_day"]
    assert (failed["error_code"], failed["files"]) == ("empty", 1)
    assert answers["repeated"] == []
    assert [(row["checked"], row["agreement"]) for row in answers["agreement"]] == [(1, 0)]


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/-/moodsort/thumbnail/999", 404, "There is no image 999.\n"),
        (f"/-/moodsort/thumbnail/{BAD}", 404, "Only images that are filed have a picture.\n"),
        ("/-/moodsort/thumbnail/99999999999999999999", 404, ""),
        ("/-/moodsort/thumbnail/../../../etc/passwd", 404, ""),
        ("/moodsort/none", 404, ""),
        ("/moodsort?sql=delete+from+images", 400, ""),
        ("/moodsort?sql=select+nonsense", 400, ""),
    ],
)
def test_what_cannot_be_is_said(browse: Browse, path: str, status: int, sentence: str) -> None:
    answer = browse.ask(path)
    assert answer.status == status
    assert answer.text.startswith(sentence)


def test_as_many_rows_as_a_page_has_come_as_csv(browse: Browse) -> None:
    answer = browse.ask("/moodsort/results.csv?_size=max")
    assert [line.split(",")[0] for line in answer.text.splitlines()] == ["id", "4", "3", "2", "1"]
    assert browse.ask("/moodsort/results.csv?_stream=on").status == 400


def test_other_sites_get_nothing(browse: Browse) -> None:
    for host in ("evil.example", "localhost.evil.example:80", "", "[::1"):
        answer = browse.ask("/moodsort/results.json", Host=host)
        assert answer.status in (400, 403), host
        assert b"perhaps" not in answer.data
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:1"):
        answer = browse.ask("/moodsort/results.json", Host=host, Origin="http://evil.example")
        assert answer.status == 200
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


def test_what_is_written_meanwhile_is_seen(tmp_path: Path) -> None:
    place = Place(tmp_path / "fresh")
    make_folders(place.settings())
    open_for_writing(str(place.database)).dispose()
    with Browse(place) as browse:
        assert browse.rows("/moodsort/results") == []
        filed(place, "sad")
        assert [row["id"] for row in browse.rows("/moodsort/results")] == [1]
        assert browse.stop(signal.SIGINT) == (0, "")


def test_what_cannot_be_served_is_one_line(place: Place, tmp_path: Path) -> None:
    def run(*options: str | Path) -> Result:
        command = ["browse", "--cache", tmp_path / "cache", *options]
        return CliRunner().invoke(main, [str(word) for word in command])

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        busy = run("--listen", address, "--database", place.database)
    assert (busy.exit_code, busy.stderr) == (
        1,
        f"Error: Nothing can listen at {address}: Address already in use. "
        "Choose another port with --listen.\n",
    )
    for options, status, sentence in (
        (("--listen", "0.0.0.0:8266"), os.EX_CONFIG, "Error: Only this machine may browse "),
        (("--database", "postgresql+psycopg://u:secret@h/d"), os.EX_CONFIG, "SQLite files only"),
        (("--database", tmp_path / "none.db"), 1, "Error: There is no database "),
    ):
        done = run(*options)
        assert done.exit_code == status
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1
        assert "secret" not in done.stderr
