"""Units and areas: what a cube's flux means."""

import numpy as np
import pytest
from astropy.wcs import WCS

from galprote.pipeline.photometry import cube_photometry

MUSE = "10**(-20)*erg/s/cm**2/Angstrom"


def header(angle: float = 0.0, sizes: tuple[float, float] = (0.2, 0.2)) -> str:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.cunit = [184.7, 14.4], ["deg", "deg"]
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.cd = np.array([[cosine, -sine], [sine, cosine]]) * np.array([-sizes[0], sizes[1]])[:, None] / 3600
    return str(wcs.to_header().tostring(endcard=False, padding=False))


@pytest.mark.parametrize("angle", [0.0, 33.0, 90.0])
def test_muse(angle: float) -> None:
    found = cube_photometry(MUSE, header(angle), None)
    assert found.flux_cgs == pytest.approx(1e-20)
    assert found.pixel_area_arcsec2 == pytest.approx(0.04)
    assert not found.note


def test_pixels_need_not_be_square() -> None:
    assert cube_photometry(MUSE, header(20.0, (0.2, 0.5)), None).pixel_area_arcsec2 == pytest.approx(0.1)


def test_brightness_times_area_is_flux() -> None:
    per_arcsec = cube_photometry("10**(-20)*erg/s/cm**2/Angstrom/arcsec**2", header(), None)
    assert per_arcsec.flux_cgs == pytest.approx(0.04e-20)
    per_sr = cube_photometry("10**(-20)*erg/s/cm**2/Angstrom/sr", header(), None)
    assert per_sr.flux_cgs == pytest.approx(1e-20 * 0.04 * (np.pi / 648000) ** 2)


def test_the_pixel_scale_that_is_given_wins() -> None:
    assert cube_photometry(MUSE, header(), 0.5).pixel_area_arcsec2 == 0.25
    assert cube_photometry(MUSE, "", 0.5).pixel_area_arcsec2 == 0.25
    assert not cube_photometry(MUSE, "", 0.5).note


@pytest.mark.parametrize("unit", ["", "ct", "adu/s", "Jy"])
def test_what_is_not_calibrated_has_no_mass(unit: str) -> None:
    found = cube_photometry(unit, header(), None)
    assert np.isnan(found.flux_cgs)
    assert "no calibrated flux density" in found.note


def test_without_a_wcs_the_area_is_unknown() -> None:
    found = cube_photometry(MUSE, "", None)
    assert np.isnan(found.pixel_area_arcsec2)
    assert "pixel_scale_arcsec" in found.note
