"""The viewer in a headless Chromium: real clicks, and what the page then shows, beside what the stores hold."""

import csv
import importlib.util
import io
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest
import zarr
from matplotlib.colors import LogNorm, Normalize, to_rgb
from matplotlib.image import imread

from galprote.pipeline.quality import UNRELIABLE
from galprote.workflows.refit import Refitter
from galprote.workflows.viewer.scales import ScaleWish, scale_of
from galprote.workflows.viewer.shown_map import Shown
from galprote.workflows.viewer.stored import StoredGalaxy
from tests import stores, surveys

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
SHAPE = (16, 20)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None, reason="needs playwright: pip install playwright"
    ),
]

#: Where a spaxel is on the screen.
PLACE = """([name, x, y]) => {
    const model = Bokeh.documents[0].get_model_by_name(name);
    const view = Bokeh.index.find_one(model);
    const box = view.el.getBoundingClientRect();
    return [box.x + view.frame.x_scale.compute(x), box.y + view.frame.y_scale.compute(y)];
}"""
#: Show the surroundings of a spaxel.
ZOOM = """([x, y]) => {
    const map = Bokeh.documents[0].get_model_by_name("map_a");
    map.x_range.setv({start: x - 40, end: x + 40});
    map.y_range.setv({start: y - 40, end: y + 40});
}"""
#: A column of the source behind a figure's lines.
COLUMN = """([name, column]) => {
    const figure = Bokeh.documents[0].get_model_by_name(name);
    const found = figure.renderers.map(one => one.data_source).find(one => one && one.data[column] !== undefined);
    return found ? Array.from(found.data[column]) : [];
}"""


