"""What the viewer selects, reads, counts and saves; its page is clicked in test_viewer_browser."""

import csv
import gzip
import importlib.util
import io
import json
import threading
import time
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir
from typing import Any
from unittest import mock

import numpy as np
import pytest
from bokeh.document import Document
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread
from tornado.httpclient import AsyncHTTPClient

from galprote.model.errors import CubeError, GalproteError
from galprote.model.grids import KEPT, WAVELENGTH
from galprote.pipeline.map_styles import UNTRUSTED_COLOUR
from galprote.pipeline.quality import NOT_FITTED, UNRELIABLE, Status
from galprote.workflows.drawing_style import default_style
from galprote.workflows.evaluation_figures import write_figures
from galprote.workflows.fit_figure import draw_fit
from galprote.workflows.ppxf_comparison import open_refitter
from galprote.workflows.viewer.background import Background
from galprote.workflows.viewer.chunked import read_mean
from galprote.workflows.viewer.export_csv import selection_csv
from galprote.workflows.viewer.export_png import DPI, Picture, draw_png
from galprote.workflows.viewer.flux_units import flux_unit
from galprote.workflows.viewer.look import Lines, lines_of, look_at
from galprote.workflows.viewer.page import Page
from galprote.workflows.viewer.refitting import Spectra
from galprote.workflows.viewer.scales import ScaleWish, scale_of
from galprote.workflows.viewer.selection import Selection, at_point, in_box, in_lasso, outline
from galprote.workflows.viewer.server import make_server
from galprote.workflows.viewer.shown_map import Shown, Window, window_of
from galprote.workflows.viewer.sky import Sky
from galprote.workflows.viewer.spectrum_view import MODEL, OBSERVED
from galprote.workflows.viewer.stored import StoredGalaxy, ViewError, check_same_spaxels
from galprote.workflows.viewer.values import numbers_of
from galprote.workflows.viewer.values_view import alike, number, table
from tests import stores, surveys

SHAPE = (30, 90)  # three by three inner chunks
ODD = (5, 50, int(Status.UNLIKE_TRAINING))
DARK = (5, 51, int(Status.LOW_SNR))


def always() -> bool:
    return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="module")
