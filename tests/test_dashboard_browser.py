"""The dashboard in a headless Chromium while a run is going on."""

import importlib.util
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from distributed import Client, LocalCluster

from galprote.workflows.dashboard import shown
from galprote.workflows.monitor import SurveyMonitor
from tests import surveys

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
STEPS = ("prepare", "predict", "write")
#: Keys of the tasks that the status page's task stream shows; the names are painted, not text of the page.
STREAMED_KEYS = """() => Bokeh.documents.flatMap(doc => [...doc._all_models.values()])
    .filter(model => model.type === "ColumnDataSource" && model.data.key !== undefined && model.data.worker_thread)
    .flatMap(model => [...model.data.key])"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None, reason="needs playwright: pip install playwright"
    ),
]


@contextmanager
def browser_page() -> Iterator[Any]:
    """A page of a headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser.new_page(viewport={"width": 1280, "height": 720})
        finally:
            browser.close()


def wait_for(what: str, found: Any, seconds: float) -> Any:
    """Ask until the answer is true."""
    end = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)
    return answer


def check_dashboard(link: str, galaxy: str, *, seconds: float = 60.0, screenshot: str | None = None) -> None:
    """Look at the dashboard of a run, which must go on meanwhile, for our page and for the names of our tasks.

    Parameters
    ----------
    link : str
        Address of any of the dashboard's pages, as `client.dashboard_link` has it.
    galaxy : str
        A galaxy that is running.
    seconds : float
        To wait for each thing.
    screenshot : str, optional
        PNG file to write our page to.
    """
    with browser_page() as page:
        page.set_default_timeout(1000 * seconds)
        foreign: list[str] = []

        def only_ours(route: Any) -> None:
            if urlsplit(route.request.url).netloc == urlsplit(link).netloc:
                route.continue_()
            else:
                foreign.append(route.request.url)
                route.abort()

        page.route("**/*", only_ours)
        page.goto(link)
        check_our_page(page, galaxy, seconds)
        if screenshot:
            page.screenshot(path=screenshot)
        check_task_stream(page, urljoin(link, "/status"), galaxy, seconds)
        assert not foreign, "the dashboard needs other servers"
        check_worker_pages(page, urljoin(link, "/info/main/workers.html"), galaxy, seconds)  # these want a font


def check_our_page(page: Any, galaxy: str, seconds: float) -> None:
    """Find our page first in the navigation bar, go there, and see its numbers change."""
    entries = page.locator(".navbar a[href]:visible")
    names = [name.strip() for name in entries.all_inner_texts()]
    assert names[:3] == ["", "Galprote", "Status"]  # the first is Dask's logo
    page.get_by_role("link", name="Galprote").click()
    row = page.locator(f'tr[data-galaxy="{galaxy}"]')
    row.wait_for()
    before = row.inner_text()
    assert galaxy in before
    assert "running" in before
    numbers = page.locator(".numbers")
    headline = numbers.inner_text()
    for title in ("Galaxies", "Spectra per second", "Read", "Workers", "GPU use", "Time left"):
        assert title in headline
    wait_for(f"a change of {before!r}", lambda: row.inner_text() != before, seconds)
    wait_for("spectra per second", lambda: re.search(r"Spectra per second\s+[1-9]", numbers.inner_text()), seconds)


def check_task_stream(page: Any, link: str, galaxy: str, seconds: float) -> None:
    """Find a task of each step of the galaxy in the task stream of Dask's status page."""
    page.goto(link)
    page.wait_for_function("() => window.Bokeh !== undefined && Bokeh.documents.length > 0")
    for step in STEPS:
        wait_for(
            f"{step}-{galaxy}-... in the task stream",
            lambda step=step: any(f"{step}-{galaxy}-" in str(key) for key in page.evaluate(STREAMED_KEYS)),
            seconds,
        )


def check_worker_pages(page: Any, link: str, galaxy: str, seconds: float) -> None:
    """Read the name of a task of the galaxy on Dask's page of a worker."""
    page.goto(link)
    found = page.locator("td a[href*='/worker/']").evaluate_all("links => links.map(link => link.href)")
    assert found
    name = re.compile(rf"\b({'|'.join(STEPS)})-{re.escape(galaxy)}-\d+")

    def is_named() -> bool:
        for worker in found:
            page.goto(worker)
            if name.search(page.locator("body").inner_text()):
                return True
        return False

    wait_for(f"tasks of {galaxy} on the workers' pages", is_named, seconds)


@contextmanager
def pretended_run(client: Client, monitor: SurveyMonitor, galaxy: str, chunks: int) -> Iterator[None]:
    """Tasks named as those of a survey, one chunk after the other, until the end of the block."""
    enough = Event()

    def work() -> None:
        for index in range(chunks):
            future = None
            for step in STEPS:
                key = f"{step}-{galaxy}-{index:05d}"
                future = client.submit(pause, future, key=key)
            future.result()
            monitor.chunk(galaxy, spaxels=320, fitted=290, bytes_read=12_800_000, predict_seconds=0.2)
            if enough.is_set():
                break

    monitor.begin(galaxy, spaxels=320 * chunks, chunks=chunks)
    thread = Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


def pause(_: Any) -> float:
    """Stand for a step of a chunk."""
    time.sleep(0.25)
    return 1.0


def test_a_run_is_seen_on_its_dashboard(tmp_path):
    monitor = SurveyMonitor(["NGC1", "NGC<2>", "NGC3", "NGC4", "NGC5"])
    monitor.workers(2, 1)
    monitor.finish("NGC3", "done")
    monitor.begin("NGC<2>", spaxels=90_000, chunks=90, spaxels_done=77_000, chunks_done=77)
    monitor.chunk_failed("NGC<2>")
    monitor.finish("NGC<2>", "incomplete")
    with (
        shown(monitor),
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
        pretended_run(client, monitor, "NGC1", 200),
    ):
        picture = tmp_path / "dashboard.png"
        port = cluster.scheduler.http_server.port  # the cluster's link has an address that is not listened to
        check_dashboard(f"http://127.0.0.1:{port}/status", "NGC1", screenshot=str(picture))
        assert picture.stat().st_size > 0


def test_a_real_run_is_seen_on_its_dashboard(tmp_path: Path) -> None:
    """`galprote-pipeline run` says where its dashboard is; our page and our tasks are there while it works."""
    checkpoint = surveys.write_checkpoint(tmp_path / "tiny.safetensors")
    surveys.write_cube(tmp_path / "cube.fits", (400, 8))
    cluster = {"workers": 1, "dashboard": "127.0.0.1:0"}
    survey = surveys.write_survey(
        tmp_path, [{"name": "NGC1", "cube": "cube.fits"}], checkpoint, cluster=cluster, chunks={"rows": 1}
    )
    command = [surveys.COMMAND, "run", str(survey)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            link = next(line.split()[-1] for line in process.stdout if line.startswith("Dask dashboard: "))
            assert urlsplit(link).hostname == "127.0.0.1"
            assert any("/galprote" in line for line in process.stdout if line.startswith("The survey's own page"))
            ledger = tmp_path / "out" / "NGC1.partial" / "chunks"
            wait_for("a finished chunk", lambda: next(ledger.glob("*.npz"), None), 60)
            check_dashboard(link, "NGC1")
        finally:
            process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 3
