"""The report's pictures: colours, lines and patterns lie where the numbers are."""

import base64
import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from galprote.model.grids import N_WAVELENGTH, WAVELENGTH
from galprote.pipeline.map_styles import STYLES
from galprote.pipeline.quality import Kinds, Status
from galprote.workflows.report import axes, spectra
from galprote.workflows.report.axes import Axes
from galprote.workflows.report.drawing import drawn_here
from galprote.workflows.report.galaxy_maps import GalaxyMaps
from galprote.workflows.report.hatching import HATCHES, paint_map, thin
from galprote.workflows.report.limits import LIMITS
from galprote.workflows.report.lines import known_lines, spread
from galprote.workflows.report.map_picture import map_pictures
from tests import stores
from tests.map_files import sky_header


def image_of(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGBA"))


def kinds_of(shape: tuple[int, int], **where: Any) -> Kinds:
    found = {name: np.zeros(shape, dtype=bool) for name in Kinds._fields}
    for name, place in where.items():
        found[name][place] = True
    return Kinds(**found)


def test_values_have_the_colours_of_the_scale_with_the_first_row_below() -> None:
    style, shape = STYLES["age_lw"], (2, 3)
    values = np.array([[8.0, 9.05, 10.1], [np.nan, 7.0, 11.0]], dtype=np.float32)
    maps = thin(kinds_of(shape), np.ones(shape, dtype=bool))
    picture = image_of(paint_map(values, style, LIMITS["age_lw"], maps, pixels=30))
    assert picture.shape[:2] == (20, 30)
    palette = np.array([[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in style.palette()])
    below, above = picture[15], picture[5]
    for column, place in ((5, 0), (15, 128), (25, 255)):
        assert np.abs(below[column, :3].astype(int) - palette[place]).max() <= 6
    assert above[5, 3] == 0  # nothing: transparent
    np.testing.assert_array_equal(above[15, :3], palette[0])  # beyond the ends: the last colours
    np.testing.assert_array_equal(above[25, :3], palette[255])


def test_a_picture_shows_the_part_with_data_in_its_middle(tmp_path: Path) -> None:
    """Rows 20 to 25 and columns 3 to 12 of 30 x 60 have data: their ends lie as far from the frame on each side."""
    maps = stores.simple_maps((30, 60))
    maps["status"][...] = int(Status.NO_DATA)
    maps["status"][20:26, 3:13] = 0
    stores.write_store(tmp_path / "N.zarr", maps)
    svg = next(iter(map_pictures(GalaxyMaps(tmp_path / "N.zarr")))).svg
    names = (r"<svg width", " height", "><image x", " y", " width", " height")
    found = re.search("".join(rf'{name}="([-\d.]+)"' for name in names), svg)
    assert found is not None
    width, height, x, y, wide, high = map(float, found.groups())
    assert wide / 60 == pytest.approx(high / 30, rel=1e-3)
    left, right, top, bottom = x + wide * 3 / 60, x + wide * 13 / 60, y + high * 4 / 30, y + high * 10 / 30
    assert 0 < left == pytest.approx(width - right, abs=0.1)
    assert 0 < top == pytest.approx(height - bottom, abs=0.1)


@pytest.mark.parametrize(
    ("turn", "north", "east"), [(0, (0, -1), (-1, 0)), (90, (1, 0), (0, -1)), (180, (0, 1), (1, 0))]
)
def test_the_compass_points_north_and_east(
    turn: float, north: tuple[int, int], east: tuple[int, int], tmp_path: Path
) -> None:
    """In a picture y is counted downwards, so north up is (0, -1)."""
    stores.write_store(tmp_path / "N.zarr", stores.simple_maps((30, 40)), header=sky_header((30, 40), turn=turn))
    svg = next(iter(map_pictures(GalaxyMaps(tmp_path / "N.zarr")))).svg
    for letter, wanted in (("N", north), ("E", east)):
        point = r"([\d.]+) ([\d.]+)"
        word = rf'<text x="([\d.]+)" y="([\d.]+)"[^>]*>{letter}<'
        found = re.search(rf'd="M{point}L{point}"[^>]*/><polygon[^>]*/>{word}', svg)
        assert found is not None
        start, tip, name = np.array([float(value) for value in found.groups()]).reshape(3, 2)
        np.testing.assert_allclose(tip - start, 19 * np.array(wanted), atol=0.2)
        np.testing.assert_allclose(name - start, 27 * np.array(wanted) + (0, 4), atol=0.2)


def test_a_fit_s_chart_has_the_model_s_line_where_its_numbers_are() -> None:
    model = 3 + np.sin(np.arange(N_WAVELENGTH) / 120) + 1e-3 * np.arange(N_WAVELENGTH)
    one = np.ones((1, N_WAVELENGTH))
    light = {"grid": np.full((1, 12, 53), 1 / 636), "log_age": [9.0], "log_age_error": [0.1], "metallicity": [0.0],
             "metallicity_error": [0.1]}  # fmt: skip
    fit: Any = SimpleNamespace(
        flux=3.5 * one, error=0.1 * one, model=model[None], used=one > 0, bands=one[0] < 0, masked=one < 0,
        replaced=one < 0, populations=SimpleNamespace(**light), log_ages=np.linspace(7, 10.1, 53),
        metallicities=np.linspace(-2, 0.4, 12),
    )  # fmt: skip
    with drawn_here():
        svg = spectra.draw_fit(fit, "Fit", "words").svg
    found = re.search(r'<path d="([^"]*)"[^>]*style="[^"]*stroke: #d55e00; stroke-width: 1.2', svg)
    assert found is not None
    x, y = np.array(re.findall(r"[ML] (\S+) (\S+)", found[1]), dtype=float).T
    right = spectra.WIDTH - 3.15  # inches; of 4.3, the panel has 2.45 above 1.75
    wavelength = np.interp(x / 72, (spectra.LEFT, right), spectra._ENDS)
    values = np.interp(wavelength, WAVELENGTH, model) / 3.5
    seen = np.append(model / 3.5, 1.0)
    low = seen.min() - 0.22 * np.ptp(seen)
    wanted = 72 * (4.3 - 1.75 - 2.45 * (values - low) / (1.28 * np.ptp(seen)))
    assert len(x) > 50
    assert np.ptp(y) > 100
    np.testing.assert_allclose(y, wanted, atol=0.15)


def test_each_kind_of_spaxel_has_a_pattern_of_its_own_also_in_grey() -> None:
    shape = (4, 40)
    kinds = kinds_of(
        shape, unfitted=np.s_[:, :10], masked=np.s_[:, 10:20], untrusted=np.s_[:, 20:30], doubtful=np.s_[:, 30:]
    )
    maps = thin(kinds, np.ones(shape, dtype=bool))
    picture = image_of(paint_map(np.full(shape, 9.0, np.float32), STYLES["age_lw"], LIMITS["age_lw"], maps, pixels=840))
    grey = np.asarray(Image.fromarray(picture).convert("L")).astype(float)
    parts = [grey[:, start : start + 210] for start in range(0, 840, 210)]
    patterns = [part > part.mean() for part in parts]
    assert all(np.ptp(part) > 60 for part in parts)  # lines are seen on their ground
    for one, pattern in enumerate(patterns):
        for other in patterns[one + 1 :]:
            assert (pattern != other).mean() > 0.1
    assert len({hatch.words for hatch in HATCHES}) == 4


def test_numbers_at_a_chart_s_right_end_are_not_cut_off() -> None:
    svg = Axes((150.0, 10_000.0), (0.0, 5.0), x_log=True).chart([], "x", "y")
    middle = float(re.findall(r'<text x="([\d.]+)"[^>]*>10,000<', svg)[0])
    assert middle + 12 * 0.636 * len("10,000") / 2 < axes.WIDTH  # of 12 px, digits of DejaVu Sans are 0.636 wide


@pytest.mark.parametrize(("doubtful", "dotted"), [(18, True), (19, False)])
def test_a_pattern_on_most_of_the_fitted_spaxels_is_left_to_the_map_of_flags(doubtful: int, dotted: bool) -> None:
    """Of 4 x 10 spaxels 36 are fitted; every one of the 40 has a value of the same colour."""
    kinds = kinds_of((4, 10), unfitted=np.s_[0, :4])
    kinds.doubtful.flat[4 : 4 + doubtful] = True
    maps, values = thin(kinds, np.ones((4, 10), dtype=bool)), np.full((4, 10), 9.0, np.float32)
    for name in ("age_lw", "metallicity_lw", "av", "residual_rms"):
        style = STYLES[name]
        fitted = image_of(paint_map(values, style, (8.0, 10.0), maps, pixels=400))[:120]  # without the row below
        assert (len(np.unique(fitted.reshape(-1, 4), axis=0)) > 1) is dotted
    flags = image_of(paint_map(None, STYLES["snr"], (1.0, 10.0), maps, pixels=400))
    assert {0, 255} <= set(flags[:120, :, :3].ravel())  # black and white


def test_large_maps_are_thinned_to_means_and_majorities() -> None:
    shape = (1000, 700)
    data = np.ones(shape, dtype=bool)
    data[:3] = False
    kinds = kinds_of(shape, masked=np.s_[3:5, :], unfitted=np.s_[6:9, 0:2])
    maps = thin(kinds, data)
    assert maps.step == 3
    assert maps.data.shape == (334, 234)
    assert not maps.data[0].any()
    assert maps.kinds.masked[1].all()  # two rows of three
    assert maps.kinds.unfitted[2, 0]
    assert maps.kinds.unfitted.sum() == 1
    values = np.where(data, np.indices(shape)[1], np.nan).astype(np.float32)
    mean = maps.mean(values)
    np.testing.assert_allclose(mean[5, :233], 1 + 3 * np.arange(233))
    assert np.isnan(mean[0]).all()
    assert len(paint_map(mean, STYLES["flux"], (1, 700), maps)) < 200_000


@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=12).map(sorted),
    st.lists(st.floats(0.5, 8), min_size=12, max_size=12),
)
@settings(max_examples=60, deadline=None)
def test_names_keep_their_order_and_do_not_overlap(places: list[float], widths: list[float]) -> None:
    widths = widths[: len(places)]
    centres = spread(places, widths, 0.0, 100.0)
    left, right = np.array(centres) - np.array(widths) / 2, np.array(centres) + np.array(widths) / 2
    assert np.all(left[1:] >= right[:-1] - 1e-6)
    assert left[0] >= -1e-6
    assert right[-1] <= 100 + 1e-6  # twelve names of 8 fit
    alone = spread([50.0], [4.0], 0.0, 100.0)
    assert alone == [50.0]


def test_lines_of_the_sky_move_against_the_galaxy_s() -> None:
    lines = {line.name: line for line in known_lines(0.01, 4750, 7100)}
    assert lines["Hα"].wavelength == 6562.80
    assert not lines["Hα"].sky
    assert lines["sky 5577"].wavelength == pytest.approx(5577.34 / 1.01)
    assert lines["sky 5577"].sky
    assert "sky OH" not in {line.name for line in known_lines(0.01, 4750, 6700)}
