"""The viewer's page and server: odd galaxies, what is refused, who waits for whom."""

import gzip
import importlib.util
import json
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir
from unittest import mock

import numpy as np
import pytest
from bokeh.document import Document
from tornado.httpclient import AsyncHTTPClient

from galprote.model.errors import CubeError, GalproteError
from galprote.pipeline.quality import Status
from galprote.workflows.drawing_style import default_style
from galprote.workflows.evaluation_figures import write_figures
from galprote.workflows.fit_figure import draw_fit
from galprote.workflows.ppxf_comparison import open_refitter
from galprote.workflows.viewer.background import Background
from galprote.workflows.viewer.export_png import Picture, draw_png
from galprote.workflows.viewer.look import look_at
from galprote.workflows.viewer.page import Page
from galprote.workflows.viewer.refitting import Refit, Spectra
from galprote.workflows.viewer.scales import ScaleWish, scale_of
from galprote.workflows.viewer.selection import at_point, in_box
from galprote.workflows.viewer.server import make_server, serve
from galprote.workflows.viewer.shown_map import Shown
from galprote.workflows.viewer.stored import StoredGalaxy, ViewError, check_same_spaxels
from tests import stores, surveys
from tests.viewer_galaxies import DARK, ODD, SHAPE, always

# --- the page ---


def page_of(store: Path) -> Page:
    """A page that nobody looks at."""
    found = StoredGalaxy(store)
    page = Page(Document(), found, None, Spectra(found))
    page.document.validate()
    return page


@pytest.mark.parametrize("shape", [(1, 60), (7, 1), (1, 1)])
def test_slits_and_single_spaxels_without_a_sky_have_a_page(folder, shape):
    path = folder / f"SLIT{shape[0]}x{shape[1]}.zarr"
    stores.write_store(path, stores.simple_maps(shape), header=None)
    page = page_of(path)
    page.select(at_point(page.galaxy, shape[1] - 1, shape[0] - 1))
    assert page.side.place.text == f'<p class="place">Spaxel y {shape[0] - 1}, x {shape[1] - 1}</p>'
    page.close()


def test_a_galaxy_without_any_fitted_spaxel_has_a_page(folder):
    bits = int(Status.LOW_SNR)
    flagged = tuple((y, x, bits) for y in range(4) for x in range(5))
    stores.write_store(folder / "DARK.zarr", stores.simple_maps((4, 5), flagged=flagged))
    page = page_of(folder / "DARK.zarr")
    assert "0 fitted" in page.document.get_model_by_name("head").text
    assert (page.views[0].kinds.data["image"][0] == 1).all()
    region = in_box(page.galaxy, 0, 4, 0, 3)
    page.select(region)
    look = look_at(page.galaxy, None, region, page.flags.hidden, always)
    page.inspector._looked(look)
    assert "0 of 20 spaxels count" in page.side.numbers.text
    assert "low snr 20" in page.side.numbers.text
    page.close()


def test_what_goes_wrong_is_said_on_the_page(galaxy):
    page = page_of(galaxy.path)
    page.select(at_point(page.galaxy, 3, 4))
    page.inspector._refitted(CubeError("cube.fits: not the cube <that> it was"))
    assert 'role="alert">cube.fits: not the cube &lt;that&gt; it was<' in page.side.state.text
    page.inspector._looked(look_at(page.galaxy, None, at_point(page.galaxy, 3, 4), 0, always))
    assert "alert" in page.side.state.text  # what the store has is shown, and the words stay
    assert page.inspector.spectrum.source.data["residual"][0] == pytest.approx(3004)
    assert page.inspector.grid.cells.data["light"].reshape(12, 53)[4, 3] == 1
    page.close()


def test_a_fit_that_is_not_in_the_maps_is_said_with_its_flag(galaxy):
    page = page_of(galaxy.path)
    flux, no, one = np.full((1, 948), 5.0), np.zeros((1, 948), bool), np.ones(1)
    light = mock.Mock(grid=np.full((1, 12, 53), 1 / 636), log_age=one, log_age_error=one, metallicity=one * 0,
                      metallicity_error=one)  # fmt: skip
    fit = mock.Mock(flux=flux, model=flux - 1, error=flux / 50, bands=no[0], masked=no, replaced=no, populations=light,
                    log_ages=np.linspace(7.5, 10.2, 53), metallicities=np.linspace(-2, 0.4, 12))  # fmt: skip
    for place, words in ((DARK, "Not in the maps (low snr): fitted here only."), (ODD, "")):
        selection = at_point(galaxy, place[1], place[0])
        page.select(selection)
        page.inspector._looked(look_at(galaxy, None, selection, page.flags.hidden, always))
        page.inspector._refitted(Refit(fit, 1))
        assert words in page.inspector.spectrum.words.text
        assert np.isfinite(page.inspector.spectrum.source.data["model"]).all()
    assert "ot in the maps" not in page.inspector.spectrum.words.text
    page.close()


