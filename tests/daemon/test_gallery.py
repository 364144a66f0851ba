"""The gallery, over HTTP."""

from __future__ import annotations

import html
import io
import os
import re
import signal
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image

from daemon import pictures
from daemon.cache import Cache
from daemon.pictures import NoPicture, Pictures
from daemon.pipeline import Folders
from daemon.service import make_folders
from db.engine import open_for_writing
from db.ledger import Decision, Ledger, Source
from tests.daemon.disturbed import frail_pictures
from tests.daemon.filed import filed
from tests.daemon.looking import Gallery, ids
from tests.helpers import Place, encoded, jpeg, moodsort, sha256

ODD = "<script>alert('&')<\\script>.jpg"


def fail_many(place: Place, count: int) -> None:
    """So many rows of files that could not be judged."""
    ledger = Ledger(open_for_writing(str(place.database)))
    made = ledger.claim([Source(place.inbox / f"bad-{n}.jpg", 1, 0) for n in range(count)])
    ledger.decide(
        [
            Decision(id, place.failed / f"bad-{id}.jpg", 1, 0, "c" * 64, **why)
            for id in made
            if id and (why := {"error_code": "truncated", "error_detail": "It ends <b>early."})
        ]
    )
    ledger.finish([id for id in made if id])
    ledger.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """130 bad files; then a happy, a sad and an unsure image, and one with an odd name."""
    place = Place(tmp_path_factory.mktemp("place"))
    make_folders(place.settings())
    fail_many(place, 130)
    filed(place, "happy", "surely.jpg", p_sad=0.1)
    filed(place, "sad", "perhaps.jpg", p_sad=0.6)
    filed(place, "unsure", "2024/hardly.png", encoded(Image.new("RGBA", (900, 30)), "PNG"))
    filed(place, "happy", ODD, p_sad=0.2)
    return place


@pytest.fixture(scope="module")
def gallery(place: Place) -> Iterator[Gallery]:
    with Gallery(place) as one:
        yield one
        assert one.stop() == (0, "")


SURE, PERHAPS, HARDLY, STRANGE = 131, 132, 133, 134


def test_the_newest_come_first_with_what_was_decided(gallery: Gallery) -> None:
    page = gallery.ask("/")
    assert page.status == 200
    assert ids(page)[:5] == [STRANGE, HARDLY, PERHAPS, SURE, 130]
    said = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", page.text))
    assert " 2 happy 1 sad 1 unsure 130 failed 0 checked " in said
    assert " sad 60.0 % perhaps.jpg " in said
    assert "truncated It ends &lt;b&gt;early. bad-130.jpg" in said


