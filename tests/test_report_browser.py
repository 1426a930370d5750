"""The report in a headless Chromium, opened from the disk: pictures, a phone's width, print, nothing from elsewhere."""

from pathlib import Path
from typing import Any

import pytest

from tests import surveys
from tests.test_dashboard_browser import browser_page, pytestmark  # noqa: F401 - the marks of a browser's test

#: Pictures without words or size.
BAD_PICTURES = "[...document.images].filter(image => !image.alt || !image.complete || !image.naturalWidth).length"
#: What reaches beyond the page's right end, unless it can be scrolled by itself.
OVERFLOW = """[...document.querySelectorAll("body *")]
    .filter(item => !item.closest(".wide") && !item.closest("thead"))
    .filter(item => item.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
    .map(item => item.outerHTML.slice(0, 80))"""
#: Words of tables, of up to 24 letters, that stand on several lines though nothing in them is a joint (/, _, -).
BROKEN = """[...document.querySelectorAll("th, td")].flatMap(cell => {
    const found = [], texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), range = document.createRange();
    while (texts.nextNode()) for (const word of texts.currentNode.data.matchAll(/[^\\s/_-]+/g)) {
        range.setStart(texts.currentNode, word.index);
        range.setEnd(texts.currentNode, word.index + word[0].length);
        const lines = new Set([...range.getClientRects()].map(box => Math.round(box.top)));
        if (word[0].length <= 24 && lines.size > 1) found.push(word[0]);
    }
    return found;
})"""
#: Text that is too small to be read, or too pale on white: contrast as WCAG has it.
PALE = """[...document.querySelectorAll("p, td, th, dt, dd, li, a, figcaption, small, h1, h2")].filter(item => {
    const [r, g, b] = getComputedStyle(item).color.match(/\\d+/g).map(Number).map(value => value / 255)
        .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    const contrast = 1.05 / (0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05);
    return contrast < 4.5 || parseFloat(getComputedStyle(item).fontSize) < 12;
}).map(item => item.outerHTML.slice(0, 80))"""


#: Small maps that are stretched: width over height, without the border, and as it should be.
STRETCHED = """[...document.querySelectorAll(".survey td img")]
    .map(image => [image.clientWidth / image.clientHeight, image.naturalWidth / image.naturalHeight])
    .filter(([is, wanted]) => Math.abs(is / wanted - 1) > 0.05)"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report: two galaxies, and two that failed."""
    folder = tmp_path_factory.mktemp("report")
    checkpoint = surveys.write_checkpoint(folder / "tiny.safetensors")
    galaxies = [
        {"name": name, "cube": f"{name}.fits"}
        for name in ("NGC1", "NGC2", "a-galaxy-with-a-very-long-name" * 2, "broken_cube_2026-11-30")
    ]
    for seed, galaxy in enumerate(galaxies[:2]):
        surveys.write_cube(folder / galaxy["cube"], (12, 10), seed=seed, faint=seed)
    for galaxy in galaxies[2:]:
        (folder / galaxy["cube"]).write_text("no cube")
    surveys.run_here(surveys.write_survey(folder, galaxies, checkpoint, report=True))
    return folder / "out" / "report"


def watched(page: Any) -> list[str]:
    """What goes wrong in a page: requests that leave the disk, what fails, what the console says."""
    wrong: list[str] = []

    def only_files(route: Any) -> None:
        if route.request.url.startswith("file://"):
            route.continue_()
        else:
            wrong.append(f"asked for {route.request.url[:100]}")
            route.abort()

    page.route(lambda url: not url.startswith("data:"), only_files)
    page.on("console", lambda message: wrong.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url[:100]}"))
    return wrong


def check_page(page: Any) -> None:
    """Look for what is missing, too wide, too small or too pale."""
    assert page.evaluate("document.images.length") >= 6
    assert page.evaluate(BAD_PICTURES) == 0
    for width in (1280, 930, 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(OVERFLOW) == []
        assert page.evaluate(PALE) == []
        assert page.evaluate(BROKEN) == []


def test_the_report_is_read_from_the_disk_on_a_phone_and_in_print(report: Path, tmp_path: Path) -> None:
    with browser_page() as page:
        page.set_default_timeout(30_000)
        wrong = watched(page)
        page.goto((report / "index.html").as_uri())
        check_page(page)
        assert page.locator(".survey tbody tr").count() == 4
        for media in ("print", "screen"):
            page.emulate_media(media=media)
            assert page.evaluate(STRETCHED) == []
        assert "failed" in page.locator(".survey tbody tr").nth(2).inner_text()
        page.get_by_role("link", name="NGC1").click()
        page.wait_for_url("**/NGC1.html")
        check_page(page)
        page.get_by_role("link", name="NGC2 →").click()
        page.wait_for_url("**/NGC2.html")
        assert page.get_by_role("heading", level=1).inner_text() == "NGC2"
        check_page(page)
        printed = tmp_path / "page.pdf"
        page.pdf(path=str(printed), format="A4")
        assert printed.read_bytes().startswith(b"%PDF")
        page.emulate_media(media="print")
        assert not page.get_by_role("navigation").is_visible()
        page.emulate_media(media="screen")
        page.get_by_role("link", name="All galaxies").click()
        page.wait_for_url("**/index.html")
        assert wrong == []