def test_a_saved_file_does_not_hide_that_a_fit_is_waited_for(galaxy, monkeypatch):
    page = page_of(galaxy.path)
    monkeypatch.setattr(page.document, "add_next_tick_callback", lambda show: show())
    page.select(at_point(page.galaxy, 3, 4))
    page.inspector._waiting = True
    sent = threading.Event()
    monkeypatch.setattr(page.downloads, "send", lambda *_: sent.set())
    page._save(lambda _: b"bytes", "x.csv", "text/csv")
    assert sent.wait(5)
    assert "Fitting the spectrum again" in page.side.state.text
    page.close()


def test_a_map_that_the_other_run_lacks_is_said(folder):
    """As trust where the other's weights had no appraisal: the page goes on, and shows it where it is."""
    maps = stores.simple_maps((6, 8))
    for name, more in (("WITH", {"trust": np.full((6, 8), 0.5, np.float32)}), ("WITHOUT", {})):
        stores.write_store(folder / f"{name}.zarr", maps | more)
    galaxy, other = (StoredGalaxy(folder / f"{name}.zarr") for name in ("WITH", "WITHOUT"))
    page = Page(Document(), galaxy, other, Spectra(galaxy))
    page.controls[0].product.value = "trust"  # B follows
    for run in ("other run", "A − B"):
        page.controls[1].run.value = run
        assert "WITHOUT.zarr has no map trust." in page.side.refusal.text
        assert np.isnan(page.views[1].image.data["image"][0]).all()
        assert (page.views[0].image.data["image"][0] == 0.5).all()
    page.controls[0].product.value = "age_lw"
    assert page.side.refusal.text == ""
    assert (page.views[1].image.data["image"][0] == 0).all()
    page.close()


def test_limits_that_are_not_heeded_are_said(galaxy):
    page = page_of(galaxy.path)
    first, second = page.controls
    first.low.value, first.high.value = "11", "8"
    assert "A: min 11 is not below max 8" in page.side.refusal.text
    assert [box.styles["outline"] == "none" for box in (first.low, first.high)] == [False, False]
    second.high.value = "<abc>"
    assert "A: min 11 is not below max 8" in page.side.refusal.text
    assert (
        "B: max \N{LEFT DOUBLE QUOTATION MARK}&lt;abc&gt;\N{RIGHT DOUBLE QUOTATION MARK} is not"
        in page.side.refusal.text
    )
    first.high.value, second.high.value = "12", ""
    assert page.side.refusal.text == ""
    assert first.low.styles["outline"] == "none"
    second.log.active = True  # of [M/H]
    assert "B: " in page.side.refusal.text
    assert "0 or less" in page.side.refusal.text
    assert np.nanmin(page.views[1].image.data["image"][0]) > 0
    second.run.value = "A − B"
    assert not second.log.active
    page.close()


# --- refusals and threads ---


def test_runs_on_other_spaxels_are_not_compared(galaxy, binned, folder):
    with pytest.raises(ViewError, match=r"12 x 20 spaxels.*30 x 90"):
        check_same_spaxels(galaxy, binned)
    check_same_spaxels(galaxy, galaxy)
    stores.write_store(folder / "SHIFTED.zarr", stores.simple_maps(SHAPE))
    shifted = StoredGalaxy(folder / "SHIFTED.zarr")
    shifted.about["wcs_header"] = str(shifted.about["wcs_header"]).replace("184.7", "184.71")
    with pytest.raises(ViewError, match="reproject"):
        check_same_spaxels(galaxy, shifted)


def test_where_the_cube_is_comes_from_the_run_or_is_asked_for(galaxy, folder):
    spectra = Spectra(galaxy)
    assert spectra.cube is None
    assert "name it with --cube" in spectra.missing
    (folder / "run.json").write_text(json.dumps({"galaxies": [{"name": "N1", "cube": str(folder / "gone.fits")}]}))
    try:
        assert "gone.fits" in Spectra(galaxy).missing
        (folder / "gone.fits").touch()
        assert Spectra(galaxy).cube == folder / "gone.fits"
    finally:
        (folder / "run.json").unlink()
    with pytest.raises(ViewError, match=r"--cube nowhere\.fits: no such file"):
        Spectra(galaxy, Path("nowhere.fits"))


@pytest.mark.parametrize("words", ["nowhere.zarr", "N1.zarr --compare BINNED.zarr", "N1.zarr --cube x"])
def test_the_command_refuses_before_it_serves(galaxy, binned, folder, capsys, words):
    words = [str(folder / word) if word.endswith(".zarr") else word for word in words.split()]
    code, _, errors = surveys.call(capsys, "view", *words, "--no-browser")
    assert code == 2
    assert errors.startswith("error: ")


