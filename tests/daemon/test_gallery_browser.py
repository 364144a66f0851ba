"""The gallery in a real browser, by keyboard.

Screenshots of what it showed are left in build/screenshots.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.service import make_folders
from tests.daemon.filed import filed
from tests.daemon.looking import Gallery
from tests.daemon.test_gallery import fail_many
from tests.faces import MOODS, draw_folder
from tests.helpers import Place, jpeg, wait_until

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason=f"no browser on the PATH ({', '.join(NAMES)}); Debian has chromium"
)

ALONE = (
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-gpu", "--no-first-run"),
    *(["--no-sandbox"] if os.geteuid() == 0 else []),
)
"""It should talk to nobody else; for root its sandbox does not work."""

SCREENSHOTS = Path(__file__).parent.parent.parent / "build" / "screenshots"


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=CHROMIUM, args=list(ALONE))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Faces of either kind that were judged more and less surely; and some bad files."""
    place = Place(tmp_path / "place")
    make_folders(place.settings())
    fail_many(place, 3)
    for n, path in enumerate(draw_folder(tmp_path / "drawn", 5, seed=5, flat=True)):
        mood = next(mood for mood in MOODS if mood in path.name)
        p_sad = 0.55 + n * 0.04 if mood == "sad" else 0.48 - n * 0.09
        filed(place, mood, f"holiday-{n:02}.jpg", path.read_bytes(), p_sad=p_sad)
    return place


@pytest.fixture
def gallery(place: Place) -> Iterator[Gallery]:
    with Gallery(place) as one:
        yield one
        assert one.stop() == (0, "")


@pytest.fixture
def page(browser: playwright.Browser, gallery: Gallery) -> Iterator[playwright.Page]:
    """The first page; it must ask nobody else, and complain of nothing."""
    view = browser.new_context(viewport={"width": 1100, "height": 760}, locale="en-GB")
    page, complaints, asked = view.new_page(), list[str](), list[str]()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda one: asked.append(one.url))
    page.goto(gallery.address)
    yield page
    assert complaints == []
    assert asked
    assert [url for url in asked if not url.startswith(gallery.address)] == []
    view.close()


def are_loaded(page: playwright.Page) -> bool:
    """Whether all thumbnails that can be seen are."""
    return bool(
        page.evaluate(
            """() => [...document.images].every((image) =>
                image.getBoundingClientRect().top > innerHeight
                || (image.complete && image.naturalWidth > 0))"""
        )
    )


def shoot(page: playwright.Page, name: str) -> None:
    """Leave a picture of the page in the colours for the day and in those for the night."""
    wait_until(lambda: are_loaded(page), "the thumbnails are there")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for scheme, paper in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(15, 19, 24)")):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == paper
        (SCREENSHOTS / f"{name}-{scheme}.png").write_bytes(page.screenshot())


def test_filter_and_correct_by_keyboard(page: playwright.Page, place: Place) -> None:
    dropped = place.contents()
    cards = page.locator(".card")
    assert cards.count() == 13
    page.get_by_label("Order").select_option("least-certain")
    page.get_by_label("Show").select_option("sad")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**/?show=sad*")
    assert cards.count() == 5
    first = cards.first.get_attribute("aria-label") or ""
    name = first.split(",")[0]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("h")
    page.get_by_role("status").filter(has_text=f"{name}, sad").wait_for()
    assert "but happy" in (cards.first.get_attribute("aria-label") or "")
    assert page.evaluate("document.activeElement === document.querySelectorAll('.card')[1]")
    assert place.row(name)["destination_path"] == str(place.happy / name)
    assert place.row(name)["corrected_label"] == "happy"
    page.locator("[data-count=checked]").filter(has_text="1").wait_for()
    page.keyboard.press("s")
    page.get_by_role("status").filter(has_text="checked").wait_for()
    assert sum(row["corrected_label"] == "sad" for row in place.rows()) == 1
    page.goto(page.url.split("?")[0] + "?order=least-certain")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    shoot(page, "gallery")
    assert place.contents() == dropped


def test_one_image_by_itself_and_back(page: playwright.Page, place: Place) -> None:
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    second = page.locator(".card").nth(1)
    name, id = second.locator("img").get_attribute("alt"), second.get_attribute("id")
    page.keyboard.press("Enter")
    page.wait_for_url("**/images/*")
    assert page.get_by_role("heading", name=name).is_visible()
    shoot(page, "image")
    page.keyboard.press("h")
    page.get_by_text("but happy").wait_for()
    assert place.row(name)["corrected_label"] == "happy"
    page.keyboard.press("Escape")
    page.wait_for_url(f"**/#{id}")
    assert page.evaluate("document.activeElement.id") == id


def test_new_images_are_told(page: playwright.Page, place: Place) -> None:
    filed(place, "sad", "new.jpg", jpeg("sad", 77), p_sad=0.9)
    page.get_by_role("link", name="1 new").click()
    assert page.locator(".card").count() == 14
    assert "new.jpg" in (page.locator(".card").first.get_attribute("aria-label") or "")
    page.get_by_label("Show").select_option("failed")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**/?show=failed*")
    assert page.locator(".card b").all_text_contents() == ["truncated"] * 3
    shoot(page, "failed")


def test_without_scripts_it_works_too(browser: playwright.Browser, gallery: Gallery) -> None:
    view = browser.new_context(java_script_enabled=False)
    page = view.new_page()
    page.goto(gallery.address)
    page.locator(".card").first.get_by_role("button", name="happy").click()
    page.wait_for_url("**/images/*")
    assert page.get_by_text("but happy").is_visible()
    view.close()