def test_the_pages_are_walked_to_the_end_and_back(gallery: Gallery) -> None:
    def follow(path: str, direction: str) -> list[list[int]]:
        page = gallery.ask(path)
        link = re.search(f'rel="{direction}" href="([^"]+)"', page.text)
        more = follow(html.unescape(link[1]), direction) if link else []
        return [ids(page), *more]

    there = follow("/", "next")
    assert [id for page in there for id in page] == list(range(134, 0, -1))
    assert [len(page) for page in there] == [60, 60, 14]
    assert follow(f"/?after={there[1][-1]}", "prev") == there[::-1]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("show=sad", [PERHAPS]),
        ("show=unsure", [HARDLY]),
        ("show=failed&order=least-certain", list(range(130, 70, -1))),
        ("order=least-certain", [HARDLY, PERHAPS, STRANGE, SURE]),
        ("order=most-certain&checked=no", [SURE, STRANGE, PERHAPS, HARDLY]),
        ("order=least-certain&probability=0.7", [HARDLY, PERHAPS]),
        ("checked=yes", []),
        ("name=2024/*", [HARDLY]),
        ("until=2020-01-01", []),
        ("since=2020-01-01&order=oldest", list(range(1, 61))),
    ],
)
def test_filters(gallery: Gallery, asked: str, found: list[int]) -> None:
    page = gallery.ask(f"/?{asked}")
    assert (page.status, ids(page)) == (200, found)
    assert found or "Nothing like that" in page.text


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/?show=cats", 400, "show cannot be 'cats'."),
        ("/?order=random", 400, "order cannot be 'random'."),
        ("/?since=yesterday", 400, "since is no day like 2026-01-31: 'yesterday'."),
        ("/?until=9999-12-31", 400, "until is no day like 2026-01-31: '9999-12-31'."),
        ("/?probability=nan", 400, "probability is no number from 0 to 1: 'nan'."),
        ("/?after=-1", 400, "after is no number of a row: '-1'."),
        ("/?before=99999999999999999999", 400, "before is no number of a row: "),
        ("/images/999", 404, "There is no image 999."),
        ("/images/99999999999999999999", 404, "There is no image 99999999999999999999."),
        ("/images/1/thumbnail", 404, "Only images that are filed have a picture."),
        ("/images/1/..%2f..%2f..%2fetc%2fpasswd", 404, ""),
    ],
)
def test_what_cannot_be_is_a_sentence(
    gallery: Gallery, path: str, status: int, sentence: str
) -> None:
    answer = gallery.ask(path)
    assert answer.status == status
    assert answer.text.startswith(sentence)
    assert answer.headers["Content-Type"].startswith("text/plain")
    page = gallery.ask(path, Accept="text/html")
    assert (page.status, page.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert html.escape(sentence).replace("&#x27;", "&#39;") in page.text


def test_one_image_by_itself(gallery: Gallery, place: Place) -> None:
    page = gallery.ask(f"/images/{HARDLY}").text
    assert f"<td>{place.unsure}/2024/hardly.png</td>" in page
    assert "unsure 50.0 %" in page
    assert "It ends &lt;b&gt;early." in gallery.ask("/images/1").text


def test_a_picture_is_small_and_made_anew(gallery: Gallery) -> None:
    answer = gallery.ask(f"/images/{HARDLY}/thumbnail")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/jpeg")
    image = Image.open(io.BytesIO(answer.data))
    assert (image.format, image.size) == ("JPEG", (320, 11))
    assert image.getpixel((5, 5)) == (255, 255, 255)  # what is transparent lies on white
    again = gallery.ask(f"/images/{HARDLY}/thumbnail", If_None_Match=answer.headers["ETag"])
    assert (again.status, again.data) == (304, b"")
    large = Image.open(io.BytesIO(gallery.ask(f"/images/{HARDLY}/picture").data))
    assert large.size == (900, 30)


def test_nothing_on_a_page_comes_from_elsewhere_or_runs_in_it(gallery: Gallery) -> None:
    for path in ("/", f"/images/{STRANGE}", "/images/999", "/static/gallery.js"):
        answer = gallery.ask(path, Accept="text/html")
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert not re.search(r"https?://", answer.text.replace("http://www.w3.org/2000/svg", ""))
        assert not re.search(r"<script(?! src)|<style|\sstyle=|\son\w+=|javascript:", answer.text)
    assert "&lt;script&gt;alert(" in gallery.ask("/").text


def test_addresses_hold_no_paths_of_files(gallery: Gallery, place: Place) -> None:
    links = re.findall(r'(?:href|src|action)="([^"]*)"', gallery.ask("/").text)
    assert links
    for link in links:
        assert str(place.root) not in link
        assert ".jpg" not in link


def test_names_that_may_mean_something_else_tomorrow_are_refused(gallery: Gallery) -> None:
    for host in ("evil.example", "localhost.evil.example", "evil.example:80", "", "[::1", "a b"):
        answer = gallery.ask("/counts", Host=host)
        assert answer.status in (400, 403), host
        assert b"decided" not in answer.data
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1", f"127.0.0.1:{gallery.port}", "[::1]:1"):
        assert gallery.ask("/counts", Host=host).status == 200, host


def test_only_our_pages_may_correct(gallery: Gallery, place: Place) -> None:
    secret, path = gallery.secret(), f"/images/{PERHAPS}/label"
    before = place.rows()
    for form, headers in (
        ({"label": "happy"}, {}),
        ({"label": "happy", "secret": "x"}, {}),
        ({"label": "happy", "secret": secret}, {"Sec_Fetch_Site": "cross-site"}),
        ({"label": "happy", "secret": secret}, {"Sec_Fetch_Site": "same-site"}),
        ({"label": "happy", "secret": secret}, {"Host": "evil.example"}),
    ):
        assert gallery.ask(path, form, **headers).status == 403
    assert gallery.ask(path).status == 405
    assert gallery.ask(path, {"label": "cats", "secret": secret}).status == 400
    assert gallery.ask(path, {"label": "x" * 100_000, "secret": secret}).status == 413
    answer = gallery.ask("/images/999/label", {"label": "sad", "secret": secret})
    assert (answer.status, answer.text) == (404, "There is no image 999.\n")
    answer = gallery.ask("/images/1/label", {"label": "sad", "secret": secret})
    assert (answer.status, answer.text) == (
        409,
        "It could not be judged, so there is nothing to correct.\n",
    )
    assert place.rows() == before


@pytest.fixture
def fresh(tmp_path: Path) -> Place:
    place = Place(tmp_path / "fresh")
    make_folders(place.settings())
    return place


def test_a_correction_moves_the_image_and_is_recorded(fresh: Place) -> None:
    filed(fresh, "happy", "2024/a.jpg", p_sad=0.3)
    dropped = fresh.contents()
    with Gallery(fresh) as gallery:
        form = {"label": "sad", "secret": gallery.secret()}
        card = gallery.ask("/images/1/label?card", form, Sec_Fetch_Site="same-origin")
        assert (card.status, ids(card)) == (200, [1])
        assert 'aria-label="a.jpg, happy 70.0 %, but sad"' in card.text
        assert fresh.row("a.jpg")["destination_path"] == str(fresh.sad / "2024" / "a.jpg")
        assert fresh.row("a.jpg")["corrected_label"] == "sad"
        page = gallery.ask("/images/1/label", form | {"label": "happy"})
        assert (page.status, page.headers["Location"]) == (303, "/images/1")
        assert "happy 70.0 %, checked" in gallery.ask("/images/1").text
        assert gallery.ask("/counts").text.count(":") == 4
        assert gallery.stop(signal.SIGINT) == (0, "")
    fresh.assert_promise(dropped)


def test_rows_lead_nowhere_but_into_the_folders(fresh: Place, tmp_path: Path) -> None:
    elsewhere = tmp_path / "private.jpg"
    elsewhere.write_bytes(jpeg("sad", 1))
    link, changed, gone = (filed(fresh, "sad", f"{n}.jpg", jpeg("sad", 1)) for n in range(3))
    for path, what in ((fresh.sad / "3.jpg", elsewhere), (fresh.sad / "4.jpg", "../private.jpg")):
        filed(fresh, "sad", path.name, jpeg("sad", 1))
        with closing(sqlite3.connect(fresh.database)) as database, database:
            shown = str(fresh.sad / what) if isinstance(what, str) else str(what)
            database.execute(
                "UPDATE images SET destination_path = ? WHERE destination_path = ?",
                (shown, str(path)),
            )
    link.unlink()
    link.symlink_to(elsewhere)
    changed.write_bytes(jpeg("sad", 2))
    gone.unlink()
    with Gallery(fresh) as gallery:
        said = [gallery.ask(f"/images/{id}/thumbnail") for id in range(1, 6)]
    assert [(one.status, one.text) for one in said[1:4]] == [
        (404, "The file was changed since.\n"),
        (404, "The file is not there, or is being written to.\n"),
        (404, "The image lies in none of the folders of the settings.\n"),
    ]
    assert [one.status for one in (said[0], said[4])] == [404, 404]


def test_before_anything_is_decided(fresh: Place) -> None:
    open_for_writing(str(fresh.database)).dispose()
    with Gallery(fresh) as gallery:
        page = gallery.ask("/").text
        assert f"Drop images into <code>{fresh.inbox}</code>" in page
        filed(fresh, "sad")
        fresh.database.rename(fresh.root / "away.db")
        answer = gallery.ask("/")
        assert (answer.status, answer.text.split(".")[0]) == (
            503,
            f"There is no database {fresh.root}/moodsort",
        )
        (fresh.root / "away.db").rename(fresh.database)
        assert ids(gallery.ask("/")) == [1]


def test_a_token_is_asked_for(fresh: Place) -> None:
    filed(fresh, "sad")
    token, file = "correct-horse-battery", fresh.root / "token"
    file.write_text(f"{token}\nnot this\n")
    with Gallery(fresh, "--token-file", file) as gallery:
        assert gallery.address.endswith(f"/?token={token}")
        for path in ("/", "/counts", "/images/1/thumbnail", "/static/gallery.css", "/?token=wrong"):
            assert gallery.ask(path, Cookie="moodsort-gallery=x").status == 401
        entered = gallery.ask(f"/?token={token}")
        assert (entered.status, entered.headers["Location"]) == (302, "/")
        cookie = entered.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=" in cookie
        assert ids(gallery.ask("/", Cookie=cookie.split(";")[0])) == [1]
    file.write_text("short")
    done = moodsort("gallery", "--database", fresh.database, "--token-file", file)
    assert done.returncode == os.EX_CONFIG
    assert done.stderr == f"Error: The token in {file} has less than 16 characters.\n"


def test_other_machines_need_a_token(fresh: Place) -> None:
    open_for_writing(str(fresh.database)).dispose()
    with Gallery(fresh, host="0.0.0.0") as gallery:
        assert re.fullmatch(r"http://[^/]+/\?token=[\w-]{40,}", gallery.address)
        assert gallery.ask("/").status == 401
        assert gallery.ask(f"/?{gallery.address.split('?')[1]}").status == 302


def test_what_is_missing_is_one_line(place: Place, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        options = ("--cache", tmp_path / "cache", "--database", place.database)
        busy = moodsort("gallery", "--listen", address, *options)
    assert busy.returncode == 1
    assert (
        busy.stderr == f"Error: The gallery cannot listen at {address}: Address already in use.\n"
    )
    none = moodsort("gallery", "--database", tmp_path / "none.db")
    assert none.returncode == 1
    assert none.stderr.startswith("Error: There is no database ")
    (tmp_path / "file").touch()
    cache = moodsort("gallery", "--database", place.database, "--cache", tmp_path / "file" / "x")
    assert cache.returncode == 1
    assert "for thumbnails cannot be made: Not a directory." in cache.stderr


@pytest.fixture
def drawn(fresh: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pictures]:
    """One process, whose Pillow is frail."""
    monkeypatch.setattr(pictures, "begin", frail_pictures(fresh.root / "crashed"))
    folders = Folders.of(fresh.settings().folders)
    with closing(Pictures(folders, Cache(fresh.root / "cache", 10**6), 1, seconds=1)) as one:
        yield one


def row(path: Path) -> dict[str, Any]:
    digest = sha256(path.read_bytes()) if path.exists() else "c" * 64
    return {"state": "filed", "sha256": digest, "destination_path": str(path)}


def test_what_crashes_or_hangs_its_decoder_harms_no_other(fresh: Place, drawn: Pictures) -> None:
    for end, why in ((b"crash", "SIGABRT"), (b"hang", "takes too long"), (b"", "")):
        path = fresh.happy / "a.jpg"
        path.write_bytes(jpeg("sad", 1) + end)
        if why:
            with pytest.raises(NoPicture, match=why):
                drawn.of(row(path), 64)
        else:
            assert Image.open(io.BytesIO(drawn.of(row(path), 64))).size == (64, 64)


def test_a_picture_is_upright_and_tells_nothing_else(fresh: Place, drawn: Pictures) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Artist] = "Somebody's name"
    path = fresh.sad / "a.jpg"
    image = Image.new("RGB", (200, 100), "red")
    path.write_bytes(encoded(image, "JPEG", exif=exif, comment=b"Somebody's home"))
    picture = drawn.of(row(path), 50)
    assert b"Somebody" not in picture
    shown = Image.open(io.BytesIO(picture))
    assert (shown.size, len(shown.getexif())) == ((25, 50), 0)


def test_pictures_are_kept_but_not_without_bounds(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 1000)
    for n in range(10):
        cache.put(f"{n}{n}", bytes(100))
        os.utime(tmp_path / "cache" / f"{n}{n}" / f"{n}{n}", (n, n))
    assert cache.get("00") == bytes(100)  # and it has been used now
    cache.put("aa", bytes(100))
    kept = sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert kept == ["00", "33", "44", "55", "66", "77", "88", "99", "aa"]
    again = Cache(tmp_path / "cache", 950)
    again.put("bb", bytes(100))
    assert again.get("bb")
    assert again.get("33") is None


def test_a_cache_that_cannot_be_written_is_no_trouble(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 1000)
    (tmp_path / "cache").rmdir()
    (tmp_path / "cache").touch()
    cache.put("aa", b"picture")
    assert cache.get("aa") is None
