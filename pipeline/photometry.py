"""What a cube's flux means in physical units: its unit in erg/s/cm2/Angstrom, and a spaxel's area on the sky."""

import warnings
from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_area

CGS = u.erg / u.s / u.cm**2 / u.AA


@dataclass(frozen=True)
class Photometry:
    """How fluxes become masses.

    Attributes
    ----------
    flux_cgs : float
        erg/s/cm2/Angstrom of one spaxel in one unit of the cube; NaN if the cube is not calibrated.
    pixel_area_arcsec2 : float
        Of a spaxel; NaN if unknown.
    note : str
        Why there are no masses, if there are none.
    """

    flux_cgs: float = np.nan
    pixel_area_arcsec2: float = np.nan
    note: str = ""


def cube_photometry(bunit: str, wcs_header: str, pixel_scale_arcsec: float | None) -> Photometry:
    """Read a cube's unit and the size of its spaxels.

    Parameters
    ----------
    bunit : str
        As FITS writes it; per spaxel, square arcsecond or steradian.
    wcs_header : str
        Celestial WCS as a header's text; '' if there is none.
    pixel_scale_arcsec : float, optional
        Side of a square spaxel, instead of the WCS's.

    Returns
    -------
    Photometry
    """
    area = _pixel_area(wcs_header) if pixel_scale_arcsec is None else pixel_scale_arcsec**2
    flux = _in_cgs(bunit, area)
    if not np.isfinite(_in_cgs(bunit, 1.0)):
        return Photometry(flux, area, f"the cube's unit {bunit!r} is no calibrated flux density: no surface densities")
    if not np.isfinite(area):
        return Photometry(flux, area, "the cube has no WCS: give pixel_scale_arcsec to have surface densities of mass")
    return Photometry(flux, area)


def _pixel_area(wcs_header: str) -> float:
    if not wcs_header:
        return np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wcslib reports every keyword that it tidies up
        wcs = WCS(fits.Header.fromstring(wcs_header)).celestial
    return float(proj_plane_pixel_area(wcs)) * 3600.0**2


def _in_cgs(bunit: str, area: float) -> float:
    """Of one spaxel, erg/s/cm2/Angstrom."""
    try:
        unit = u.Unit(bunit, format="fits") if bunit else u.dimensionless_unscaled
    except ValueError:
        return np.nan
    for solid_angle in (u.dimensionless_unscaled, u.arcsec**2):  # a steradian is an area in arcsec2, too
        if unit.is_equivalent(CGS / solid_angle):
            per_spaxel = 1.0 if solid_angle == u.dimensionless_unscaled else (area * u.arcsec**2).to_value(solid_angle)
            return float(unit.to(CGS / solid_angle)) * per_spaxel
    return np.nan
