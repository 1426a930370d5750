"""Cubes of other instruments: the same source comes back from every layout, in air, with its noise and its gaps."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from astropy import units as u
from astropy.io import fits

from galprote.model.errors import CubeError
from galprote.model.line_spread import MUSE
from galprote.pipeline.inspection import inspect_cube
from galprote.pipeline.inspection_text import report_lines
from galprote.pipeline.readers import open_cube
from galprote.pipeline.readers.shape import cube_shape
from tests import cubes, instruments
from tests.instruments import D2_AIR, EMPTY, LAYOUTS, MASKED, NX, NY, SNR, WINDOW

Array = Any


def opened(path: Path, **more: Any) -> xr.Dataset:
    return open_cube(path, **({"rest_window": WINDOW} | more))


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str, bool]:
    """A file in a layout, the layout's name, and whether its axis is in vacuum."""
    write, name, vacuum = LAYOUTS[request.param]
    return write(tmp_path / "cube.fits"), name, vacuum


def on_image(cube: xr.Dataset, name: str) -> Array:
    """(n, NY, NX) values in erg/s/cm2/Angstrom; spectra that were stacked are in the order of the spaxels."""
    scale = u.Unit(cube.bunit, format="fits").to(u.erg / u.s / u.cm**2 / u.AA)
    values = cube[name].values.astype(np.float64) * (scale if name == "flux" else scale**2)
    return values.reshape(len(values), NY, NX)


def test_the_source_comes_back_with_its_wavelengths_fluxes_and_noise(layout: tuple[Path, str, bool]) -> None:
    path, name, vacuum = layout
    cube = opened(path)
    assert cube.layout == name
    assert cube.native_axis == ("vacuum" if vacuum else "air")
    wavelength = cube.wavelength.values
    flux, variance = on_image(cube, "flux"), on_image(cube, "variance")
    truth = instruments.line_depth(wavelength - D2_AIR)[:, None, None] * instruments.brightness() * instruments.CGS
    bad = np.zeros(flux.shape, bool)
    for where in (MASKED, EMPTY):
        bad[instruments.voxel(wavelength, where)] = True
    np.testing.assert_allclose(flux[~bad], truth[~bad], rtol=3e-4)  # 0.001 A of rounding, on the line's flank
    expected = np.broadcast_to((instruments.brightness() * instruments.CGS / SNR) ** 2, flux.shape)
    np.testing.assert_allclose(variance[~bad], expected[~bad], rtol=1e-5)
    weight = 1 - flux[:, 0, 0] / np.nanmax(flux[:, 0, 0])
    line = np.abs(wavelength - D2_AIR) < 12
    assert np.sum(wavelength[line] * weight[line]) / weight[line].sum() == pytest.approx(D2_AIR, abs=0.02)


def test_what_is_bad_is_not_used(layout: tuple[Path, str, bool]) -> None:
    cube = opened(layout[0])
    flux, variance = on_image(cube, "flux"), on_image(cube, "variance")
    masked, empty = (instruments.voxel(cube.wavelength.values, where) for where in (MASKED, EMPTY))
    assert np.isnan(flux[masked])
    usable = np.isfinite(variance) & (variance > 0)
    assert not usable[empty]  # IVAR 0, infinite or missing noise: no information
    assert np.count_nonzero(~(usable & np.isfinite(flux))) == 2  # and nothing else is lost


def test_compressed_files_have_the_shape_that_they_open_with(layout: tuple[Path, str, bool], tmp_path: Path) -> None:
    path, name, _ = layout
    packed = tmp_path / "cube.fits.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    shape, channels = cube_shape(packed, 0.0, WINDOW)
    cube = opened(packed, scratch=tmp_path / "scratch")
    assert (cube.layout, cube.flux.shape, cube.channels_in_file) == (name, shape, channels)


