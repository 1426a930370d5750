"""Units and areas: what a cube's flux means."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from galprote.pipeline.photometry import cube_photometry
from tests.cubes import celestial_cards

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


@pytest.mark.parametrize(("unit", "cgs"), [("erg/s/cm**2/Angstrom", 1.0), ("W/m**2/um", 0.1), ("W/m**2/nm", 100.0)])
def test_any_flux_density_per_wavelength_will_do(unit: str, cgs: float) -> None:
    assert cube_photometry(unit, header(), None).flux_cgs == pytest.approx(cgs)
    assert cube_photometry(f"{unit}/arcsec**2", header(), None).flux_cgs == pytest.approx(0.04 * cgs)


def test_a_flux_per_spaxel_needs_no_area_and_does_not_depend_on_it() -> None:
    for scale in (None, 0.2, 0.5):
        assert cube_photometry(MUSE, "", scale).flux_cgs == pytest.approx(1e-20)


def test_a_brightness_gives_the_same_density_with_pixels_of_any_size() -> None:
    found = [cube_photometry(f"{MUSE}/arcsec**2", "", scale) for scale in (0.2, 0.5)]
    for one, area in zip(found, (0.04, 0.25), strict=True):
        assert one.flux_cgs / one.pixel_area_arcsec2 == pytest.approx(1e-20)
        assert one.pixel_area_arcsec2 == pytest.approx(area)
        assert not one.note


@pytest.mark.parametrize("per", ["arcsec**2", "sr"])
def test_a_brightness_without_an_area_has_no_flux(per: str) -> None:
    found = cube_photometry(f"{MUSE}/{per}", "", None)
    assert np.isnan([found.flux_cgs, found.pixel_area_arcsec2]).all()
    assert found.note


def test_of_a_brightness_without_an_area_the_note_says_what_is_missing() -> None:
    assert "pixel_scale_arcsec" in cube_photometry(f"{MUSE}/arcsec**2", "", None).note


def test_the_axes_of_a_cube_may_be_written_in_any_unit() -> None:
    cards = fits.Header(celestial_cards())
    for key in cards:
        if key.startswith(("CD", "CRVAL")):
            cards[key] *= 3600
        elif key.startswith("CUNIT"):
            cards[key] = "arcsec"
    assert cube_photometry(MUSE, cards.tostring(), None).pixel_area_arcsec2 == pytest.approx(0.04)


def test_the_pixel_scale_that_is_given_wins() -> None:
    assert cube_photometry(MUSE, header(), 0.5).pixel_area_arcsec2 == 0.25
    assert cube_photometry(MUSE, "", 0.5).pixel_area_arcsec2 == 0.25
    assert not cube_photometry(MUSE, "", 0.5).note


@pytest.mark.parametrize("unit", ["", "ct", "adu/s", "Jy", "Angstrom", "erg/s/Angstrom", "no unit"])
def test_what_is_not_calibrated_has_no_mass(unit: str) -> None:
    found = cube_photometry(unit, header(), None)
    assert np.isnan(found.flux_cgs)
    assert found.pixel_area_arcsec2 == pytest.approx(0.04)
    assert repr(unit) in found.note
    assert "no calibrated flux density" in found.note
    assert "pixel_scale_arcsec" not in found.note


def test_without_a_wcs_the_area_is_unknown() -> None:
    found = cube_photometry(MUSE, "", None)
    assert found.flux_cgs == pytest.approx(1e-20)
    assert np.isnan(found.pixel_area_arcsec2)
    assert "calibrated" not in found.note
    assert "pixel_scale_arcsec" in found.note