def galaxy(folder: Path) -> StoredGalaxy:
    """Residual = row + 1000 x column + sample / 1000 in float32; its grid has all light of a spaxel in one cell."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    residual = (y + 1000.0 * x)[None] + np.arange(len(WAVELENGTH))[:, None, None] / 1000
    grid = np.zeros((*SHAPE, 12, 53), dtype=np.float16)
    grid[y, x, y % 12, x % 53] = 1
    maps = stores.simple_maps(SHAPE, flagged=(ODD, DARK))
    stores.write_store(folder / "N1.zarr", maps, cube={"residual": residual.astype(np.float32), "grid": grid})
    return StoredGalaxy(folder / "N1.zarr")


@pytest.fixture(scope="module")
def binned(folder: Path) -> StoredGalaxy:
    """Bins of 10 x 10 spaxels, numbered from 100 backwards in the table; no sky, the last rows in no bin."""
    shape = (12, 20)
    maps = stores.simple_maps(shape)
    maps["bin_id"] = np.where(np.arange(12)[:, None] < 10, 100 + np.arange(20)[None] // 10, -1).astype(np.int32)
    bins = {"bin": np.array([101, 100], dtype=np.int32),
            "residual": np.stack([np.full(948, 5.0), np.full(948, 7.0)], axis=1).astype(np.float32)}  # fmt: skip
    stores.write_store(folder / "BINNED.zarr", maps, bins=bins, sky=False)
    return StoredGalaxy(folder / "BINNED.zarr")


# --- selections ---


def test_a_point_selects_the_spaxel_that_it_lies_in(galaxy):
    for x, y, wanted in ((50.4, 5.4, (5, 50)), (49.6, 4.6, (5, 50)), (-0.4, 0, (0, 0)), (89.4, 29.4, (29, 89))):
        selection = at_point(galaxy, x, y)
        assert selection is not None
        assert selection.kind == "spaxel"
        assert (selection.y.tolist(), selection.x.tolist()) == ([wanted[0]], [wanted[1]])
    assert at_point(galaxy, -0.6, 3) is None
    assert at_point(galaxy, 3, 29.6) is None


def test_a_box_selects_the_spaxels_whose_middles_it_holds_however_it_was_drawn(galaxy):
    for ends in ((2.5, 5.5, 1.0, 3.2), (5.5, 2.5, 3.2, 1.0)):
        selection = in_box(galaxy, *ends)
        assert selection is not None
        assert sorted(set(selection.x.tolist())) == [3, 4, 5]
        assert sorted(set(selection.y.tolist())) == [1, 2, 3]
        assert len(selection) == 9
    whole = in_box(galaxy, -50, 500, -50, 500)
    assert whole is not None
    assert len(whole) == SHAPE[0] * SHAPE[1]
    inside = in_box(galaxy, 3.1, 3.3, 4.1, 4.3)
    assert inside is not None
    assert (inside.kind, inside.y[0], inside.x[0]) == ("spaxel", 4, 3)
    assert in_box(galaxy, 200, 300, 2, 3) is None


def test_a_lasso_selects_what_is_inside(galaxy):
    triangle = in_lasso(galaxy, [9.5, 20.2, 9.5], [9.5, 9.5, 20.2])
    assert triangle is not None
    wanted = {(y, x) for y in range(30) for x in range(90) if x > 9.5 and y > 9.5 and x + y < 30}
    assert set(zip(triangle.y.tolist(), triangle.x.tolist(), strict=True)) == wanted
    assert in_lasso(galaxy, [1, 2], [1, 2]) is None
    assert in_lasso(galaxy, [500, 600, 500], [500, 500, 600]) is None


def test_all_of_a_bin_is_selected(binned):
    selection = at_point(binned, 13, 2)
    assert selection is not None
    assert (selection.kind, len(selection), set(selection.x.tolist())) == ("bin", 100, set(range(10, 20)))
    alone = at_point(binned, 13, 11)
    assert alone is not None
    assert alone.kind == "spaxel"
    both = in_box(binned, 8, 12, 3, 4)
    assert both is not None
    assert (both.kind, both.bins, len(both)) == ("region", 2, 200)


def test_a_huge_region_is_thinned_evenly_and_says_so(galaxy, monkeypatch):
    monkeypatch.setattr("galprote.workflows.viewer.selection.MOST", 300)
    selection = in_box(galaxy, 0, 89, 0, 29)
    assert selection is not None
    assert selection.step == 3  # 2700 spaxels
    assert len(selection) == 300
    assert selection.y.mean() == pytest.approx(14.5, abs=0.6)
    x0, y0, x1, y1 = outline(selection)
    assert (x0.min(), x1.max(), y0.min(), y1.max()) == (-0.5, 89.5, -0.5, 29.5)
    numbers = {found.name: found for found in numbers_of(galaxy, selection, UNRELIABLE)}
    assert numbers["age_lw"].value == pytest.approx(9.145, abs=0.01)


def test_bins_of_too_many_spaxels_are_thinned_too(binned, monkeypatch):
    """A box and a lasso over all bins; what is looked at bin by bin does not change, a bin alone stays whole."""
    box, lasso = (0, 19, 0, 11), ([-1, 20, 20, -1], [-1, -1, 12, 12])
    for most, band, size, step in ((1000, 1000, 200, 1), (30, 7, 20, 3)):
        monkeypatch.setattr("galprote.workflows.viewer.selection.MOST", most)
        monkeypatch.setattr("galprote.workflows.viewer.selection.BAND", band)
        for selection in (in_box(binned, *box), in_lasso(binned, *lasso)):
            assert selection is not None
            assert (selection.kind, selection.bins, selection.step) == ("region", 2, step)
            assert abs(len(selection) - size) <= 5
            x0, y0, _, _ = outline(selection)
            assert (x0.min(), y0.min()) == (-0.5, -0.5)
            assert look_at(binned, None, selection, 0, always).residual.mean[0] == pytest.approx(6.0)
            assert len(binned.places(selection.y, selection.x)[0]) == 2
    alone = in_box(binned, 11, 18, 3, 8)
    assert alone is not None
    assert (alone.kind, len(alone), alone.step) == ("bin", 100, 1)
    none = in_lasso(binned, [-1, 20, 20, -1], [9.6, 9.6, 12, 12])
    assert none is not None
    assert (none.kind, none.bins) == ("region", 0)


def test_the_line_around_a_selection_is_its_border():
    one = Selection(np.array([4]), np.array([7]), "spaxel")
    corners = {tuple(corner) for line in np.stack(outline(one), axis=1) for corner in line.reshape(2, 2)}
    assert corners == {(6.5, 3.5), (7.5, 3.5), (6.5, 4.5), (7.5, 4.5)}
    y, x = np.mgrid[2:5, 10:14]
    assert len(outline(Selection(y.ravel(), x.ravel(), "region"))[0]) == 2 * (3 + 4)


# --- reading ---


def test_a_spaxel_reads_one_inner_chunk(galaxy, monkeypatch):
    array = galaxy.cube("residual")
    found = read_mean(array, (1, 2), (np.array([7]), np.array([45])))
    np.testing.assert_array_equal(found.mean, array[:, 7, 45].astype(float))
    assert (found.chunks, found.spaxels, found.asked) == (1, 1, 1)
    assert np.isnan(found.scatter).all()


def test_a_region_reads_its_chunks_once_each_and_never_all_at_once(galaxy, monkeypatch):
    array, read = galaxy.cube("residual"), []
    original = type(array).__getitem__
    monkeypatch.setattr(type(array), "__getitem__", lambda self, part: (read.append(part), original(self, part))[1])
    y, x = (index.ravel() for index in np.mgrid[10:14, 38:44])  # over four chunks
    found = read_mean(array, (1, 2), (y, x))
    assert found.chunks == 4 == len(read)
    assert all(part[1].stop - part[1].start <= 12 and part[2].stop - part[2].start <= 40 for part in read)
    wanted = original(array, (slice(None), slice(10, 14), slice(38, 44))).reshape(948, -1).astype(float)
    np.testing.assert_allclose(found.mean, wanted.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.scatter, wanted.std(axis=1, ddof=1), rtol=1e-9)


def test_too_many_chunks_are_sampled_evenly(galaxy):
    y, x = (index.ravel() for index in np.indices(SHAPE))
    found = read_mean(galaxy.cube("residual"), (1, 2), (y, x), most=3)
    assert found.chunks == 3
    assert found.spaxels < found.asked == SHAPE[0] * SHAPE[1]


def test_spaxels_without_data_do_not_count(folder):
    values = np.full((948, 12, 40), np.nan, dtype=np.float32)
    values[:, 0, 0], values[100:, 0, 1] = 2.0, 4.0
    stores.write_store(folder / "GAPS.zarr", stores.simple_maps((12, 40)), cube={"residual": values})
    found = read_mean(StoredGalaxy(folder / "GAPS.zarr").cube("residual"), (1, 2), (np.zeros(3, int), np.arange(3)))
    assert set(found.mean[:100]) == {2.0}
    assert set(found.mean[100:]) == {3.0}


def test_a_look_averages_what_is_not_hidden(galaxy):
    region = in_box(galaxy, 50, 51, 5, 6)  # one not trusted, one not fitted
    assert region is not None
    look = look_at(galaxy, None, region, UNRELIABLE, always)
    numbers = {found.name: found for found in look.numbers}
    assert numbers["age_lw"].used == 2
    assert numbers["age_lw"].value == pytest.approx(9.06)
    assert numbers["metallicity_lw"].median == pytest.approx(0.005, abs=1e-6)
    assert look.residual is not None
    assert look.residual.asked == 2
    assert look.residual.mean[0] == pytest.approx(6 + 1000 * 50.5)
    assert look.grid is not None
    assert look.grid.mean[6, 50] == look.grid.mean[6, 51] == 0.5
    open_eyed = look_at(galaxy, None, region, NOT_FITTED, always)
    assert next(found for found in open_eyed.numbers if found.name == "age_lw").used == 3


def test_a_spaxel_has_values_and_errors(galaxy):
    spaxel = at_point(galaxy, 20, 10)
    assert spaxel is not None
    look = look_at(galaxy, None, spaxel, UNRELIABLE, always)
    age = next(found for found in look.numbers if found.name == "age_lw")
    assert (age.value, age.error) == (pytest.approx(9.1), pytest.approx(0.1))
    lines = lines_of(galaxy, look, None, 948)
    np.testing.assert_allclose(lines.residual, 10 + 20000 + np.arange(948) / 1000, rtol=1e-6)
    assert np.isnan(lines.flux).all()
    assert (lines.bands >= ~KEPT).all()
    assert lines.bands[np.abs(WAVELENGTH - 6005) < 3].all()  # the survey's own mask


def test_spectra_of_bins_are_found_by_their_numbers(binned):
    for x, wanted in ((3, 7.0), (13, 5.0)):
        selection = at_point(binned, x, 2)
        assert selection is not None
        look = look_at(binned, None, selection, UNRELIABLE, always)
        assert look.residual is not None
        assert set(look.residual.mean) == {wanted}
    outside = at_point(binned, 3, 11)
    assert outside is not None
    assert look_at(binned, None, outside, UNRELIABLE, always).residual is None


# --- pictures of maps ---


def test_large_maps_are_sent_in_part(monkeypatch):
    assert window_of((3300, 3300), (0, 3299), (0, 3299)) == Window((0, 3300), (0, 3300), 4)
    near = window_of((3300, 3300), (1000, 1400), (2000, 2400))
    assert near.step == 1
    assert near.rows[0] <= 2000 < 2400 < near.rows[1]
    placed = near.place(np.zeros((near.rows[1] - near.rows[0], near.columns[1] - near.columns[0])))
    assert placed["x"] == [near.columns[0] - 0.5]
    assert placed["dh"] == [near.rows[1] - near.rows[0]]
    away = window_of((30, 90), (500, 600), (-500, -400))  # nothing in sight: still a part of the image
    assert 0 <= away.rows[0] < away.rows[1] <= 30
    assert 0 <= away.columns[0] < away.columns[1] <= 90


def test_flags_hide_and_differences_subtract(galaxy):
    whole = (slice(None), slice(None))
    shown = Shown(galaxy, "age_lw").values(whole, UNRELIABLE)
    assert np.isnan(shown[5, 50])
    assert np.isfinite(Shown(galaxy, "age_lw").values(whole, NOT_FITTED)[5, 50])
    kinds = Shown(galaxy, "age_lw").kinds(whole, UNRELIABLE)
    assert (kinds[5, 50], kinds[5, 51], kinds[0, 0]) == (3, 1, 0)
    apart = Shown(galaxy, "age_lw", (galaxy, "age_lw_error"))
    assert apart.values(whole, UNRELIABLE)[20, 30] == pytest.approx(9.2 - 0.1)
    assert apart.style.title == "Age − Error of age"
    assert Shown(galaxy, "age_lw", (galaxy, "age_lw")).style.title == "Δ Age"
    assert not apart.refusal
    refused = Shown(galaxy, "age_lw", (galaxy, "metallicity_lw"))
    assert "age_lw (dex(yr)) and metallicity_lw (dex): their units differ" in refused.refusal
    assert (refused.style.title, refused.style.label) == ("Age − Metallicity", "units differ")
    assert not np.isfinite(refused.values(whole, UNRELIABLE)).any()
    scale = scale_of(apart, UNRELIABLE, ScaleWish(share="98 %"))
    assert scale.low == -scale.high  # white is no difference


def test_scales_do_what_is_wished_if_it_makes_sense(galaxy):
    shown = Shown(galaxy, "snr")
    assert scale_of(shown, UNRELIABLE, ScaleWish(share="all")).high == pytest.approx(10 + 89 + 29)
    own = scale_of(shown, UNRELIABLE, ScaleWish(low=20, high=50, colours="cividis"))
    assert (own.low, own.high) == (20, 50)
    assert own.palette[0] != scale_of(shown, UNRELIABLE, ScaleWish(colours="gray")).palette[0]
    assert scale_of(shown, UNRELIABLE, ScaleWish(low=50, high=20)).low < 20
    metals = scale_of(Shown(galaxy, "metallicity_lw"), UNRELIABLE, ScaleWish(log=True))
    assert 0 < metals.low < metals.high  # half of the values are negative


def test_the_tangential_plane_gives_the_sky_of_the_wcs(galaxy):
    assert galaxy.wcs is not None
    sky = Sky.of(galaxy.wcs, SHAPE)
    for x, y in ((0, 0), (89, 29), (10, 25)):
        wanted = galaxy.wcs.pixel_to_world(x, y).icrs
        assert sky.position(x, y) == (pytest.approx(wanted.ra.deg, abs=1e-7), pytest.approx(wanted.dec.deg, abs=1e-7))
    assert sky.east == pytest.approx((-1, 0), abs=1e-3)
    assert sky.north == pytest.approx((0, 1), abs=1e-3)
    assert sky.scale == pytest.approx(0.2)


# --- words and files ---


def test_numbers_have_the_digits_of_their_errors():
    assert number(9.63213, 0.0823) == "9.632 ± 0.082"
    assert number(-0.2, 0.13) == "\N{MINUS SIGN}0.20 ± 0.13"
    assert number(16177.4, 661.2) == "16,177 ± 661"
    assert number(float("nan"), 0.1) == "–"
    assert number(9.632, float("nan")) == "9.632"
    assert number(-2.1754e-17) == "\N{MINUS SIGN}2.18e\N{MINUS SIGN}17"


def test_compared_numbers_have_the_same_decimals():
    assert alike([9.63213, 9.6300, 0.00213], 0.08) == ["9.632", "9.630", "0.002"]
    assert alike([1.5, 1.50002, -2e-5]) == ["1.500", "1.500", "0.000"]
    assert alike([16177.4, 16100.0, 77.4], 661.2) == ["16,177", "16,100", "77"]
    assert alike([2e-17, float("nan"), float("nan")]) == ["2.00e\N{MINUS SIGN}17", "–", "–"]


def test_flux_units_are_written_as_people_do():
    assert flux_unit(stores.UNIT) == "10⁻²⁰ erg s⁻¹ cm⁻² Å⁻¹"
    assert flux_unit("counts per fortnight") == "counts per fortnight"


def test_names_that_look_like_html_do_not_become_it(folder):
    path = folder / "A.zarr"
    group = stores.write_store(path, stores.simple_maps((3, 4)))
    group["age_lw"].attrs["long_name"] = '"><script>alert(1)</script>'
    found = StoredGalaxy(path)
    selection = at_point(found, 1, 1)
    assert selection is not None
    html = table(found, selection, numbers_of(found, selection, 0), [], 0)
    assert "<script>" not in html
    assert "9.01" in html


def test_a_csv_file_has_a_row_a_spaxel_and_every_map(galaxy):
    region = in_box(galaxy, 50, 51, 5, 6)
    assert region is not None
    text = selection_csv(galaxy, region)
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert any("f" * 64 in line for line in comments)
    assert any("age_lw" in line and "dex(yr)" in line for line in comments)
    rows = list(csv.DictReader(io.StringIO("\n".join(text.splitlines()[len(comments) :]))))
    assert [(int(row["y"]), int(row["x"])) for row in rows] == [(5, 50), (5, 51), (6, 50), (6, 51)]
    assert rows[0]["flags"] == "unlike_training"
    assert rows[1]["age_lw"] == ""
    assert float(rows[2]["age_lw"]) == pytest.approx(9.06)
    wanted = galaxy.wcs.pixel_to_world(50, 6).icrs
    assert float(rows[2]["ra"]) == pytest.approx(wanted.ra.deg, abs=1e-6)
    assert set(galaxy.maps) < set(rows[0])


def test_a_csv_file_of_too_much_is_refused_in_words(galaxy, monkeypatch):
    monkeypatch.setattr("galprote.workflows.viewer.export_csv.MOST", 10)
    region = in_box(galaxy, 0, 10, 0, 10)
    assert region is not None
    with pytest.raises(ViewError, match=r"121 spaxels .*N1_MAPS\.fits"):
        selection_csv(galaxy, region)


def drawn(picture: Picture) -> tuple[np.ndarray, list[Any]]:
    """The picture's pixels, and its axes."""
    axes = []

    class Kept(Figure):
        def savefig(self, *words, **options):
            super().savefig(*words, **options)
            axes.extend(self.axes)

    with mock.patch("galprote.workflows.viewer.export_png.Figure", Kept):
        return imread(io.BytesIO(draw_png(picture)))[..., :3], axes