def test_inspection_names_layout_medium_and_line_spread(layout: tuple[Path, str, bool]) -> None:
    path, name, vacuum = layout
    report = inspect_cube(path)
    text = "\n".join(f"{label}: {value}" for label, value in report_lines(report))
    assert f"layout: {name}, " in text
    assert (", vacuum" in text) == vacuum
    assert ("line spread function: unknown" in text) == name.startswith("generic")
    assert report.voxels is not None
    assert report.voxels.flux_nan + report.voxels.bad_variance == 2


# --- line spread functions ---


@pytest.mark.parametrize(
    ("name", "fwhm", "source"),
    [
        ("manga", 2.355 * 1.1, "LSFPRE"),
        ("manga_rss", 2.355 * 1.1, "LSFPRE"),
        ("califa", 6.0, "Husemann"),
        ("sami", 2.65, "van de Sande"),
        ("kcwi", D2_AIR / 2000, "Morrissey"),
        ("weave", D2_AIR / 2500, "Jin"),
        ("long_slit", np.nan, ""),
    ],
)
def test_line_spread_functions(tmp_path: Path, name: str, fwhm: float, source: str) -> None:
    cube = opened(LAYOUTS[name][0](tmp_path / "cube.fits"))
    assert cube.lsf_fwhm.dims == ("wavelength",)
    found = float(cube.lsf_fwhm.sel(wavelength=D2_AIR, method="nearest"))
    assert found == pytest.approx(fwhm, rel=1e-4, nan_ok=True)
    assert source in cube.lsf_source


def test_muse_has_its_own_and_cubes_like_it_say_who_they_are(tmp_path: Path) -> None:
    flux, variance = cubes.spectra()
    muse = cubes.opened(cubes.write_muse_cube(tmp_path / "a.fits", flux, variance))
    np.testing.assert_allclose(muse.lsf_fwhm, MUSE.fwhm_at(muse.wavelength.values))
    other = {"INSTRUME": "BlueMUSE's sister"} | {"INSTRUME": "MEGARA"}
    like = cubes.opened(cubes.write_muse_cube(tmp_path / "b.fits", flux, variance, primary=other))
    assert like.layout == "MUSE"
    assert np.isnan(like.lsf_fwhm).all()


@pytest.mark.parametrize(
    ("name", "channel"),
    [("LSFPOST", True), ("DISP", True), ("PREDISP", False), ("PRESPECRES", False), ("SPECRES", True)],
)
def test_manga_s_line_spread_in_every_form(tmp_path: Path, name: str, channel: bool) -> None:
    """Where the channel's width is in it, it is taken out: the rebinning knows what a channel is."""
    cube = opened(instruments.manga(tmp_path / "a.fits", lsf=name, sigma=1.1))
    step = np.gradient(cube.wavelength.values)
    sigma = np.sqrt(1.1**2 - step**2 / 12) if channel else np.full(step.size, 1.1)
    np.testing.assert_allclose(cube.lsf_fwhm[2:-2], 2.355 * sigma[2:-2], rtol=1e-3)


@pytest.mark.parametrize(("slicer", "power"), [("Large", 2000), ("Medium", 4000), ("Small", 8000), ("Other", None)])
def test_kcwi_s_slicer_decides(tmp_path: Path, slicer: str, power: float | None) -> None:
    path = instruments.kcwi(tmp_path / "a.fits")
    with fits.open(path, mode="update") as hdus:
        hdus[0].header["IFUNAM"] = slicer
    cube = opened(path)
    expected = np.nan if power is None else 1 / power
    np.testing.assert_allclose(cube.lsf_fwhm / cube.wavelength, expected)


# --- peculiarities ---


def test_a_manga_cube_that_its_pipeline_disowns_is_said_so(tmp_path: Path) -> None:
    assert opened(instruments.manga(tmp_path / "a.fits")).layout_notes == []
    (note,) = opened(instruments.manga(tmp_path / "b.fits", quality=1 << 30 | 4)).layout_notes
    assert "CRITICAL" in note


def test_a_model_cube_of_manga_s_analysis_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CubeError, match=r"analysis pipeline .*use the reduction's .*LOGCUBE"):
        opened(instruments.manga(tmp_path / "a.fits", extra="MODEL"))


