"""A cube's headers -> its redshift and the Milky Way's E(B-V), or the doubt that stands against using them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from astropy.io import fits

SPEED_OF_LIGHT_KMS: Final = 299_792.458
#: Redshifts that a survey takes (`GalaxyConfig.redshift`), above the first.
REDSHIFTS: Final = (-0.01, 0.5)
#: A velocity (km/s) that can stand where a redshift was expected.
_VELOCITIES: Final = (20.0, 150_000.0)
_REDSHIFT: Final = "REDSHIFT"
#: CALIFA's systemic velocity, km/s; -999 where there is none.
_VELOCITY: Final = "MED_VEL"
#: MaNGA's E(B-V), from the maps of Schlegel et al. (1998).
_EBV: Final = "EBVGAL"
#: E(B-V) of Schlegel, Finkbeiner & Davis (1998) to that of Schlafly & Finkbeiner (2011, ApJ 737, 103).
SFD_TO_SF11: Final = 0.86
#: Frames in which wavelengths are as far from the barycentre's as the Earth moves (30 km/s), or the Sun (20 km/s).
_OTHER_FRAMES: Final = {"TOPOCENT": 30, "GEOCENTR": 30, "LSRK": 20, "LSRD": 20}


@dataclass(frozen=True)
class HeaderValue:
    """A number from a header.

    Attributes
    ----------
    value : float or None
        None if there is none, or none that can be used.
    source : str
        Its keyword, with what was done to it.
    doubt : str
        Why it was not used, or what one should know about it; '' if all is well.
    """

    value: float | None = None
    source: str = ""
    doubt: str = ""


def header_redshift(headers: Sequence[fits.Header]) -> HeaderValue:
    """Find a barycentric redshift: the keyword REDSHIFT, or CALIFA's MED_VEL (km/s).

    Parameters
    ----------
    headers : sequence of astropy.io.fits.Header
        The first that has a keyword is taken.

    Returns
    -------
    HeaderValue
        Without a value where the number is a velocity, relative to the local standard of rest, or none at all.
    """
    found, comment = _card(headers, _REDSHIFT)
    if found is not None:
        return _judged(found, comment)
    velocity, comment = _card(headers, _VELOCITY)
    number = _number(velocity)
    if number is None or number <= -990:
        return HeaderValue()
    if not REDSHIFTS[0] < number / SPEED_OF_LIGHT_KMS <= REDSHIFTS[1]:
        return HeaderValue(doubt=f"the header's {_VELOCITY} = {number:g} km/s is out of range")
    return HeaderValue(round(number / SPEED_OF_LIGHT_KMS, 6), f"the header's {_VELOCITY} / c")


def _judged(found: Any, comment: str) -> HeaderValue:
    number = _number(found)
    said = f"the header's {_REDSHIFT} = {found}"
    if number is None:
        return HeaderValue(doubt=f"{said} is no number")
    if number == 0:
        return HeaderValue(doubt=f"{said} looks like a placeholder")
    if "LSR" in comment.upper():
        return HeaderValue(
            doubt=f"{said} ({comment}) is relative to the local standard of rest, up to 20 km/s from barycentric"
        )
    if REDSHIFTS[0] < number <= REDSHIFTS[1]:
        return HeaderValue(number, f"the header's {_REDSHIFT}")
    if _VELOCITIES[0] <= abs(number) <= _VELOCITIES[1]:
        redshift = number / SPEED_OF_LIGHT_KMS
        return HeaderValue(doubt=f"{said} looks like a velocity in km/s; z = v/c would be {redshift:.6f}")
    return HeaderValue(doubt=f"{said} is out of range: {REDSHIFTS[0]} to {REDSHIFTS[1]}")


def header_ebv(headers: Sequence[fits.Header]) -> HeaderValue:
    """Find the Milky Way's E(B-V): MaNGA's keyword EBVGAL, brought to the scale of Schlafly & Finkbeiner (2011).

    Parameters
    ----------
    headers : sequence of astropy.io.fits.Header

    Returns
    -------
    HeaderValue
        In magnitudes; without a value where the number is not positive.
    """
    found, _ = _card(headers, _EBV)
    if found is None:
        return HeaderValue()
    number = _number(found)
    if number is None or not 0 < number <= 5:
        return HeaderValue(doubt=f"the header's {_EBV} = {found} is no E(B-V)")
    return HeaderValue(round(SFD_TO_SF11 * number, 5), f"{SFD_TO_SF11:g} x SFD98")


def frame_doubt(header: fits.Header) -> str:
    """Say that the wavelengths are not barycentric; '' if they are, or if the header is silent."""
    frame = str(header.get("SPECSYS", "")).strip().upper()
    if frame not in _OTHER_FRAMES:
        return ""
    return (
        f"the cube's wavelengths are not barycentric (SPECSYS = {frame}): a barycentric redshift is up to "
        f"{_OTHER_FRAMES[frame]} km/s off for it"
    )


def _card(headers: Sequence[fits.Header], keyword: str) -> tuple[Any, str]:
    for header in headers:
        if keyword in header:
            return header[keyword], str(header.comments[keyword])
    return None, ""


def _number(value: Any) -> float | None:
    if value is None or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
