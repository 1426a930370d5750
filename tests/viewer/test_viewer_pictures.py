"""The viewer's maps and the pictures that it saves: values, flags, scales and lines at their places."""

import io
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from galprote.model.grids import WAVELENGTH
from galprote.pipeline.map_styles import UNTRUSTED_COLOUR
from galprote.pipeline.quality import NOT_FITTED, UNRELIABLE, Status
from galprote.workflows.viewer.export_png import DPI, Picture, draw_png
from galprote.workflows.viewer.grid_view import Light
from galprote.workflows.viewer.look import Lines
from galprote.workflows.viewer.scales import ScaleWish, scale_of
from galprote.workflows.viewer.selection import at_point
from galprote.workflows.viewer.shown_map import Shown, Window, window_of
from galprote.workflows.viewer.sky import Sky
from galprote.workflows.viewer.spectrum_view import MODEL, OBSERVED, SpectrumView
from galprote.workflows.viewer.stored import StoredGalaxy
from tests import stores
from tests.viewer_galaxies import ODD, SHAPE

# --- maps ---


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
    equal = scale_of(Shown(galaxy, "age_lw", (galaxy, "age_lw")), UNRELIABLE, ScaleWish())
    assert (equal.low, equal.high) == (-1, 1)
    assert (refused.style.title, refused.style.label) == ("Age − Metallicity", "nothing to show")
    assert not np.isfinite(refused.values(whole, UNRELIABLE)).any()
    scale = scale_of(apart, UNRELIABLE, ScaleWish(share="98 %"))
    assert scale.low == -scale.high  # white is no difference


def test_a_flag_of_either_run_hides_a_difference(tmp_path):
    bits, whole = int(Status.UNLIKE_TRAINING), (slice(None), slice(None))
    for name, place in (("A", (0, 1)), ("B", (2, 3))):
        stores.write_store(tmp_path / f"{name}.zarr", stores.simple_maps((4, 5), flagged=((*place, bits),)))
    one, other = (StoredGalaxy(tmp_path / f"{name}.zarr") for name in "AB")
    apart = Shown(one, "age_lw", (other, "age_lw"))
    values = apart.values(whole, bits)
    assert sorted(map(tuple, np.argwhere(np.isnan(values)))) == [(0, 1), (2, 3)]
    assert np.nanmax(np.abs(values)) == 0
    assert sorted(map(tuple, np.argwhere(apart.kinds(whole, bits) == 3))) == [(0, 1), (2, 3)]  # and is grey


def test_scales_do_what_is_wished_if_it_makes_sense(galaxy):
    shown = Shown(galaxy, "snr")
    assert scale_of(shown, UNRELIABLE, ScaleWish(share="all")).high == pytest.approx(10 + 89 + 29)
    own = scale_of(shown, UNRELIABLE, ScaleWish(low=20, high=50, colours="cividis"))
    assert (own.low, own.high) == (20, 50)
    assert own.palette[0] != scale_of(shown, UNRELIABLE, ScaleWish(colours="gray")).palette[0]
    assert not own.refused
    crossed = scale_of(shown, UNRELIABLE, ScaleWish(low=50, high=20))
    assert crossed.low < 20
    assert crossed.refused == "min 50 is not below max 20: the map has its own limits."
    assert scale_of(shown, UNRELIABLE, ScaleWish(low=1e4)).refused.startswith("min 10000 is not below max 1")
    below = scale_of(shown, UNRELIABLE, ScaleWish(low=-1, log=True))
    assert below.refused.startswith("min \N{MINUS SIGN}1 is not above 0")