@pytest.mark.parametrize("bunit", ["1e+16 erg / (Angstrom cm2 s)", "FLAM16"])
def test_kcwi_s_inverted_unit_is_put_right(tmp_path: Path, bunit: str) -> None:
    cube = opened(instruments.kcwi(tmp_path / "a.fits", bunit=bunit))
    assert u.Unit(cube.bunit, format="fits") == 1e-16 * u.erg / u.s / u.cm**2 / u.AA


def test_kcwi_without_uncertainties_says_where_they_may_be(tmp_path: Path) -> None:
    cube = opened(instruments.kcwi(tmp_path / "a.fits", noise=False))
    assert cube.variance_source == "estimated (DER_SNR)"
    assert "vcube" in cube.layout_notes[0]


def test_califa_s_silence_and_words_mean_the_same(tmp_path: Path) -> None:
    silent, loud = (opened(instruments.califa(tmp_path / f"{silent}.fits", silent=silent)) for silent in (True, False))
    np.testing.assert_array_equal(silent.wavelength, loud.wavelength)
    assert silent.bunit_assumed
    assert "ebv should be 0" in silent.layout_notes[0]
    assert opened(instruments.califa(tmp_path / "v1200.fits", step=0.7)).lsf_fwhm[0] == 2.3


def test_a_califa_cube_that_is_not_dereddened_is_told_apart(tmp_path: Path) -> None:
    path = instruments.califa(tmp_path / "a.fits")
    with fits.open(path, mode="update") as hdus:
        hdus[0].header["HIERARCH PIPE GALEXT CORR"] = False
    assert "give its E(B-V)" in opened(path).layout_notes[0]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            lambda p: instruments.sami(p, first=3750.0, step=1.04, n=1950),
            r"SAMI's blue arm; the red one is another file",
        ),
        (lambda p: instruments.sami(p, first=6300.0, step=0.57, n=1930), r"SAMI's red arm; the blue one"),
        (instruments.kcwi, r"KCWI's blue and red arms"),
        (instruments.weave, r"WEAVE's red arm: join it with the blue one"),
    ],
)
def test_one_arm_is_refused_with_what_would_serve(tmp_path: Path, write: Any, message: str) -> None:
    path = write(tmp_path / "arm.fits")
    with pytest.raises(CubeError, match=message) as caught:
        open_cube(path)
    assert "is missing" in str(caught.value)
    packed = tmp_path / "arm.fits.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    with pytest.raises(CubeError, match=message):
        cube_shape(packed, 0.0)


def test_the_window_that_an_arm_covers_is_named_and_works(tmp_path: Path) -> None:
    path = instruments.sami(tmp_path / "a.fits", first=3750.0, step=1.04, n=1950)
    with pytest.raises(CubeError, match=r"window: \[4749, 5502\]") as caught:
        open_cube(path, redshift=0.05)
    assert "configs/train/instrument.yaml" in str(caught.value)
    assert open_cube(path, redshift=0.05, rest_window=(4749.0, 5502.0)).layout == "SAMI, blue arm"


# --- wavelengths in an HDU, and images of spectra ---


def test_what_an_hdu_of_wavelengths_does_not_say_is_assumed_aloud(tmp_path: Path) -> None:
    path = instruments.generic_wave(tmp_path / "a.fits", unit=None, vacuum=False)
    with fits.open(path, mode="update") as hdus:
        del hdus["WAVELENGTH"].header["AIRORVAC"]
    cube = opened(path)
    assert "Angstrom assumed" in cube.axis_assumption
    assert "air assumed" in cube.axis_assumption


def test_wavelengths_that_could_be_anything_are_refused(tmp_path: Path) -> None:
    path = instruments.generic_wave(tmp_path / "a.fits", unit=None)
    with fits.open(path, mode="update") as hdus:
        hdus["WAVELENGTH"].data = np.log10(hdus["WAVELENGTH"].data)
    with pytest.raises(CubeError, match="WAVELENGTH has no unit"):
        opened(path)


