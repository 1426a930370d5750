"""`ds.galprote.plot`: colours and words of the figure, north up and east left whichever way the pixels lie."""

import io
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from astropy import units as u
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgba

from galprote.pipeline.map_plot import PlotError
from galprote.pipeline.map_styles import STYLES, UNTRUSTED_COLOUR
from galprote.pipeline.map_wcs import SkyError
from galprote.pipeline.quality import Status
from tests.discs import CENTRE, attributes, disc_maps, distrust

mpl.use("Agg")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def test_colours_limits_and_words_are_those_of_the_figure() -> None:
    maps = disc_maps()
    axes = maps.galprote.plot("age_lw")
    image, style = axes.images[0], STYLES["age_lw"]
    assert image.get_clim() == style.limits(style.values(maps["age_lw"].values, maps["status"].values))
    np.testing.assert_array_equal(image.get_cmap()(np.linspace(0, 1, 9)), style.colour_map()(np.linspace(0, 1, 9)))
    np.testing.assert_array_equal(image.get_array(), maps["age_lw"].values)
    (bar,) = axes.child_axes
    assert bar.get_ylabel() == style.label
    assert axes.get_title(loc="left") == "DISC  Age"
    assert {"N", "E"} <= {text.get_text() for text in axes.texts}
    assert maps.galprote.plot("flux").child_axes[0].get_ylabel().startswith("$10^{-20}$ erg")
    assert maps.galprote.plot("age_lw", limits=(9, 10)).images[0].get_clim() == (9, 10)


@settings(max_examples=6)
@given(
    angle=st.floats(-180, 180), parity=st.sampled_from([-1.0, 1.0]), flip=st.sampled_from([(1, 1), (-1, 1), (-1, -1)])
)
def test_north_is_up_and_east_is_left_of_it(angle: float, parity: float, flip: tuple[int, int]) -> None:
    maps = disc_maps((20, 30), angle=angle, parity=parity)
    maps = maps.isel(y=slice(None, None, flip[0]), x=slice(None, None, flip[1]))
    axes = maps.galprote.plot("age_lw", colorbar=False)
    wcs = maps.galprote.wcs
    places = [CENTRE, *(CENTRE.directional_offset_by(turn * u.deg, 1 * u.arcsec) for turn in (0, 90))]
    centre, north, east = (axes.transData.transform(np.array(wcs.world_to_pixel(place))) for place in places)
    north, east = north - centre, east - centre
    assert north[1] >= -1e-6 * np.hypot(*north)
    assert east[0] * north[1] - east[1] * north[0] < 0  # counter-clockwise of it
    notes: list[Any] = [text for text in axes.texts if text.get_text() in "NE"]
    arrows = {note.get_text(): np.array(note.xyann) - np.array(note.xy) for note in notes}
    size = axes.get_window_extent()
    for name, wanted in (("N", north), ("E", east)):
        drawn = arrows[name] * (size.width, size.height)
        assert float(drawn @ wanted) / np.hypot(*drawn) / np.hypot(*wanted) == pytest.approx(1, abs=0.02)
    plt.close(axes.figure)


def test_contours_and_positions_fit_on_top() -> None:
    maps = disc_maps((40, 50)).isel(y=slice(10, 40), x=slice(5, 45, 2))
    axes = maps.galprote.plot("age_lw")
    assert axes.images[0].get_extent() == [-0.5, 19.5, -0.5, 29.5]
    axes.contour(maps["flux"].values)
    x, y = maps.galprote.wcs.world_to_pixel(CENTRE)
    assert (y, x) == pytest.approx(((39 / 2 - 10), (49 / 2 - 5) / 2), abs=1e-6)


def hatching(axes: Any) -> list[Any]:
    """Pictures of untrusted spaxels in which something is painted."""
    found = [image for image in axes.images if image.cmap(0) == to_rgba(UNTRUSTED_COLOUR)]
    return [image for image in found if np.ma.count(image.get_array())]


def test_what_is_not_trusted_is_left_out_hatched_or_shown() -> None:
    maps = disc_maps()
    distrust(maps, slice(5, 10), slice(5, 10))
    grey = maps.galprote.plot("age_lw")
    assert np.ma.getmaskarray(grey.images[0].get_array())[7, 7]
    painted = [image for image in grey.images if image.cmap(0) == to_rgba(UNTRUSTED_COLOUR)]
    assert int(painted[0].get_array().count()) == 25
    assert [text.get_text() for text in grey.get_legend().get_texts()] == ["not trusted"]
    hatched = maps.galprote.plot("age_lw", untrusted="hatch")
    assert not np.ma.getmaskarray(hatched.images[0].get_array())[7, 7]
    (lines,) = hatching(hatched)
    drawn = ~np.ma.getmaskarray(lines.get_array())
    factor = drawn.shape[0] // 60
    assert drawn.shape == (60 * factor, 64 * factor)
    assert lines.get_extent() == [-0.5, 63.5, -0.5, 59.5]
    inside = (slice(5 * factor, 10 * factor),) * 2
    assert 0.1 < drawn[inside].mean() < 0.4  # values are seen between the lines
    assert drawn[inside].sum() == drawn.sum()
    assert [patch.get_hatch() for patch in hatched.get_legend().legend_handles] == ["////"]
    shown = maps.galprote.plot("age_lw", untrusted="show")
    assert not hatching(shown)
    assert shown.get_legend() is None
    assert not np.ma.getmaskarray(maps.galprote.plot("flux").images[0].get_array()).any()