def test_values_without_a_logarithm_are_drawn_as_none_and_counted(galaxy):
    """Those of [M/H] grow along the rows, from below 0 to above."""
    whole = (slice(None), slice(None))
    linear = Shown(galaxy, "metallicity_lw")
    metals = scale_of(linear, UNRELIABLE, ScaleWish(log=True))
    assert 0 < metals.low < metals.high
    logarithmic = replace(linear, positive=True)
    raw, shown = (each.values(whole, UNRELIABLE) for each in (linear, logarithmic))
    left_out = raw <= 0
    assert 0.1 < left_out[np.isfinite(raw)].mean() < 0.9
    assert metals.unshown.startswith(f"{100 * left_out[np.isfinite(raw)].mean():.0f} % of the values are 0 or less")
    assert np.array_equal(np.isnan(shown), np.isnan(raw) | left_out)
    assert (logarithmic.kinds(whole, UNRELIABLE)[left_out] == 1).all()
    assert not (linear.kinds(whole, UNRELIABLE)[left_out] == 1).any()
    assert not scale_of(Shown(galaxy, "snr"), UNRELIABLE, ScaleWish(log=True)).unshown


def test_two_runs_of_one_quantity_have_the_same_colours(tmp_path):
    maps = stores.simple_maps((6, 8))
    for name, shift in (("A", 0.0), ("B", 0.4)):
        stores.write_store(tmp_path / f"{name}.zarr", maps | {"age_lw": maps["age_lw"] + np.float32(shift)})
    one, other = (Shown(StoredGalaxy(tmp_path / f"{name}.zarr"), "age_lw") for name in "AB")
    for share in ("auto", "all"):
        wish = ScaleWish(share=share)
        alone = [scale_of(shown, 0, wish) for shown in (one, other)]
        both = [scale_of(one, 0, wish, other), scale_of(other, 0, wish, one)]
        assert both[0] == both[1]
        assert alone[0] != alone[1]
        assert (both[0].low, both[0].high) == (pytest.approx(alone[0].low), pytest.approx(alone[1].high))
    unlike = Shown(other.galaxy, "snr")
    assert scale_of(one, 0, ScaleWish(), unlike) == scale_of(one, 0, ScaleWish())


def test_the_tangential_plane_gives_the_sky_of_the_wcs(galaxy):
    assert galaxy.wcs is not None
    sky = Sky.of(galaxy.wcs, SHAPE)
    for x, y in ((0, 0), (89, 29), (10, 25)):
        wanted = galaxy.wcs.pixel_to_world(x, y).icrs
        assert sky.position(x, y) == (pytest.approx(wanted.ra.deg, abs=1e-7), pytest.approx(wanted.dec.deg, abs=1e-7))
    assert sky.east == pytest.approx((-1, 0), abs=1e-3)
    assert sky.north == pytest.approx((0, 1), abs=1e-3)
    assert sky.scale == pytest.approx(0.2)


# --- pictures that are saved ---


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
    maps = tuple((each, scale_of(each, UNRELIABLE, ScaleWish())) for each in shown)
    picture, axes = drawn(Picture(maps, UNRELIABLE, (9.5, 69.5, 4.5, 24.5), spaxel, "Spaxel"))
    assert picture.shape[1] > 1000
    for panel, (each, scale) in zip(axes, maps, strict=False):
        for y, x in ((6, 11), (6, 68), (23, 11), (23, 68), (14, 40)):
            value = each.values((slice(None), slice(None)), UNRELIABLE)[y, x]
            share = np.clip((value - scale.low) / (scale.high - scale.low), 0, 1)
            wanted = to_rgb(scale.palette[min(255, int(256 * share))])
            np.testing.assert_allclose(picture[pixel(picture, panel, x, y)], wanted, atol=0.02)
        row, column = pixel(picture, panel, 30, 12.5)  # the upper edge of what is selected
        assert picture[row - 1 : row + 2, column].max(axis=1).min() < 0.2
        row, column = pixel(picture, panel, ODD[1], ODD[0])
        np.testing.assert_allclose(picture[row, column], to_rgb(UNTRUSTED_COLOUR), atol=0.02)