@dataclass
class Window:
    """A page of the viewer, and what it should not have done."""

    page: Any
    link: str
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def at(self, name: str, y: float, x: float) -> list[float]:
        return self.page.evaluate(PLACE, [name, x, y])

    def click(self, name: str, y: float, x: float) -> None:
        self.page.mouse.click(*self.at(name, y, x))

    def drag(self, name: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.page.mouse.move(*self.at(name, *start))
        self.page.mouse.down()
        self.page.mouse.move(*self.at(name, *end), steps=5)
        self.page.mouse.up()

    def lasso(self, name: str, corners: list[tuple[float, float]]) -> None:
        """Draw a line through corners, with the lasso of the icons beside the map."""
        self.page.locator(f"#{name} .bk-tool-icon-lasso-select").click()
        self.page.mouse.move(*self.at(name, *corners[0]))
        self.page.mouse.down()
        for corner in (*corners[1:], corners[0]):
            self.page.mouse.move(*self.at(name, *corner), steps=5)
        self.page.mouse.up()

    def pixel(self, name: str, y: float, x: float) -> np.ndarray:
        """The colour on the screen, 0 to 1."""
        left, top = self.at(name, y, x)
        picture = self.page.screenshot(clip={"x": left + 3, "y": top + 3, "width": 2, "height": 2})
        return imread(io.BytesIO(picture))[0, 0, :3]

    def column(self, name: str, column: str) -> np.ndarray:
        return np.array(self.page.evaluate(COLUMN, [name, column]), dtype=float)

    def waited(self, name: str, column: str) -> np.ndarray:
        """A column when it has finite numbers."""
        wait_for(f"{column} of {name}", lambda: np.isfinite(self.column(name, column)).any())
        return self.column(name, column)

    def cells(self, quantity: str) -> list[str]:
        return self.page.locator(f'tr[data-map="{quantity}"] td').all_inner_texts()

    def place(self, words: str) -> None:
        self.page.locator("p.place", has_text=words).wait_for()

    def choose(self, name: str, value: str) -> None:
        self.page.evaluate(
            "([name, value]) => { Bokeh.documents[0].get_model_by_name(name).value = value }", [name, value]
        )

    def save(self, button: str) -> bytes:
        with self.page.expect_download() as download:
            self.page.get_by_role("button", name=button).click()
        return Path(download.value.path()).read_bytes()


def wait_for(what: str, found: Any, seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)
    return answer


def colour_of(shown: Shown, y: int, x: int) -> np.ndarray:
    """The colour that a spaxel should have on the quantity's own scale."""
    scale = scale_of(shown, UNRELIABLE, ScaleWish(log=shown.style.log))
    value = shown.values((slice(None), slice(None)), UNRELIABLE)[y, x]
    norm = LogNorm if scale.log else Normalize
    share = float(np.clip(norm(scale.low, scale.high)(value), 0, 1))
    return np.array(to_rgb(scale.palette[min(255, int(256 * share))]))


def near(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.abs(one - other).max() < 0.03)


@contextmanager
def viewer(*words: object) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`galprote-pipeline view` and its address; it ends with 0 when it is interrupted."""
    command = [surveys.COMMAND, "view", *map(str, words), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert first.startswith("Viewer of "), first + process.stdout.read()
            yield first.split()[-1], process
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=10)
            assert process.returncode == 0, rest
            assert "Traceback" not in rest
        finally:
            process.kill()


@contextmanager
def window(browser: Any, link: str) -> Iterator[Window]:
    """The page, idle; at the end it must not have complained, nor have asked anybody else for anything."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    found = Window(page, link)
    page.on("console", lambda message: found.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: found.errors.append(str(error)))
    page.on("requestfailed", lambda request: found.errors.append(f"failed: {request.url}"))
    page.on("request", lambda request: found.foreign.append(request.url))
    page.goto(link)
    page.wait_for_function("() => window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle")
    page.wait_for_function("() => Bokeh.documents[0].get_model_by_name('map_a').inner_width > 100")
    yield found
    page.close()
    local = urlsplit(link).netloc
    assert not found.errors
    assert not [url for url in found.foreign if url.startswith("http") and urlsplit(url).netloc != local]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> tuple[Path, Path]:
    """The same galaxy mapped twice, with other dust in the foreground."""
    folder = tmp_path_factory.mktemp("runs")
    cube = surveys.write_cube(folder / "cube.fits", SHAPE)
    for name, ebv in (("one", 0.02), ("two", 0.2)):
        galaxy = {
            "name": "N1",
            "cube": str(cube),
            "foreground": {"ebv": ebv},
            "products": {"figure": False, "fits": False},
        }
        survey = surveys.write_survey(folder / name, [galaxy], checkpoint)
        assert [result.outcome for result in surveys.run_here(survey)] == ["done"]
    return folder / "one" / "out" / "N1.zarr", folder / "two" / "out" / "N1.zarr"


@pytest.fixture(scope="module")
def compared(runs: tuple[Path, Path], checkpoint: Path) -> Iterator[str]:
    """The address of a viewer of both."""
    with viewer(runs[0], "--compare", runs[1], "--checkpoint", checkpoint) as (link, _):
        yield link


def test_a_click_shows_the_spaxel(browser, compared, runs, checkpoint, tmp_path):
    """Residual and values are those of the store, spectrum and grid those of the run's own fit."""
    stored = zarr.open_group(runs[0], mode="r")
    with window(browser, compared) as seen:
        seen.click("map_a", 6, 11)
        seen.place("Spaxel y 6, x 11")
        residual = seen.waited("residual", "residual")
        np.testing.assert_allclose(residual, stored["residual"][:, 6, 11], rtol=1e-6)
        flux, model = seen.waited("spectrum", "flux"), seen.column("spectrum", "model")
        record = Path(runs[0]).parent.parent.parent / "cube.fits"
        fit = Refitter(runs[0], record, checkpoint).spaxels(np.array([6]), np.array([11]))
        np.testing.assert_allclose(flux, fit.flux[0], rtol=1e-6)
        np.testing.assert_allclose(model, fit.model[0], rtol=1e-6)
        light = seen.waited("grid", "light")
        np.testing.assert_allclose(light, fit.populations.grid[0].ravel(), atol=1e-7)
        age, other = (zarr.open_group(path, mode="r")["age_lw"][6, 11] for path in runs)
        name, here, there, apart, unit = seen.cells("age_lw")
        assert (name, unit) == ("log age", "dex")
        assert float(here) == pytest.approx(age, rel=1e-3)
        assert float(there) == pytest.approx(other, rel=1e-3)
        assert float(apart.replace("\N{MINUS SIGN}", "-")) == pytest.approx(
            age - other, abs=0.006
        )  # as many decimals as the ages have
        ends = [seen.page.locator(place).last.bounding_box() for place in ('tr[data-map="age_lw"] td', "aside")]
        assert ends[0]["x"] + ends[0]["width"] <= ends[1]["x"] + ends[1]["width"], seen.page.locator(
            "table.values"
        ).inner_text()
        picture = seen.page.screenshot(path=tmp_path / "page.png")
        pixels = imread(io.BytesIO(picture))
        assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 500  # not blank
        empty, full = (np.argwhere(found(stored["age_lw"][...]))[0].tolist() for found in (np.isnan, np.isfinite))
        for (y, x), said in ((empty, "no value"), (full, f"{stored['age_lw'][full[0], full[1]]:.4g}")):
            seen.page.mouse.move(*seen.at("map_a", y, x))
            seen.page.locator("b", has_text=said).first.wait_for()
        for width in (1100, 390):
            seen.page.set_viewport_size({"width": width, "height": 800})
            wait_for(f"a page of {width}", lambda w=width: seen.page.evaluate("document.body.scrollWidth") <= w)
            boxes = [seen.page.locator(place).bounding_box() for place in ("aside", "#map_a", "#map_b", "#grid")]
            assert all(box["x"] + box["width"] <= width for box in boxes)


def test_a_drag_shows_the_region_and_its_files(browser, compared, runs):
    stored = zarr.open_group(runs[0], mode="r")
    rows, columns = slice(3, 8), slice(4, 10)
    status = stored["status"][rows, columns]
    good = (status & int(UNRELIABLE)) == 0
    with window(browser, compared) as seen:
        seen.drag("map_b", (2.6, 3.6), (7.4, 9.4))
        seen.place("Region of 30 spaxels")
        wait_for("numbers", lambda: seen.cells("age_lw"))
        mean = float(np.mean(stored["age_lw"][rows, columns][good], dtype=float))
        assert float(seen.cells("age_lw")[1]) == pytest.approx(mean, rel=1e-3)
        table = seen.save("Save CSV").decode()
        lines = [line for line in table.splitlines() if not line.startswith("#")]
        found = list(csv.DictReader(lines))
        assert [(int(row["y"]), int(row["x"])) for row in found] == [(y, x) for y in range(3, 8) for x in range(4, 10)]
        other = zarr.open_group(runs[1], mode="r")
        for row in found[:7]:
            assert np.float32(row["av"]) == stored["av"][int(row["y"]), int(row["x"])]
            assert np.float32(row["av_b"]) == other["av"][int(row["y"]), int(row["x"])]
        picture = imread(io.BytesIO(seen.save("Save PNG")))
        assert picture.shape[1] > 1000
        assert len(np.unique(picture.reshape(-1, 4), axis=0)) > 200
        seen.lasso("map_a", [(2.4, 3.4), (2.4, 9.4), (8.4, 3.4)])  # a triangle
        inside = [(y, x) for y in range(3, 9) for x in range(4, 10) if (x - 3.4) + (y - 2.4) < 6]
        seen.place(f"Region of {len(inside)} spaxels")
        rows = csv.DictReader(line for line in seen.save("Save CSV").decode().splitlines() if line[0] != "#")
        assert [(int(row["y"]), int(row["x"])) for row in rows] == inside


def test_products_scales_and_flags_change(browser, compared, runs):
    """What is sent to the browser are the maps of the stores."""
    one, two = (zarr.open_group(path, mode="r") for path in runs)
    status = one["status"][...]
    shown = (status & int(UNRELIABLE)) == 0
    image = "name => Array.from(Bokeh.documents[0].get_model_by_name(name).renderers[1].data_source.data.image[0])"
    low = "Bokeh.documents[0].get_model_by_name('map_a').renderers[1].glyph.color_mapper.low"

    def sent(name: str) -> np.ndarray:
        return np.array(seen.page.evaluate(image, name), dtype=np.float32).reshape(SHAPE)

    def is_shown(name: str, wanted: np.ndarray) -> bool:
        return bool(np.allclose(sent(name), wanted, rtol=1e-6, atol=1e-7, equal_nan=True))

    with window(browser, compared) as seen:
        assert is_shown("map_a", np.where(shown, one["age_lw"][...], np.nan))
        assert near(seen.pixel("map_a", 7, 12), colour_of(Shown(StoredGalaxy(runs[0]), "age_lw"), 7, 12))
        assert is_shown("map_b", np.where((two["status"][...] & int(UNRELIABLE)) == 0, two["age_lw"][...], np.nan))
        seen.page.locator("select").first.select_option(label="Dust attenuation")  # B follows
        wait_for("A_V", lambda: is_shown("map_a", np.where(shown, one["av"][...], np.nan)))
        seen.choose("run_b", "A − B")
        both = shown & ((two["status"][...] & int(UNRELIABLE)) == 0)
        wait_for("difference", lambda: is_shown("map_b", np.where(both, one["av"][...] - two["av"][...], np.nan)))
        seen.page.get_by_placeholder("min").first.fill("0.25")
        seen.page.get_by_placeholder("min").first.press("Enter")
        wait_for("limits", lambda: seen.page.evaluate(low) == 0.25)
        seen.choose("product_a", "snr")
        wait_for("S/N", lambda: is_shown("map_a", np.where(shown, one["snr"][...], np.nan)))
        seen.page.mouse.move(*seen.at("map_a", -3, -3))  # neither cross nor tooltip on the map
        for y, x in ((2, 3), (7, 12), (12, 5)):
            colour = colour_of(Shown(StoredGalaxy(runs[0]), "snr"), y, x)
            wait_for("its colour", lambda y=y, x=x, colour=colour: near(seen.pixel("map_a", y, x), colour))
        seen.choose("colours_a", "gray")
        grey = lambda: np.ptp(seen.pixel("map_a", 7, 12)) < 0.01  # noqa: E731
        wait_for("other colours", grey)
        before = np.isfinite(sent("map_a")).sum()
        seen.page.get_by_text("Flags", exact=True).click()
        seen.page.get_by_role("button", name="any flag").click()
        unflagged = int((status == 0).sum())
        wait_for("flags", lambda: np.isfinite(sent("map_a")).sum() == unflagged)
        assert unflagged <= before


def test_forty_gigabytes_open_at_once(browser, tmp_path):
    """A residual cube of 41 GB, a hundredth of it on the disk: seconds, under 500 MB, the right spectrum."""
    shape = (3300, 3300)
    maps = stores.simple_maps(shape)
    group = stores.write_store(tmp_path / "HUGE.zarr", maps, empty=("residual",))
    array = group["residual"]
    assert array.nbytes > 41e9
    place = (1652, 2047)
    block = np.broadcast_to(np.arange(948, dtype=np.float32)[:, None, None], (948, 12, 40))
    array[:, 1644:1656, 2040:2080] = block + np.arange(40, dtype=np.float32)
    began = time.monotonic()
    with viewer(tmp_path / "HUGE.zarr") as (link, process), window(browser, link) as seen:
        opened = time.monotonic() - began
        seen.click("map_a", *place)  # somewhere near: a pixel of the screen is ten spaxels
        seen.place("Spaxel")
        seen.page.evaluate(ZOOM, [place[1], place[0]])
        seen.click("map_a", *place)
        seen.place(f"Spaxel y {place[0]}, x {place[1]}")
        wait_for("the residual", lambda: np.isfinite(seen.column("residual", "residual")).any())
        np.testing.assert_array_equal(seen.column("residual", "residual"), np.arange(948) + 7)
        assert "--cube" in seen.page.evaluate("Bokeh.documents[0].get_model_by_name('note').text")
        seen.drag("map_a", (1630, 2020), (1670, 2060))
        seen.place("Region of")
        wait_for("numbers", lambda: seen.cells("age_lw"))
        memory = psutil.Process(process.pid).memory_info()
        peak = int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[0]) * 1024
        print(f"\n41 GB: open after {opened:.1f} s, {memory.rss / 1e6:.0f} MB, at most {peak / 1e6:.0f} MB")
        assert peak < 500e6
        assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text()  # nothing was fitted
    assert opened < 60  # half of it on an idle machine is Python importing; reading it all would take minutes
