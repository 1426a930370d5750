"""Flux units: understood, assumed and said so, or refused."""

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u

from galprote.model.errors import CubeError
from galprote.pipeline.readers.units import flux_unit
from tests import cubes
from tests.cubes import MUSE_BUNIT, opened

CGS = u.erg / u.s / u.cm**2 / u.AA


@pytest.mark.parametrize(
    ("found", "scale"),
    [
        ("10**(-20)*erg/s/cm**2/Angstrom", 1e-20),
        ("1e-20 erg / (Angstrom s cm2)", 1e-20),
        ("10**-20 Angstrom-1 cm-2 erg s-1", 1e-20),
        ("10^-16 erg/s/cm^2/A", 1e-16),
        ("1E-17 erg/s/cm^2/Ang/spaxel", 1e-17),  # MaNGA
        ("1e-16 ergs/cm2/s/AA", 1e-16),
        ("1.2e-17 erg/s/cm2/Angstrom", 1.2e-17),
        ("erg/s/cm2/Angstrom", 1.0),
        ("ERG/S/CM2/A", 1.0),
        ("W m-2 um-1", 0.1),
    ],
)
def test_flux_densities_are_understood(found: str, scale: float) -> None:
    unit = flux_unit(found, default=MUSE_BUNIT)
    written = u.Unit(unit.bunit, format="fits")  # FITS reads it back
    assert written.to(CGS) * unit.factor == pytest.approx(scale, rel=1e-12)
    assert written.to(CGS) <= 1e-14  # so that squares keep float32's precision
    assert unit.calibrated
    assert not unit.assumed
    assert u.Unit(unit.squared, format="fits").to(CGS**2) == pytest.approx(written.to(CGS) ** 2)


def test_mpdaf_keeps_the_scale_apart() -> None:
    assert u.Unit(flux_unit("erg/s/cm2/Angstrom", fscale=1e-20).bunit) == 1e-20 * CGS
    assert u.Unit(flux_unit("10**-20 erg/s/cm2/Angstrom", fscale=1e-20).bunit) == 1e-20 * CGS


@pytest.mark.parametrize("found", ["count", "adu/s", "electron", "ct/s/pix"])
def test_counts_are_taken_as_uncalibrated(found: str) -> None:
    assert not flux_unit(found, default=MUSE_BUNIT).calibrated


@pytest.mark.parametrize("found", ["Jy/beam", "K", "erg/s/Angstrom", "10**(-20)*erg/s/cm**2/Angstrom**2", "bananas"])
def test_other_units_are_refused(tmp_path: Path, found: str) -> None:
    path = cubes.write_muse_cube(tmp_path / "a.fits", *cubes.spectra(), cubes.muse_cards(bunit=found))
    with pytest.raises(CubeError, match="BUNIT = ") as caught:
        opened(path)
    assert found in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("bunit", ["", None])
def test_an_empty_bunit_means_the_unit_of_muse_and_says_so(tmp_path: Path, bunit: str | None) -> None:
    path = cubes.write_muse_cube(tmp_path / "a.fits", *cubes.spectra(), cubes.muse_cards(bunit=bunit))
    cube = opened(path)
    assert cube.bunit_assumed is True
    assert u.Unit(cube.bunit, format="fits") == 1e-20 * CGS
    # The primary header of many MUSE files has what their DATA header lacks.
    cubes.write_muse_cube(
        path,
        *cubes.spectra(),
        cubes.muse_cards(bunit=bunit),
        primary={"BUNIT": "10**(-16)*erg/s/cm**2/Angstrom"},
    )
    assert opened(path).bunit_assumed is False
    assert u.Unit(opened(path).bunit, format="fits") == 1e-16 * CGS


def test_tiny_numbers_survive_single_precision(tmp_path: Path) -> None:
    flux, variance = (values.astype(np.float64) for values in cubes.spectra())
    cards = cubes.muse_cards(bunit="erg/s/cm2/Angstrom")
    path = cubes.write_muse_cube(tmp_path / "a.fits", flux * 1e-20, variance * 1e-40, cards, dtype=">f8")
    cube = opened(path)
    channels = slice(cube.first_channel, cube.first_channel + cube.sizes["wavelength"])
    np.testing.assert_allclose(cube.flux, flux[channels], rtol=1e-6)
    np.testing.assert_allclose(cube.variance, variance[channels], rtol=1e-6)
    assert u.Unit(cube.bunit, format="fits") == 1e-20 * CGS
    assert cube.bunit_found == "erg/s/cm2/Angstrom"