def test_the_picture_names_the_runs_and_what_made_them(tmp_path):
    maps = stores.simple_maps((6, 8))
    for name in ("one", "two"):
        stores.write_store(tmp_path / name / "N1.zarr", maps)
    one, two = (StoredGalaxy(tmp_path / name / "N1.zarr") for name in ("one", "two"))
    two.about["provenance"] = str(two.about["provenance"]).replace("c" * 64, "d" * 64).replace("0.1.0", "0.2.0")
    mean = {"log_age": 9.0, "log_age_error": 0.1, "metallicity": 0.0, "metallicity_error": np.nan}
    light = Light(np.full((12, 53), 1 / 636), np.linspace(7.5, 10.2, 53), np.linspace(-2, 0.4, 12), mean, "Light")
    nothing, no = np.full(948, np.nan), np.zeros(948, dtype=bool)
    lines = Lines(*5 * [nothing], no, no, no)
    for pair, titles, runs, made in (
        ([Shown(one, "age_lw"), Shown(one, "snr")], ["Age", "Signal to noise"], "N1.zarr",
         "galprote 0.1.0, weights cccccccc"),
        ([Shown(one, "age_lw"), Shown(two, "age_lw")], ["A: Age", "B: Age"], "A: one/N1.zarr      B: two/N1.zarr",
         "A: galprote 0.1.0, weights cccccccc      B: galprote 0.2.0, weights dddddddd"),
        ([Shown(one, "snr"), Shown(one, "snr", (two, "snr"))], ["A: Signal to noise", "A − B: Signal to noise"],
         "A: one/N1.zarr      B: two/N1.zarr", "weights dddddddd"),
    ):  # fmt: skip
        shown = tuple((each, scale_of(each, 0, ScaleWish())) for each in pair)
        _, axes = drawn(Picture(shown, 0, (-0.5, 7.5, -0.5, 5.5), lines=lines, light=light))
        assert [each.get_title(loc="left").replace("\N{MINUS SIGN}", "−") for each in axes[:2]] == titles
        texts = [text.get_text() for text in axes[0].figure.texts]
        assert "N1" in texts
        assert any(text.endswith(runs) for text in texts), texts
        assert texts[-1].endswith(made)
        for each in axes[:2]:
            assert {"N", "E"} < {text.get_text() for text in each.texts}
            assert any(text.get_text().endswith("″") for text in each.texts)
        assert axes[-1].get_title(loc="left") == "Light"


def test_the_picture_shows_spectrum_model_and_residual(galaxy):
    """The model's line lies where its numbers are, and so does the residual's."""
    spaxel, no = at_point(galaxy, 30, 12), np.zeros(948, dtype=bool)
    wave = np.sin(np.arange(948) / 150)
    sigma, shades = np.full(948, 0.1), [no.copy() for _ in range(3)]
    for shade, first in zip(shades, (100, 300, 800), strict=True):
        shade[first : first + 5] = True
    lines = Lines(np.full(948, 5.0), 5 + 2 * wave, -2 * wave, -sigma, sigma, *shades)
    shown = Shown(galaxy, "age_lw")
    maps = ((shown, scale_of(shown, UNRELIABLE, ScaleWish())),)
    view = (-0.5, 89.5, -0.5, 29.5)
    picture, axes = drawn(Picture(maps, UNRELIABLE, view, spaxel, "Spaxel", "", "erg", lines, (4760, 7100)))
    upper, lower = (next(each for each in axes if each.get_ylabel() == name) for name in ("flux", "residual"))
    assert upper.get_xlim() == lower.get_xlim() == (4760, 7100)
    page = SpectrumView()
    page.show(lines, "", "")
    for panel, shown_axis in ((upper, page.upper.y_range), (lower, page.lower.y_range)):
        assert panel.get_ylim() == (pytest.approx(shown_axis.start), pytest.approx(shown_axis.end))
    legend = [text.get_text() for text in upper.get_legend().get_texts()]
    assert legend == ["observed", "model", "noise ±1σ", "not used", "masked or no data", "replaced"]
    for panel, values, colour in ((upper, lines.model, MODEL), (lower, lines.residual, OBSERVED)):
        for sample in (60, 235, 500, 700, 890):
            row, column = pixel(picture, panel, WAVELENGTH[sample], values[sample])
            near = picture[row - 2 : row + 3, column]
            assert np.abs(near - to_rgb(colour)).max(axis=1).min() < 0.3, (colour, sample)
