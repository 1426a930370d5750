"""Cubes of other instruments: other axes, other names, noise in other forms or none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from galprote.model.errors import CubeError
from galprote.pipeline.readers import open_cube
from galprote.pipeline.readers.axis import (
    vacuum_to_air,
)
from galprote.pipeline.readers.noise import der_snr_variance
from tests import cubes
from tests.cubes import bits, opened


def plain_cards(**spectral: Any) -> dict[str, Any]:
    cards = cubes.muse_cards(matrix="CDELT")
    return cards | {f"{key.upper()}3": value for key, value in spectral.items()}


def test_without_variances_the_noise_is_estimated_and_said_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    shape = (1500, 3, 4)
    sigma = np.array([3.0, 10.0, 30.0])[:, None] * np.ones(4)
    flux = 500.0 + np.linspace(0, 300, 1500)[:, None, None] + sigma * rng.standard_normal(shape)
    flux[700:704] += 5000.0  # an emission line
    flux[100:160] = np.nan
    flux[:, 0, 0], flux[:, 0, 1] = np.nan, 0.0  # empty in two ways
    path = cubes.write_plain_cube(tmp_path / "a.fits", flux.astype(">f4"), plain_cards())
    cube = open_cube(path, rest_window=(5000.0, 6870.0))
    assert cube.variance_source == "estimated (DER_SNR)"
    variance = cube.variance.values
    assert variance.shape == cube.flux.shape
    assert (np.ptp(variance[:, 1:], axis=0) == 0).all()  # constant along each spectrum
    np.testing.assert_allclose(np.sqrt(variance[0, 1:]), sigma[1:], rtol=0.15)
    assert np.isnan(variance[:, 0, :2]).all()


@given(st.integers(0, 2**31), st.floats(0.1, 1e4), st.floats(-1e3, 1e3))
def test_estimated_noise_scales_with_the_spectrum_and_ignores_its_slope(seed: int, scale: float, slope: float) -> None:
    noise = np.random.default_rng(seed).standard_normal((300, 1, 1))
    base = der_snr_variance(noise)[0, 0, 0]
    ramp = slope * np.linspace(0, 1, 300)[:, None, None]
    assert der_snr_variance(scale * (noise + ramp))[0, 0, 0] == pytest.approx(scale**2 * base, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "stored"),
    [("var", lambda v: v), ("err", np.sqrt), ("ivar", lambda v: 1 / v)],
)
def test_noise_under_other_names(tmp_path: Path, name: str, stored: Any) -> None:
    flux, variance = cubes.spectra()
    cards = plain_cards() | {"BUNIT": "erg/s/cm2/Angstrom"}  # rescaled by 1e20: the variance by its square
    noise = stored(variance.astype(np.float64) * 1e-40)
    path = cubes.write_plain_cube(tmp_path / "a.fits", flux.astype(np.float64) * 1e-20, cards, **{name: noise})
    cube = opened(path)
    wanted = variance[cube.first_channel :][: cube.sizes["wavelength"]]
    np.testing.assert_allclose(cube.variance, wanted, rtol=1e-6)
    assert cube.variance_source.startswith(name.upper())


def test_a_manga_like_cube(tmp_path: Path) -> None:
    flux, variance = cubes.spectra()
    ivar, mask = 1 / variance, np.zeros(flux.shape, np.int32)
    ivar[20, 1, 1], mask[22, 2, 2] = 0.0, 1027
    primary = fits.PrimaryHDU()
    images = [fits.ImageHDU(values, name=n) for n, values in (("FLUX", flux), ("IVAR", ivar), ("MASK", mask))]
    bunit = "1E-17 erg/s/cm^2/Ang/spaxel"
    images[0].header.update(cubes.muse_cards(ctype="WAVE-LOG", bunit=bunit))
    fits.HDUList([primary, *images]).writeto(tmp_path / "manga.fits")
    cube = opened(tmp_path / "manga.fits")
    assert (cube.native_axis, cube.variance_source, cube.flags_source) == (
        "vacuum",
        "IVAR (inverted)",
        "MASK",
    )
    wanted = variance[cube.first_channel :][: cube.sizes["wavelength"]].astype(np.float64)
    wanted[20 - cube.first_channel, 1, 1], wanted[22 - cube.first_channel, 2, 2] = np.inf, np.nan
    np.testing.assert_allclose(cube.variance, wanted, rtol=1e-6)
    assert u.Unit(cube.bunit, format="fits") == 1e-17 * u.erg / u.s / u.cm**2 / u.AA


def test_a_frequency_axis(tmp_path: Path) -> None:
    flux, variance = cubes.spectra()
    frequency = np.linspace(5.92e14, 6.0e14, 48)
    cards = plain_cards(ctype="FREQ", cunit="Hz", crval=frequency[0], cdelt=np.diff(frequency)[0])
    cube = opened(cubes.write_plain_cube(tmp_path / "a.fits", flux, cards, var=variance))
    air = vacuum_to_air((frequency * u.Hz).to_value(u.AA, u.spectral()))
    stop = cube.first_channel + 1
    wanted = slice(stop - cube.sizes["wavelength"], stop)
    np.testing.assert_allclose(cube.wavelength, air[wanted][::-1], rtol=1e-9)
    assert bits(cube.flux) == bits(flux[wanted][::-1])
    assert cube.native_axis == "vacuum"


@pytest.mark.parametrize(
    ("ctype", "rest", "convention"),
    [
        ("VRAD", {"RESTFRQ": 5.96e14}, u.doppler_radio),
        ("VOPT", {"RESTWAV": 5.03e-7}, u.doppler_optical),
    ],
)
def test_a_velocity_axis(tmp_path: Path, ctype: str, rest: dict[str, float], convention: Any) -> None:
    flux, variance = cubes.spectra()
    speed = np.linspace(-2e6, 2e6, 48)
    cards = plain_cards(ctype=ctype, cunit="m/s", crval=speed[0], cdelt=np.diff(speed)[0]) | rest
    path = cubes.write_plain_cube(tmp_path / "a.fits", flux, cards, var=variance)
    cube = open_cube(path, rest_window=(5010.0, 5040.0))
    reference = rest["RESTFRQ"] * u.Hz if "RESTFRQ" in rest else rest["RESTWAV"] * u.m
    air = vacuum_to_air((speed * u.m / u.s).to_value(u.AA, convention(reference)))
    wanted = air[cube.first_channel :][: cube.sizes["wavelength"]]
    np.testing.assert_allclose(cube.wavelength, wanted, rtol=1e-7)


def test_a_velocity_without_a_rest_value_is_refused(tmp_path: Path) -> None:
    cards = plain_cards(ctype="VRAD", cunit="m/s", crval=-2e6, cdelt=1e5)
    path = cubes.write_plain_cube(tmp_path / "a.fits", cubes.spectra()[0], cards)
    with pytest.raises(CubeError, match="'VRAD' cannot be converted to wavelengths"):
        opened(path)


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 1, 0), (1, 0, 2)])
def test_any_order_of_the_axes_in_the_file(tmp_path: Path, order: tuple[int, int, int]) -> None:
    """`order`: which cube axis (wavelength, y, x) each file axis is, slowest first."""
    flux, variance = cubes.spectra()
    cards = cubes.muse_cards(matrix="CDELT")
    moved = {key: value for key, value in cards.items() if key[-1] not in "123"}
    for file_axis, cube_axis in enumerate(order):
        for key in ("CTYPE", "CUNIT", "CRVAL", "CRPIX", "CDELT"):
            moved[f"{key}{3 - file_axis}"] = cards[f"{key}{3 - cube_axis}"]
    path = tmp_path / "a.fits"
    cubes.write_plain_cube(path, flux.transpose(order), moved, var=variance.transpose(order))
    cube, straight = opened(path, rows=2), opened(cubes.write_muse_cube(tmp_path / "b.fits", flux, variance))
    assert bits(cube.flux) == bits(straight.flux)
    assert bits(cube.variance) == bits(straight.variance)
    assert WCS(cube.wcs_header).pixel_to_world(4, 1).ra.deg == pytest.approx(
        WCS(straight.wcs_header).pixel_to_world(4, 1).ra.deg
    )


def test_scaled_integers_with_blanks(tmp_path: Path) -> None:
    stored = np.random.default_rng(3).integers(-3000, 3000, (48, 7, 5)).astype(np.int16)
    stored[20, 3, 3] = -32768
    image = fits.PrimaryHDU(stored)
    image.header.update(plain_cards() | {"BSCALE": 0.25, "BZERO": 100.0, "BLANK": -32768})
    # Written by hand: astropy would rescale the values.
    path = tmp_path / "a.fits"
    raw = stored.astype(">i2").tobytes()
    path.write_bytes(image.header.tostring().encode() + raw.ljust(-(-len(raw) // 2880) * 2880, b"\0"))
    cube = opened(path)
    channels = slice(cube.first_channel, cube.first_channel + cube.sizes["wavelength"])
    wanted = np.where(stored == -32768, np.nan, stored * 0.25 + 100.0)[channels]
    np.testing.assert_array_equal(cube.flux, wanted)
