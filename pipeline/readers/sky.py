"""An HDU's header -> where its spaxels are on the sky, and what was observed."""

import warnings
from typing import Any, Final

from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from galprote.model.errors import CubeError
from galprote.pipeline.readers.fitsfile import Hdu

#: Arcsec; wcslib takes a missing CD1_1 for a degree.
_LARGEST_SPAXEL: Final = 60.0
_MEND_WCS: Final = "correct CTYPE, CUNIT, CRVAL, CD of axes 1 and 2, or remove CTYPE1 and CTYPE2 to do without"


def target_name(*hdus: Hdu) -> str:
    """Return the first OBJECT that the headers hold, or ''."""
    return next((name for hdu in hdus if (name := str(hdu.header.get("OBJECT", "")).strip())), "")


def celestial_header(hdu: Hdu) -> str:
    """Return the celestial part of an HDU's WCS as header text (80-character cards), '' if there is none.

    ``astropy.wcs.WCS(text)`` and ``fits.Header.fromstring(text)`` read it back. An image of spectra (two axes) has
    none.

    Raises
    ------
    CubeError
        If there is one, but it gives no place on the sky. Names no file.
    """
    if int(hdu.header["NAXIS"]) < 3:
        return ""
    return checked_celestial(hdu.header)


def field_centre(hdu: Hdu) -> tuple[float, float] | None:
    """Return RA and Dec (ICRS, degrees) of the middle of a cube's field; None without a WCS that can be used."""
    try:
        text = celestial_header(hdu)
    except CubeError:
        return None
    if not text:
        return None
    middle = [(int(hdu.header[f"NAXIS{axis}"]) - 1) / 2 for axis in (1, 2)]
    sky: Any = WCS(fits.Header.fromstring(text)).pixel_to_world(*middle).icrs
    return float(sky.ra.deg), float(sky.dec.deg)


def checked_celestial(header: fits.Header) -> str:
    """The same of a header alone."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # wcslib reports every keyword that it tidies up
            wcs: Any = WCS(header)
            if not wcs.has_celestial:
                return ""
            text = str(wcs.celestial.to_header().tostring(endcard=False, padding=False))
            again: Any = WCS(fits.Header.fromstring(text))
            sky, sides = again.pixel_to_world(0, 0).icrs, 3600 * proj_plane_pixel_scales(again.celestial)
    except Exception as error:  # wcslib and astropy raise many types
        reason = " ".join(str(error).split())
        raise CubeError(f"the celestial WCS cannot be used ({reason}): {_MEND_WCS}") from error
    if not (sky.isscalar and (sides > 0).all() and (sides <= _LARGEST_SPAXEL).all()):
        raise CubeError(f"the celestial WCS makes spaxels of {sides[0]:.4g} x {sides[1]:.4g} arcsec: {_MEND_WCS}")
    return text