def pixel(picture: np.ndarray, axes: Any, x: float, y: float) -> tuple[int, int]:
    """Row and column of the pixel at a place of the data."""
    across, up = axes.transData.transform((x, y)) * DPI / axes.get_figure(root=True).dpi
    return int(picture.shape[0] - up), int(across)


def test_the_picture_shows_the_maps_and_the_selection_at_their_places(galaxy):
    """Colours of spaxels in a part of the image that is not square; age grows upwards, [M/H] to the right."""
    spaxel = at_point(galaxy, 30, 12)
    shown = [Shown(galaxy, name) for name in ("age_lw", "metallicity_lw")]
    maps = tuple((each, scale_of(each, UNRELIABLE, ScaleWish()), each.name) for each in shown)
    picture, axes = drawn(Picture(maps, UNRELIABLE, (9.5, 69.5, 4.5, 24.5), spaxel, "Spaxel", "erg", None))
    assert picture.shape[1] > 1000
    for panel, (each, scale, _) in zip(axes, maps, strict=False):
        for y, x in ((6, 11), (6, 68), (23, 11), (23, 68), (14, 40)):
            value = each.values((slice(None), slice(None)), UNRELIABLE)[y, x]
            share = np.clip((value - scale.low) / (scale.high - scale.low), 0, 1)
            wanted = to_rgb(scale.palette[min(255, int(256 * share))])
            np.testing.assert_allclose(picture[pixel(picture, panel, x, y)], wanted, atol=0.02)
        row, column = pixel(picture, panel, 30, 12.5)  # the upper edge of what is selected
        assert picture[row - 1 : row + 2, column].max(axis=1).min() < 0.2
        row, column = pixel(picture, panel, ODD[1], ODD[0])
        np.testing.assert_allclose(picture[row, column], to_rgb(UNTRUSTED_COLOUR), atol=0.02)


