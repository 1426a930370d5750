"""The figure of the maps: right for every shape and without values, north where it is, the same bytes every time."""

import io
import json
import struct
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import zarr
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from galprote.pipeline.figure_labels import flux_label, plain
from galprote.pipeline.map_panel import draw_compass, plan_canvas
from galprote.pipeline.map_styles import (
    DOUBTFUL_COLOUR,
    MASKED_COLOUR,
    STYLES,
    UNFITTED_COLOUR,
    UNTRUSTED_COLOUR,
    log_limits,
    nice_limits,
    style_of,
)
from galprote.pipeline.products import EVERY_MAP, MAPS
from galprote.pipeline.quality import UNRELIABLE, Kinds, Status
from galprote.pipeline.store import write_array
from galprote.workflows.figure import LARGEST, PANEL, PANELS, draw_figure, draw_maps

MUSE_UNIT = "10**(-20)*erg/s/cm**2/Angstrom"
Maps = dict[str, NDArray[Any]]


def sky_header(angle: float = 0.0, parity: float = -1.0) -> str:
    """0.2 arcsec pixels; north is `angle` degrees counter-clockwise of up, if east is left (parity -1)."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cunit = [184.7, 14.4], [12.0, 10.0], ["deg", "deg"]
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    # World = diag(parity, 1) R(-angle) pixel: the pixel direction R(angle) (0, 1) has no right ascension.
    wcs.wcs.cd = np.diag([parity, 1.0]) @ np.array([[cosine, sine], [-sine, cosine]]) * 0.2 / 3600
    return str(wcs.to_header().tostring(endcard=False, padding=False))


def attributes(**changed: Any) -> dict[str, Any]:
    record = {"versions": {"galprote": "1.2.3"}, "checkpoint_sha256": "0123456789abcdef" * 4}
    about = {"galaxy": "NGC1", "redshift": 0.00803, "flux_unit": MUSE_UNIT, "wcs_header": sky_header()}
    return about | {"provenance": json.dumps(record)} | changed


def make_maps(ny: int = 20, nx: int = 24) -> Maps:
    """Smooth maps with one spaxel of each kind that is drawn in a colour of its own."""
    y, x = np.mgrid[:ny, :nx].astype(np.float32)
    slope = (x + y) / (ny + nx)
    maps: Maps = {p.name: slope.astype(p.dtype) for p in MAPS}
    maps |= {"age_lw": 8.5 + slope, "flux": 100 * np.exp(-3 * slope), "snr": 50 * np.exp(-slope)}
    status = np.zeros((ny, nx), np.int32)
    kinds = (Status.LOW_SNR, Status.STAR_MASK, Status.POOR_FIT, Status.UNLIKE_TRAINING | Status.STAR_LIKE)
    status.flat[:4] = kinds[: status.size]
    maps["status"] = status
    for name in ("age_lw", "metallicity_lw", "av", "residual_rms"):
        maps[name].flat[:2] = np.nan
    return maps


def empty_maps(ny: int, nx: int) -> Maps:
    maps: Maps = {p.name: np.full((ny, nx), np.nan, np.float32) for p in MAPS}
    return maps | {"status": np.full((ny, nx), Status.NO_DATA, np.int32)}


def make_store(folder: Path, maps: Maps, about: dict[str, Any]) -> Path:
    group = zarr.create_group(folder / "NGC1.zarr", zarr_format=3, attributes=about)
    for name, values in maps.items():
        write_array(group, name, ("y", "x"), values, {})
    return folder / "NGC1.zarr"


def rendered(figure: Figure, dpi: int = 40) -> NDArray[np.uint8]:
    file = io.BytesIO()
    figure.savefig(file, format="raw", dpi=dpi)
    width, height = (round(size * dpi) for size in figure.get_size_inches())
    return np.frombuffer(file.getvalue(), np.uint8).reshape(-1, int(width), 4)[: int(height)]


def panel_axes(figure: Figure) -> dict[str, Any]:
    """The axes of each panel, by the name of its map (each is followed by its colour bar)."""
    return {panel.name: axes for panel, axes in zip(PANELS, figure.axes[::2], strict=True)}


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_the_picture_is_complete_and_nothing_else_is_left(tmp_path: Path) -> None:
    store = make_store(tmp_path, make_maps(), attributes())
    draw_maps(store, tmp_path / "NGC1_maps.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["NGC1.zarr", "NGC1_maps.png"]
    data = (tmp_path / "NGC1_maps.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", data[16:24])
    assert width > 1500
    assert height > 1000


def test_equal_stores_give_equal_bytes_whatever_the_users_style(tmp_path: Path) -> None:
    store = make_store(tmp_path, make_maps(), attributes())
    draw_maps(store, tmp_path / "first.png")
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "black", "image.cmap": "jet", "savefig.bbox": "tight"}):
        draw_maps(store, tmp_path / "second.png")
    first = (tmp_path / "first.png").read_bytes()
    assert first == (tmp_path / "second.png").read_bytes()
    assert b"Software" not in first
    assert b"tIME" not in first


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(tmp_path, make_maps(), attributes())

    def fail(_: Figure, file: Path, **__: Any) -> None:
        file.write_bytes(b"half a pict")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        draw_maps(store, tmp_path / "maps.png")
    assert [path.name for path in tmp_path.iterdir()] == ["NGC1.zarr"]


def test_the_words_say_what_and_with_what() -> None:
    figure = draw_figure(make_maps(), attributes())
    words = " ".join(texts(figure))
    for wanted in ("NGC1", "0.00803", "478 spaxels fitted", "galprote 1.2.3", "01234567"):
        assert wanted in words
    assert "012345678" not in words
    labels = [axes.get_ylabel() for axes in figure.axes[1::2]]
    assert all(labels)
    assert "erg s$^{-1}$ cm$^{-2}$ Å$^{-1}$" in labels[6]


@pytest.mark.parametrize("shape", [(20, 24), (3, 200), (200, 3), (1, 1), (2, 1)])
@pytest.mark.parametrize("make", [make_maps, empty_maps])
def test_every_shape_fits_the_page(shape: tuple[int, int], make: Any) -> None:
    figure = draw_figure(make(*shape), attributes(galaxy="N" * 100))
    width, height = figure.get_size_inches()
    assert width <= LARGEST[0] + 1e-6
    assert height <= LARGEST[1] + 1e-6
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    page = figure.bbox.padded(1)
    for text in figure.texts:
        box = text.get_window_extent(renderer)
        assert page.x0 <= box.x0 <= box.x1 <= page.x1, text.get_text()


def test_without_a_sky_there_is_no_compass_and_no_scale() -> None:
    with_sky, without = (draw_figure(make_maps(), attributes(wcs_header=text)) for text in (sky_header(), ""))
    assert [text.get_text() for text in panel_axes(without)["age_lw"].texts] == []
    assert sorted(text.get_text() for text in panel_axes(with_sky)["age_lw"].texts) == ["1″", "E", "N"]


@settings(max_examples=40)
@given(angle=st.floats(-180, 180), parity=st.sampled_from([-1.0, 1.0]))
def test_the_compass_points_north_and_east(angle: float, parity: float) -> None:
    axes = Figure().add_axes((0, 0, 1, 1))
    canvas = plan_canvas(np.ones((20, 24), bool), *PANEL)
    draw_compass(axes, WCS(fits.Header.fromstring(sky_header(angle, parity))), (0, 0), canvas, [])
    arrows = {}
    for note in axes.texts:
        tip, foot = np.array(note.xyann), np.array(note.xy)  # type: ignore[attr-defined]
        arrows[note.get_text()] = (tip - foot) * (canvas.width, canvas.height) / 0.4
    turn = np.radians(angle)
    np.testing.assert_allclose(arrows["N"], (-np.sin(turn), np.cos(turn)), atol=1e-4)
    np.testing.assert_allclose(arrows["E"], parity * np.array([np.cos(turn), np.sin(turn)]), atol=1e-4)


def test_the_scale_bar_is_as_long_as_it_says() -> None:
    axes = panel_axes(draw_figure(make_maps(), attributes()))["age_lw"]
    (line,) = axes.lines
    left, right = axes.get_xlim()
    arcsec = np.ptp(line.get_xdata()) * (right - left) * 0.2
    assert f"{arcsec:g}″" in [text.get_text() for text in axes.texts]


def test_colours_tell_unfitted_masked_and_doubtful_spaxels() -> None:
    figure = draw_figure(make_maps(), attributes(wcs_header=""))
    image = rendered(figure, dpi=80)

    def colour(name: str, x: float, y: float) -> NDArray[np.floating[Any]]:
        axes = panel_axes(figure)[name]
        across, up = axes.transData.transform((x, y)) * 80 / figure.dpi
        return image[len(image) - 1 - int(up), int(across), :3] / 255

    for panel in ("age_lw", "metallicity_lw", "av", "residual_rms"):
        assert colour(panel, 0, 0) == pytest.approx(to_rgb(UNFITTED_COLOUR), abs=0.01)
        assert colour(panel, 1, 0) == pytest.approx(to_rgb(MASKED_COLOUR), abs=0.01)
        assert colour(panel, 3, 0) == pytest.approx(to_rgb(UNTRUSTED_COLOUR), abs=0.01)
    for panel in ("flux", "snr"):
        assert colour(panel, 3, 0) != pytest.approx(to_rgb(UNTRUSTED_COLOUR), abs=0.05)
    assert colour("residual_rms", 2, 0) == pytest.approx(to_rgb(DOUBTFUL_COLOUR), abs=0.01)
    assert colour("age_lw", 2, 0) != pytest.approx(to_rgb(DOUBTFUL_COLOUR), abs=0.05)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["not fitted", "masked", "not trusted, left out", "doubtful fit"]


def test_what_is_not_trusted_does_not_set_the_colours_limits() -> None:
    """A star of age 5 in a galaxy of 8.5 to 9.5."""
    maps = make_maps()
    maps["status"][:10, :5] = Status.UNLIKE_TRAINING | Status.STAR_LIKE
    sound = panel_axes(draw_figure(maps, attributes()))["age_lw"].images[0].get_clim()
    maps["age_lw"][:10, :5] = 5.0
    assert panel_axes(draw_figure(maps, attributes()))["age_lw"].images[0].get_clim() == sound
    maps["status"][:10, :5] = Status.AGE_BOUNDARY
    assert panel_axes(draw_figure(maps, attributes()))["age_lw"].images[0].get_clim() != sound


@given(st.lists(st.integers(0, 2**21 - 1), min_size=1, max_size=30))
def test_a_spaxel_is_of_one_kind_and_only_doubtful_values_are_shown(bits: list[int]) -> None:
    status = np.array([bits], np.int32)
    kinds = Kinds.of(status)
    assert (np.sum(kinds, axis=0) <= 1).all()
    left_out = kinds.unfitted | kinds.masked | kinds.untrusted | ((status & Status.NO_DATA) > 0)
    np.testing.assert_array_equal(left_out, (status & UNRELIABLE) > 0)


def test_the_empty_border_of_a_cube_is_not_shown() -> None:
    seen = np.zeros((100, 80), bool)
    seen[30:50, 20:60] = True
    left, right, bottom, top = plan_canvas(seen, *PANEL).extent
    assert left < 19.5 < 59.5 < right < 62
    assert 26 < bottom < 29.5 < 49.5 < top


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60))
def test_limits_hold_the_bulk_of_the_values(values: list[float]) -> None:
    array = np.array([*values, np.nan], np.float32)
    low, high = nice_limits(array, (0.0, 1.0))
    inner = np.percentile(array[:-1].astype(np.float64), (2, 98))
    slack = 1e-5 * max(abs(inner[0]), abs(inner[1]), 1e-6)
    assert low < high
    assert low <= inner[0] + slack
    assert high >= inner[1] - slack


def test_limits_are_round_and_robust() -> None:
    values = np.append(np.linspace(8.613, 9.987, 1000), [0.0, 99.0]).astype(np.float32)
    assert nice_limits(values, (0.0, 1.0)) == pytest.approx((8.6, 10.0))
    assert nice_limits(np.full(3, np.nan, np.float32), (8.0, 10.0)) == (8.0, 10.0)


def test_log_limits_are_positive_whatever_the_values() -> None:
    for values in ([-1.0, 0.0], [np.nan], [5.0], [-3.0, 1e-12, 2.0, 3.0]):
        low, high = log_limits(np.array(values, np.float32), (1.0, 10.0))
        assert 0 < low < high <= 1.1e4 * low


@pytest.mark.parametrize(
    ("unit", "label"),
    [
        (MUSE_UNIT, "$10^{-20}$ erg s$^{-1}$ cm$^{-2}$ Å$^{-1}$"),
        ("erg / (Angstrom s cm2)", "erg s$^{-1}$ cm$^{-2}$ Å$^{-1}$"),
        ("1e-17 erg/s/cm2/Angstrom", "$10^{-17}$ erg s$^{-1}$ cm$^{-2}$ Å$^{-1}$"),
        ("2.5e-20 W/m2/nm", r"$2.5 \times 10^{-20}$ W m$^{-2}$ nm$^{-1}$"),
        ("counts per $", r"counts per \$"),
        ("", ""),
    ],
)
def test_flux_units_are_set_as_astronomers_do(unit: str, label: str) -> None:
    assert flux_label(unit) == label


def test_numbers_are_plain_where_they_can_be() -> None:
    assert [plain(value) for value in (0.5, 20, 1000)] == ["0.5", "20", "1000"]
    assert [plain(value) for value in (1e-17, 2e6, 1.5e6)] == [
        "$10^{-17}$", r"$2 \times 10^{6}$", r"$1.5 \times 10^{6}$",
    ]  # fmt: skip


def test_every_map_has_a_style_and_words_for_pages() -> None:
    assert set(STYLES) == {product.name for product in EVERY_MAP if product.name != "status"}
    for style in STYLES.values():
        assert len(set(style.palette())) > 200
        assert "$" not in style.plain_label({"flux_unit": MUSE_UNIT})
    assert STYLES["av"].plain_label({}) == "Aᵥ (mag)"
    assert STYLES["flux"].label_for({"flux_unit": MUSE_UNIT}) == flux_label(MUSE_UNIT)
    assert style_of("mine", {"long_name": "H alpha", "units": "mag"}).label == "H alpha  (mag)"
