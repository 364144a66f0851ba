"""`moodsort report`: a page about the decisions of a period."""

from __future__ import annotations

import base64
import html
import io
import os
import re
import stat
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from PIL import Image as Picture

from daemon.cli import main
from daemon.service import make_folders
from db.engine import open_for_writing
from db.schema import Image
from tests.daemon.filed import filed
from tests.db.filled import fail, judge
from tests.helpers import Place, moodsort

ODD = "<img src=x onerror=alert(1)>&\"'.jpg"


def report(place: Place, file: Path, *options: str) -> Result:
    command = ["report", str(file), "--inbox", str(place.inbox), *options]
    return CliRunner().invoke(main, [*command, *map(str, place.destinations())])


def page_of(place: Place, *options: str) -> str:
    file = place.root / "page.html"
    done = report(place, file, *options)
    assert (done.exit_code, done.output) == (0, f"A report in {file}\n")
    text = file.read_text()
    file.unlink()
    return text


def said(page: str) -> str:
    """What is to be read on it."""
    return re.sub(r"\s+", " ", html.unescape(re.sub("<[^>]+>", " ", page.split("</head>")[1])))


class Tags(HTMLParser):
    """Those of a page, each with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def pictures(page: str, kind: str) -> list[bytes]:
    found = re.findall(rf'src="data:image/{kind};base64,([^"]+)"', page)
    return [base64.b64decode(data) for data in found]


def put_back(place: Place, id: int, days: float) -> None:
    """As if an image had come so many days ago."""
    then = datetime.now(UTC) - timedelta(days=days)
    about = {"claimed_at": then, "decided_at": then, "filed_at": then}
    place.change(sa.update(Image).where(Image.id == id).values(about))


def fill(place: Place) -> None:
    make_folders(place.settings())
    filed(place, "happy", "surely.jpg", p_sad=0.0)
    filed(place, "sad", "perhaps.jpg", p_sad=0.6)
    filed(place, "unsure", "hardly.jpg", p_sad=0.51)
    fail(place, "bad.jpg")
    fail(place, "worse.jpg", "truncated")


def test_it_tells_how_many_how_sure_and_what_failed(either_place: Place) -> None:
    fill(either_place)
    page = page_of(either_place)
    text = said(page)
    assert " images 5 happy 1 sad 1 unsure 1 failed 2 share of happy 50.0% " in text
    assert re.search(r"empty 1 .*truncated 1 The newest worse.jpg truncated: .*bad.jpg", text)
    assert 'alt="Images by probability: 33% have 95 % or more"' in page
    assert re.search(r'alt="Images over time: most came in \d{4}-\d\d-\d\d \d\d:00, \d"', page)
    charts = pictures(page, r"svg\+xml")
    assert [data[:5] for data in charts] == [b"<?xml"] * 2
    least, most = (text.split(title)[1] for title in ("The least certain", "The most certain"))
    order = ["hardly.jpg", "perhaps.jpg", "surely.jpg"]
    assert re.findall(r"\w+\.jpg", least)[:3] == order
    assert re.findall(r"\w+\.jpg", most)[:3] == order[::-1]
    shown = [Picture.open(io.BytesIO(data)) for data in pictures(page, "jpeg")]
    assert [(one.format, max(one.size) <= 160) for one in shown] == [("JPEG", True)] * 6


def test_the_page_needs_nothing_else_and_names_do_nothing_in_it(place: Place) -> None:
    make_folders(place.settings())
    filed(place, "sad", ODD)
    fail(place, ODD)
    page = page_of(place)
    assert "default-src 'none'" in page
    assert "://" not in page
    tags = Tags(page)
    assert {name for name, _ in tags.found} == {
        *("html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "ul", "li"),
        *("br", "img", "table", "tr", "td", "th", "code"),
    }
    sources = [value for _, attributes in tags.found if (value := attributes.get("src"))]
    assert len(sources) == 4
    assert all(value.startswith("data:image/") for value in sources)
    names = {name for _, attributes in tags.found for name in attributes}
    assert names == {"lang", "charset", "http-equiv", "content", "class", "alt", "src"}
    assert said(page).count(ODD) == 3  # least and most certain, and failed


def test_of_a_period_only_what_came_in_it(place: Place) -> None:
    for id, (name, days) in enumerate([("old", 400), ("middle", 100), ("new", 1)], start=1):
        judge(place, f"{name}.jpg", 0.9)
        put_back(place, id, days)
    for options, names in (
        ((), {"old", "middle", "new"}),
        (("--since", "7d"), {"new"}),
        (("--since", "200d", "--until", "7d"), {"middle"}),
    ):
        text = said(page_of(place, *options))
        assert f" images {len(names)} " in text
        assert set(re.findall(r"(\w+)\.jpg", text)) == names
    titled = said(page_of(place, "--since", "2026-01-31T18:00", "--until", "2026-02-01"))
    heading = "What moodsort decided since 2026-01-31 18:00:00 until 2026-02-01 00:00:00"
    assert titled.strip() == f"{heading} images 0 failed 0"


@pytest.mark.parametrize(
    ("days", "form"), [(2, r"\d{4}-\d\d-\d\d \d\d:00"), (90, r"\d{4}-\d\d-\d\d"), (900, r"\S+-01")]
)
def test_a_long_time_is_counted_in_larger_parts(place: Place, days: int, form: str) -> None:
    first, _ = judge(place, "a.jpg", 0.9), judge(place, "b.jpg", 0.9)
    put_back(place, first, days)
    assert re.search(f'most came in {form}, 1"', page_of(place))


def test_no_more_is_shown_of_many(place: Place) -> None:
    for n in range(30):
        judge(place, f"{n:02}.jpg", 0.5 + n / 100)
    text = said(page_of(place))
    least = text.split("The least certain")[1].split("The most certain")[0]
    assert re.findall(r"\d\d(?=\.jpg)", least) == [f"{n:02}" for n in range(12)]
    assert "lies in none of the folders of the settings" in least


def test_before_anything_is_decided(place: Place) -> None:
    open_for_writing(str(place.database)).dispose()
    assert said(page_of(place)) == " What moodsort decided images 0 failed 0 "


def test_nothing_is_replaced_and_nothing_is_left_half_done(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    for options, status, sentence in (
        (("--since", "1d", "--until", "2d"), 2, "--since must be earlier than --until."),
        (("--since", "someday"), 2, "'someday' is no time like 2026-01-31T18:00"),
        ((), 1, f"There is no database {place.database}."),
    ):
        done = report(place, file, *options)
        assert done.exit_code == status
        assert sentence in done.stderr
    judge(place, "a.jpg", 0.9)
    file.write_text("mine")
    done = report(place, file)
    assert done.exit_code == 1
    assert done.stderr == f"Error: {file} exists already, and is not replaced. Name another file.\n"
    assert file.read_text() == "mine"
    absent = report(place, tmp_path / "none" / "page.html")
    assert absent.exit_code == 1
    assert absent.stderr.endswith(": No such file or directory.\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "place"]


def test_as_a_command(place: Place, tmp_path: Path) -> None:
    fill(place)
    command = ["report", "week.html", "--since", "7d", "--inbox", place.inbox]
    done = moodsort(*command, *place.destinations(), cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "A report in week.html\n", "")
    mode = stat.S_IMODE((tmp_path / "week.html").stat().st_mode)
    assert mode & stat.S_IRUSR
    assert os.listdir(tmp_path / "place" / "inbox") == []