def test_the_picture_shows_spectrum_model_and_residual(galaxy):
    """The model's line lies where its numbers are, and so does the residual's."""
    spaxel, no = at_point(galaxy, 30, 12), np.zeros(948, dtype=bool)
    wave = np.sin(np.arange(948) / 150)
    lines = Lines(np.full(948, 5.0), 5 + 2 * wave, -2 * wave, np.full(948, -0.1), np.full(948, 0.1), no, no, no)
    shown = Shown(galaxy, "age_lw")
    maps = ((shown, scale_of(shown, UNRELIABLE, ScaleWish()), "age"),)
    picture, axes = drawn(Picture(maps, UNRELIABLE, (-0.5, 89.5, -0.5, 29.5), spaxel, "Spaxel", "erg", lines))
    upper, lower = (next(each for each in axes if each.get_ylabel() == name) for name in ("flux", "residual"))
    for panel, values, colour in ((upper, lines.model, MODEL), (lower, lines.residual, OBSERVED)):
        for sample in (60, 235, 500, 700, 890):
            row, column = pixel(picture, panel, WAVELENGTH[sample], values[sample])
            near = picture[row - 2 : row + 3, column]
            assert np.abs(near - to_rgb(colour)).max(axis=1).min() < 0.3, (colour, sample)


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
    stores.write_store(path, stores.simple_maps(shape), sky=False)
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
    picture = Picture(((shown, scale_of(shown, 0, ScaleWish()), "age"),), 0, (0, 1, 0, 1), None, "", "", None)
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