def test_whole_numbers_are_no_values_where_there_are_no_data() -> None:
    maps = disc_maps((12, 14))
    maps["replaced_samples"] = (("y", "x"), np.zeros((12, 14), np.int16))
    maps["status"].values[:3] = int(Status.NO_DATA)
    maps["status"].values[3] = int(Status.LOW_SNR)
    for untrusted in ("grey", "hatch", "show"):
        shown = ~np.ma.getmaskarray(maps.galprote.plot("replaced_samples", untrusted=untrusted).images[0].get_array())
        np.testing.assert_array_equal(shown, np.arange(12)[:, None] >= np.full(14, 3))  # measured, though not fitted


@pytest.mark.parametrize("side", [600, 1300])
def test_a_hatching_of_a_large_map_is_one_picture(side: int) -> None:
    flagged = np.where(np.random.default_rng(1).random((side, side)) < 0.3, int(Status.UNLIKE_TRAINING), 0)
    flagged[: side // 2, : side // 2] = int(Status.UNLIKE_TRAINING)
    maps = xr.Dataset({"age_lw": (("y", "x"), np.zeros((side, side), np.float32)), "status": (("y", "x"), flagged)})
    maps = maps.assign_coords(y=np.arange(side), x=np.arange(side)).assign_attrs(attributes(""))
    axes = maps.galprote.plot("age_lw", untrusted="hatch", legend=False)
    assert len(axes.get_children()) < 30
    assert not axes.collections
    drawn = ~np.ma.getmaskarray(hatching(axes)[0].get_array())
    assert drawn.shape == (side, side)
    assert not drawn[flagged == 0].any()
    row = drawn[3, : side // 2]
    assert np.diff(row.astype(int)).clip(0).sum() == pytest.approx(840 / 14 / 2, abs=2)  # as in any other map


def test_values_fade_as_their_errors_grow() -> None:
    maps = disc_maps()
    maps["age_lw_error"].values[:] = np.linspace(0, 1, 64)
    image = maps.galprote.plot("age_lw", fade=True, limits=(8.0, 10.0)).images[0]
    opacity = np.asarray(image.get_alpha())
    assert (np.diff(opacity[0]) < 0).all()
    assert opacity[0, 0] == 1
    assert np.interp(0.5, np.linspace(0, 1, 64), opacity[0]) == pytest.approx(0.5, abs=0.01)
    with pytest.raises(PlotError, match="flux has no error map"):
        maps.galprote.plot("flux", fade=True)


@pytest.mark.parametrize("wcs_axes", [False, True])
def test_every_map_and_shape_can_be_drawn(wcs_axes: bool) -> None:
    maps = disc_maps((12, 14), angle=10.0)
    maps["bin_id"] = (("y", "x"), np.arange(168).reshape(12, 14) - 1)
    maps["mine"] = maps["flux"] * np.nan
    parts = (maps, maps.isel(y=3), maps.isel(y=3, x=slice(4, 5)), maps.isel(x=2))
    for part, name in zip(parts, ("age_lw", "status", "bin_id", "mine"), strict=True):
        axes = part.galprote.plot(name, wcs_axes=wcs_axes)
        axes.figure.savefig(io.BytesIO(), format="png", dpi=30)
        plt.close(axes.figure)


def test_without_a_sky_there_is_no_compass() -> None:
    maps = disc_maps((12, 14)).drop_vars(["ra", "dec"]).assign_attrs(wcs_header="")
    assert not maps.galprote.plot("age_lw").texts
    with pytest.raises(PlotError, match="no celestial WCS"):
        maps.galprote.plot("age_lw", wcs_axes=True)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"name": "age"}, "no map 'age'"),
        ({"name": "agelw"}, r"there are age_lw, age_lw_error, flux, .*, status; did you mean age_lw\?$"),
        ({"name": ["age_lw"]}, r"\['age_lw'\]: expected the name of one map, such as 'age_lw'; ask for each by itself"),
        ({"untrusted": "red"}, "grey, hatch, show"),
        ({"name": "flux", "limits": (0, 10)}, "above 0, for flux has a logarithmic scale"),
        ({"limits": (8, np.nan)}, "expected two finite numbers"),
    ],
)
def test_what_cannot_be_drawn_says_why(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(PlotError, match=words):
        disc_maps((12, 12)).galprote.plot(**asked)


def test_a_cube_needs_a_wavelength() -> None:
    maps = disc_maps((12, 14))
    maps["residual"] = (("wavelength", "y", "x"), np.ones((3, 12, 14)))
    with pytest.raises(SkyError, match=r"residual is no map: choose first, .sel\(wavelength="):
        maps.galprote.plot("residual")
    with pytest.raises(PlotError, match=r"density, status; did you mean"):  # no cube can be drawn
        maps.galprote.plot("flx")
    maps.isel(wavelength=1).galprote.plot("residual")
