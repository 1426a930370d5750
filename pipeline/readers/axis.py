"""A cube's header -> wavelengths in air, in Angstrom.

Sources: Greisen et al. 2006 (A&A 446, 747; "FITS Paper III", DOI 10.1051/0004-6361:20053818) for the spectral
keywords; Morton 1991 (ApJS 77, 119) for the IAU standard of air wavelengths.
"""

import warnings
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS, WCSSUB_SPECTRAL
from numpy.typing import NDArray

from galprote.model.errors import CubeError
from galprote.model.wording import count

Medium = Literal["air", "vacuum"]

#: Spectral types that FITS Paper III defines, by the first four letters of CTYPE.
SPECTRAL_TYPES: Final = ("AWAV", "WAVE", "FREQ", "VELO", "VRAD", "VOPT", "ZOPT", "ENER", "WAVN", "BETA")
#: Names that some writers (early MUSE software among them) give to a linear wavelength axis: silent on air or
#: vacuum.
VAGUE_TYPES: Final = ("LINEAR", "LAMBDA", "WAVELENG", "WAVELENGTH")
#: Common spellings that the FITS standard does not have.
UNIT_ALIASES: Final = {
    "a": "Angstrom", "aa": "Angstrom", "ang": "Angstrom", "angstroms": "Angstrom", "angstrom": "Angstrom",
    "micron": "um", "microns": "um", "micrometer": "um", "nanometer": "nm", "nanometers": "nm",
}  # fmt: skip
#: Wavelengths outside of this range (Angstrom) mean that the unit in the header is wrong.
_PLAUSIBLE: Final = (100.0, 1e6)
_MOST_CHANNELS: Final = 1_000_000


@dataclass(frozen=True)
class SpectralAxis:
    """The wavelength axis of a cube.

    Attributes
    ----------
    wavelength : (n,) float64
        Air wavelengths of the channels' centres, Angstrom, observed frame, in the order of the file.
    native : {"air", "vacuum"}
        What the file's own axis is in.
    ctype, unit : str
        CTYPE and CUNIT as found.
    assumption : str
        What had to be assumed, in words; empty if nothing.
    """

    wavelength: NDArray[np.float64]
    native: Medium
    ctype: str
    unit: str
    assumption: str = ""

    @property
    def step(self) -> int:
        """1 where wavelengths ascend in the file, -1 where they descend."""
        return 1 if self.wavelength[-1] >= self.wavelength[0] else -1