@pytest.mark.parametrize(
    ("cards", "medium"),
    [
        ({"AIRORVAC": "vac"}, "vacuum"), ({"AIRORVAC": "air"}, "air"),
        ({"VACUUM": True}, "vacuum"), ({"VACUUM": 0}, "air"),
        ({"CTYPE1": "WAVE-LOG"}, "vacuum"), ({"CTYPE1": "AWAV"}, "air"), ({"CTYPE1": "WAVELENGTH"}, "assumed"),
    ],
)  # fmt: skip
def test_media_that_are_stated(tmp_path: Path, cards: dict[str, Any], medium: str) -> None:
    path = instruments.generic_wave(tmp_path / "a.fits", unit="nm")
    with fits.open(path, mode="update") as hdus:
        del hdus["WAVELENGTH"].header["AIRORVAC"]
        hdus["WAVELENGTH"].header.update(cards)
    cube = opened(path)
    assert cube.native_axis == ("air" if medium == "assumed" else medium)
    assert ("air assumed" in cube.axis_assumption) == (medium == "assumed")


def test_the_column_of_a_table_is_found_by_its_name(tmp_path: Path) -> None:
    path = instruments.generic_wave(tmp_path / "a.fits", table=True)
    with fits.open(path) as hdus:
        old = hdus["WAVE"]
        wave = old.data["WAVELENGTH"]
        for name in ("LAMBDA", "CHANNEL"):
            columns = [fits.Column("FLAT", "D", array=wave * 0), fits.Column(name, "D", array=wave, unit="nm")]
            new = fits.BinTableHDU.from_columns(columns, name="WAVE")
            new.header["AIRORVAC"] = "vac"
            fits.HDUList([*hdus[:3], new]).writeto(tmp_path / f"{name}.fits")
    np.testing.assert_array_equal(opened(tmp_path / "LAMBDA.fits").wavelength, opened(path).wavelength)
    with pytest.raises(CubeError, match="a column WAVE or WAVELENGTH is wanted; found are FLAT, CHANNEL"):
        opened(tmp_path / "CHANNEL.fits")


def test_spectra_with_wavelengths_of_their_own_are_refused(tmp_path: Path) -> None:
    path = instruments.stacked(tmp_path / "a.fits")
    with fits.open(path, mode="update") as hdus:
        hdus["WAVELENGTH"].data = np.broadcast_to(hdus["WAVELENGTH"].data, hdus["FLUX"].data.shape).copy()
    with pytest.raises(CubeError, match="bring all spectra to one wavelength axis"):
        opened(path)


def test_an_hdu_of_wavelengths_must_fit_the_cube(tmp_path: Path) -> None:
    path = instruments.generic_wave(tmp_path / "a.fits")
    with fits.open(path, mode="update") as hdus:
        hdus["WAVELENGTH"].data = hdus["WAVELENGTH"].data[:-1]
    with pytest.raises(CubeError, match="no axis has the 139 channels"):
        opened(path)


@pytest.mark.parametrize("name", ["long_slit", "iraf", "stacked", "manga_rss"])
def test_images_of_spectra_are_one_row_of_spaxels_without_a_sky(tmp_path: Path, name: str) -> None:
    cube = opened(LAYOUTS[name][0](tmp_path / "a.fits"))
    assert dict(cube.sizes) == {"wavelength": cube.sizes["wavelength"], "y": 1, "x": NX * NY}
    assert cube.wcs_header == ""
    part = cube.flux.data[3:9, :, 7:11].compute()
    np.testing.assert_array_equal(part, cube.flux.values[3:9, :, 7:11])


def test_unsigned_flags_are_read_as_they_are(tmp_path: Path) -> None:
    """FITS stores them with an offset: a stored zero is no zero."""
    flux, variance = cubes.spectra()
    flags = np.zeros(flux.shape, np.uint16)
    flags[20, 3, 2] = 5
    cube = cubes.opened(cubes.write_muse_cube(tmp_path / "a.fits", flux, variance, flags=flags))
    missing = np.argwhere(np.isnan(cube.flux.values))
    assert missing.tolist() == [[20 - cube.first_channel, 3, 2]]