def test_a_file_is_refused_with_the_store_to_name_if_there_is_one(galaxy, folder):
    for name in ("N1_MAPS.fits", "README.md"):
        (folder / name).touch()
    with pytest.raises(ViewError, match=rf"View the store beside it: galprote-pipeline view {galaxy.path}$"):
        StoredGalaxy(folder / "N1_MAPS.fits")
    with pytest.raises(
        ViewError, match=r"README\.md: a file, not a store of galprote\. Expected the folder NAME\.zarr"
    ):
        StoredGalaxy(folder / "README.md")


def test_windows_share_one_refitter(galaxy, monkeypatch):
    made = []

    class Slow:
        note = ""

        def __init__(self, *_):
            made.append(self)
            time.sleep(0.2)

        def spaxels(self, y, x):
            return self

    monkeypatch.setattr("galprote.workflows.refit.Refitter", Slow)
    spectra = Spectra(galaxy, galaxy.path)
    found = []
    threads = [threading.Thread(target=lambda: found.append(spectra.fit(at_point(galaxy, 3, 3)).fit)) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(made) == 1
    assert found == 2 * made


def test_pictures_wait_for_those_of_other_threads(galaxy, monkeypatch, tmp_path):
    """matplotlib's settings are the process's: each drawing has the lock of `default_style`."""
    inside = threading.Event()

    def entered(*_, **__):
        inside.set()
        raise LookupError

    shown = Shown(galaxy, "age_lw")
    picture = Picture(((shown, scale_of(shown, 0, ScaleWish())),), 0, (0, 1, 0, 1))
    monkeypatch.setattr("galprote.workflows.viewer.export_png.Figure", entered)
    monkeypatch.setattr("galprote.workflows.fit_figure.fit_figure", entered)
    monkeypatch.setattr("galprote.workflows.evaluation_figures.FIGURES", {"suite": entered})
    suites = {"suite": mock.Mock(cases=[1], examples=[])}

    def draw(what):
        with suppress(LookupError):
            what()

    for what in (lambda: draw_png(picture), lambda: draw_fit(mock.Mock(), tmp_path / "fit.png", "png"),
                 lambda: write_figures(suites, tmp_path)):  # fmt: skip
        inside.clear()
        thread = threading.Thread(target=draw, args=(what,))
        with default_style():
            thread.start()
            assert not inside.wait(0.1)
        thread.join(5)
        assert inside.is_set()


def test_the_served_page_has_the_galaxy_s_name(folder):
    stores.write_store(folder / "NAMED.zarr", stores.simple_maps((3, 4)))
    galaxy = StoredGalaxy(folder / "NAMED.zarr")
    galaxy.about["galaxy"] = "M 1<3>"
    server = make_server(galaxy, None, Spectra(galaxy))
    server.start()
    try:
        answer = server.io_loop.run_sync(lambda: AsyncHTTPClient().fetch(f"http://127.0.0.1:{server.port}/"))
    finally:
        server.stop(wait=False)
    assert "<title>M 1&lt;3&gt; – galprote</title>" in " ".join(answer.body.decode().split())


@pytest.mark.parametrize("error", [KeyError("uid not found"), OSError("no such user")])
def test_a_user_without_a_name_is_served(galaxy, monkeypatch, error):
    """As in a container that runs under a number."""
    monkeypatch.setattr("getpass.getuser", mock.Mock(side_effect=error))
    server, said = make_server(galaxy, None, Spectra(galaxy)), []
    server.io_loop.call_later(0.1, server.io_loop.stop)
    serve(server, said.append, "N1", browser=False)
    assert f"127.0.0.1:{server.port} {socket.gethostname()}, then" in said[1]


def test_a_compressed_cube_is_unpacked_with_a_word(galaxy, folder, capsys):
    cube = folder / "cube.fits.gz"
    cube.write_bytes(gzip.compress(b"cube"))
    words = f"cube.fits.gz is compressed: it is unpacked, once, into {gettempdir()}."
    page = page_of(galaxy.path)
    page.inspector.spectra = spectra = Spectra(galaxy, cube)
    assert page.inspector._fitting_words().startswith(words)
    spectra._refitter = mock.Mock()
    assert page.inspector._fitting_words() == "Fitting the spectrum again from the cube…"
    page.close()
    if importlib.util.find_spec("ppxf") is not None:
        with pytest.raises(GalproteError):
            open_refitter(galaxy.path, cube)
        assert words in capsys.readouterr().out


def test_only_the_newest_wish_is_answered():
    answers, ready, begin = [], threading.Event(), threading.Event()
    background = Background(lambda show: show())
    background.ask("look", lambda unwanted: (begin.set(), ready.wait(5), unwanted())[2], answers.append)
    assert begin.wait(5)
    background.ask("look", lambda _: "never begun", answers.append)
    background.ask("look", lambda _: 1 / 0, lambda error: (answers.append(error), done.set()))
    done = threading.Event()
    ready.set()
    assert done.wait(5)
    assert [type(answer) for answer in answers] == [ZeroDivisionError]
    background.close()