def vacuum_to_air(wavelength: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert vacuum wavelengths to air with the IAU standard (Morton 1991, ApJS 77, 119).

    Not with eq. 65 of FITS Paper III, which is for air of 0 C: lines, and with them the template libraries,
    are in standard air of 15 C, where Na I D2 lies 0.09 Angstrom (5 km/s) from where that equation puts it.

    Parameters
    ----------
    wavelength : (n,) float64
        Vacuum wavelengths, Angstrom, above 2000.

    Returns
    -------
    (n,) float64
        Air wavelengths, Angstrom.
    """
    squared = (1e4 / np.asarray(wavelength, dtype=np.float64)) ** 2  # wavenumber, micrometre^-2
    index = 1.0 + 6.4328e-5 + 2.94981e-2 / (146.0 - squared) + 2.5540e-4 / (41.0 - squared)
    return wavelength / index


def spectral_axis_number(header: fits.Header) -> int | None:
    """Return the FITS number (1, 2, 3) of the spectral axis, or None if no CTYPE names one."""
    ctypes = {number: str(header.get(f"CTYPE{number}", "")).strip().upper() for number in (1, 2, 3)}
    for number, ctype in ctypes.items():
        if ctype[:4] in SPECTRAL_TYPES and ctype not in VAGUE_TYPES:
            return number
    if ctypes[3] in VAGUE_TYPES:  # simulated cubes have LINEAR on all three axes: the third is the one meant
        return 3
    return next((number for number, ctype in ctypes.items() if ctype in VAGUE_TYPES[1:]), None)


def is_wavelength(header: fits.Header, number: int) -> bool:
    """Tell whether the spectral axis is in wavelength, rather than frequency, energy or velocity."""
    ctype = str(header[f"CTYPE{number}"]).strip().upper()
    return ctype in VAGUE_TYPES or ctype[:4] in ("AWAV", "WAVE")


def read_wavelengths(header: fits.Header, number: int, length: int) -> SpectralAxis:
    """Compute the wavelengths of an AWAV, WAVE (linear or -LOG) or vaguely named axis.

    Parameters
    ----------
    header : astropy.io.fits.Header
        Header of the cube's HDU.
    number : int
        FITS number of the spectral axis.
    length : int
        Number of channels.

    Returns
    -------
    SpectralAxis
        In air and Angstrom.

    Raises
    ------
    CubeError
        If the keywords are missing, or their wavelengths make no sense. The message names no file: the caller
        does.
    """
    ctype, unit = (str(header.get(f"{key}{number}", "")).strip() for key in ("CTYPE", "CUNIT"))
    if not unit:
        raise CubeError(f"CUNIT{number} is missing: the wavelength axis (CTYPE{number} = '{ctype}') needs its unit")
    for key in (f"CRVAL{number}", f"CRPIX{number}"):
        if key not in header:  # FITS has defaults for both, with which every wavelength is wrong
            raise CubeError(f"{key} is missing: without it the wavelengths are not known")
    standard = _with_step(header, number)
    standard[f"CUNIT{number}"] = UNIT_ALIASES.get(unit.lower(), unit)
    assumption = ""
    if ctype.upper() in VAGUE_TYPES:
        standard[f"CTYPE{number}"] = "AWAV"
        assumption = f"CTYPE{number} = '{ctype}' does not say air or vacuum: air assumed"
    values = _pixels_to_world(standard, number, length)
    native: Medium = "vacuum" if ctype.upper().startswith("WAVE") and not assumption else "air"
    return checked_axis(values, native, ctype, unit, assumption)


def checked_axis(
    values: NDArray[np.float64], native: Medium, ctype: str, unit: str, assumption: str = ""
) -> SpectralAxis:
    """Make an axis from native wavelengths in Angstrom, after checks that they are usable.

    Raises
    ------
    CubeError
        If there are fewer than two channels, or wavelengths are not monotonic or not plausible.
    """
    if values.size < 2:
        raise CubeError(f"the spectral axis has {count(values.size, 'channel')}: a cube of spectra is wanted")
    steps = np.diff(values)
    if not np.isfinite(values).all() or not ((steps > 0).all() or (steps < 0).all()):
        raise CubeError(f"the wavelengths of the spectral axis (CTYPE '{ctype}', unit '{unit}') are not monotonic")
    first, last = float(values[0]), float(values[-1])
    if not (_PLAUSIBLE[0] < min(first, last) and max(first, last) < _PLAUSIBLE[1]):
        raise CubeError(
            f"the spectral axis runs from {first:.6g} to {last:.6g} Angstrom if its unit is '{unit}': "
            f"correct CUNIT, CRVAL or CD/CDELT in the header"
        )
    air = vacuum_to_air(values) if native == "vacuum" else values
    return SpectralAxis(air, native, ctype, unit, assumption)


def _with_step(header: fits.Header, number: int) -> fits.Header:
    """Copy a header, with the step of the spectral axis where wcslib looks for it.

    Where CD1_1 stands in a header wcslib ignores CDELT3, and puts a missing CD3_3 to 1 without a word.
    """
    diagonal, step = f"CD{number}_{number}", f"CDELT{number}"
    copy = header.copy()
    if diagonal not in header and any(f"CD{n}_{n}" in header for n in (1, 2, 3)) and step in header:
        copy[diagonal] = header[step]
    if not header.get(diagonal, header.get(step, 0.0)):
        raise CubeError(f"{diagonal} and {step} are missing or zero: the spectral axis has no step")
    return copy


def _pixels_to_world(header: fits.Header, number: int, length: int) -> NDArray[np.float64]:
    """Evaluate the spectral WCS at all channels, in Angstrom."""
    if length > _MOST_CHANNELS:
        raise CubeError(f"NAXIS{number} = {length:,}: a spectral axis has at most {_MOST_CHANNELS:,} channels")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # wcslib reports every keyword that it tidies up
            spectral: Any = WCS(header).sub([WCSSUB_SPECTRAL])
            if spectral.naxis != 1:
                raise CubeError(f"CTYPE{number} = '{header[f'CTYPE{number}']}' is not a spectral axis to wcslib")
            world = spectral.wcs_pix2world(np.arange(length, dtype=np.float64)[:, None], 0)[:, 0]
            values = (world * u.Unit(spectral.wcs.cunit[0])).to_value(u.AA)
    except CubeError:
        raise
    except Exception as error:  # wcslib raises many types
        reason = " ".join(str(error).split())
        raise CubeError(f"the WCS of the spectral axis (axis {number}) cannot be used: {reason}") from error
    return np.asarray(values, dtype=np.float64)
