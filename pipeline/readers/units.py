"""BUNIT -> a flux unit that can be trusted, or a statement of what was assumed.

Variances are squares of the flux: in erg/s/cm2/Angstrom without a power of ten they are around 1e-38, where
float32 ends (smallest normal number 1.2e-38). Such cubes are rescaled to 1e-20 erg/s/cm2/Angstrom while they
are read.
"""

import re
import warnings
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from astropy import units as u

from galprote.model.errors import CubeError

#: The flux unit of MUSE cubes.
MUSE_UNIT: Final = u.Unit(1e-20 * u.erg / u.s / u.cm**2 / u.AA)
#: Units larger than this (in erg/s/cm2/Angstrom) would put variances out of float32's range.
_LARGEST_SCALE: Final = 1e-14
_COUNTS: Final = frozenset({"ct", "adu", "electron", "DN", "ph"})
_PER: Final = frozenset({"s", "pix", "Angstrom"})
_EACH: Final = "spaxel|spax|pixel|pix|fiber|fibre"
_SPAXEL: Final = re.compile(rf"/\s*({_EACH})\b|\b({_EACH})(\*\*|\^)?\(?-1\)?", re.IGNORECASE)
_SPELLINGS: Final = (
    (re.compile(r"\bergs?\b", re.IGNORECASE), "erg"),
    (re.compile(r"\b(ang|angstroms?|angstroem|aa)\b", re.IGNORECASE), "Angstrom"),
    (re.compile(r"\bA\b"), "Angstrom"),  # read as ampere otherwise
    (re.compile(r"\bsec\b|\bS\b"), "s"),
    (re.compile(r"\bCM"), "cm"),
    (re.compile(r"\b(counts?|cts)\b", re.IGNORECASE), "ct"),
)


@dataclass(frozen=True)
class FluxUnit:
    """What the numbers of a cube are.

    Attributes
    ----------
    bunit : str
        Unit of the values after multiplication by `factor`, as FITS writes it; empty if dimensionless.
    factor : float
        What the stored values are multiplied by (1 for nearly every cube).
    found : str
        BUNIT as found.
    assumed : bool
        True if BUNIT was empty and the format's unit was assumed.
    calibrated : bool
        False for counts and dimensionless values: shapes of spectra may be wrong, fluxes are arbitrary.
    """

    bunit: str
    factor: float = 1.0
    found: str = ""
    assumed: bool = False
    calibrated: bool = True

    @property
    def squared(self) -> str:
        """Unit of the variances, as FITS writes it."""
        return _fits(u.Unit(_parse(self.bunit) ** 2)) if self.bunit else ""


def flux_unit(found: str, *, default: str = "", fscale: float = 1.0) -> FluxUnit:
    """Understand a BUNIT.

    Parameters
    ----------
    found : str
        BUNIT as found in the header.
    default : str
        What an empty BUNIT means in the cube's format; empty if nothing is known.
    fscale : float
        FSCALE, a factor that mpdaf keeps beside BUNIT; used where BUNIT itself has no scale.

    Returns
    -------
    FluxUnit
        The unit to write, and the factor to it.

    Raises
    ------
    CubeError
        If the unit cannot be parsed, or is not a flux density per wavelength. The message names no file.
    """
    found = found.strip()
    if not found:
        return replace(flux_unit(default), found="", assumed=True) if default else FluxUnit("", calibrated=False)
    unit = _parse(found)
    if unit.scale == 1.0 and fscale != 1.0:
        if not 0 < fscale < np.inf:
            raise CubeError(f"FSCALE = {fscale:g}: a factor of the flux unit must be positive")
        unit = u.Unit(fscale * unit)
    for target in (MUSE_UNIT, MUSE_UNIT / u.arcsec**2, MUSE_UNIT / u.sr):
        if unit.is_equivalent(target):
            return _flux_density(unit, u.Unit(target), found)
    bases = {base.name for base in unit.bases}
    if bases & _COUNTS and bases <= _COUNTS | _PER:
        return FluxUnit(_fits(u.Unit(unit / unit.scale)), unit.scale, found, calibrated=False)
    raise CubeError(
        f"BUNIT = '{found}' is not a flux density per wavelength (such as 1e-20 erg/s/cm2/Angstrom), "
        f"nor counts: convert the cube, or correct BUNIT"
    )


def _flux_density(unit: u.UnitBase, target: u.UnitBase, found: str) -> FluxUnit:
    scale = float(unit.to(target)) * float(MUSE_UNIT.scale)
    exponent = np.log10(scale)
    if scale > _LARGEST_SCALE or abs(exponent - round(exponent)) > 1e-9:  # FITS has no unit of 1.2e-17 erg
        return FluxUnit(_fits(target), float(unit.to(target)), found)
    kept = u.Unit(10.0 ** round(exponent) / float(MUSE_UNIT.scale) * target)
    return FluxUnit(_fits(kept), 1.0, found)


def _parse(text: str) -> u.UnitBase:
    spelled = _SPAXEL.sub("", text)
    for pattern, replacement in _SPELLINGS:
        spelled = pattern.sub(replacement, spelled)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", u.UnitsWarning)
        for style in ("fits", None, "cds"):  # numbers such as 1e-20 are not FITS, 10**(-20) is FITS only
            try:
                unit: u.UnitBase = u.Unit(spelled.strip(), format=style)
            except Exception:  # astropy raises many types for what is no unit # noqa: S112
                continue
            if np.isreal(unit.scale) and 0 < unit.scale < np.inf:
                return unit
    raise CubeError(f"BUNIT = '{text}' is not a unit that can be understood: correct it in the header")


def _fits(unit: u.UnitBase) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", u.UnitsWarning)
        try:
            return str(unit.to_string("fits"))
        except ValueError:  # "electron" is common, and no unit of the FITS standard
            return str(unit.to_string())
