"""One number a channel, from an HDU of its own: wavelengths, where the header of the cube has none, and others.

Read are images with one axis, and tables with one column of as many numbers (or one row of them).
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy import units as u
from astropy.io import fits
from numpy.typing import NDArray

from galprote.model.errors import CubeError
from galprote.pipeline.readers.axis import UNIT_ALIASES, Medium, SpectralAxis, checked_axis
from galprote.pipeline.readers.fitsfile import Hdu

#: Names of HDUs, and of columns, that hold wavelengths.
WAVELENGTH_HDUS: Final = ("WAVE", "WAVELENGTH", "LAMBDA", "WAVELENGTHS", "LAM")
#: Without a unit these can only be Angstrom.
_SURELY_ANGSTROM: Final = (2000.0, 30_000.0)
#: Keywords that say air or vacuum, and their values.
_MEDIUM_KEYS: Final = ("AIRORVAC", "WAVETYPE", "MEDIUM", "CTYPE1")
#: A million channels.
_MOST_BYTES: Final = 8_000_000


def wavelength_hdu(hdus: Sequence[Hdu]) -> Hdu | None:
    """The HDU with the wavelengths of all spectra, or None."""
    return next((hdu for name in WAVELENGTH_HDUS for hdu in hdus if hdu.index and hdu.name == name), None)


def read_vector(path: Path, hdu: Hdu) -> NDArray[np.float64]:
    """Read an HDU that holds one number a channel.

    Parameters
    ----------
    path : Path
        The file; it may be gzip-compressed.
    hdu : Hdu

    Returns
    -------
    (n,) float64

    Raises
    ------
    CubeError
        If it holds anything else.
    """
    if hdu.image is not None and len(hdu.image.shape) != 1:
        raise CubeError(f"HDU {hdu.label}: one number a channel is wanted; bring all spectra to one wavelength axis")
    if hdu.data_bytes > _MOST_BYTES:
        raise CubeError(f"HDU {hdu.index} {hdu.name} holds {hdu.data_bytes:,} bytes: too many for one number a channel")
    column = None if hdu.image is not None else _column(hdu)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(path, memmap=False) as file:
                data: Any = file[hdu.index].data
                return np.asarray(data if column is None else data.field(column - 1), dtype=np.float64).ravel()
    except Exception as error:  # astropy raises many types
        reason = " ".join(str(error).split())
        raise CubeError(f"HDU {hdu.index} {hdu.name} cannot be read: {reason}") from error


def _column(hdu: Hdu) -> int:
    """Number of a table's column, from 1: the one that is called like wavelengths, or the only one."""
    columns = range(1, int(hdu.header.get("TFIELDS", 0)) + 1)
    names = {number: str(hdu.header.get(f"TTYPE{number}", "")).strip().upper() for number in columns}
    found = [number for number, name in names.items() if name in WAVELENGTH_HDUS] or list(names)
    if (len(names) > 1 and names[found[0]] not in WAVELENGTH_HDUS) or not found:
        listing = ", ".join(names.values()) or "none"
        raise CubeError(f"HDU {hdu.index} {hdu.name}: a column WAVE or WAVELENGTH is wanted; found are {listing}")
    return found[0]


def vector_axis(path: Path, hdu: Hdu, native: Medium | None = None) -> SpectralAxis:
    """Wavelengths from an HDU of their own.

    Parameters
    ----------
    path : Path
    hdu : Hdu
    native : {"air", "vacuum"}, optional
        What the format says they are in; by default the HDU's header is asked, and air is assumed if it is silent.

    Raises
    ------
    CubeError
        If they make no sense, or their unit is not known.
    """
    values = read_vector(path, hdu)
    keys = ("CUNIT1", "BUNIT", "UNIT") if hdu.image is not None else (f"TUNIT{_column(hdu)}",)
    unit = next((str(hdu.header[key]).strip() for key in keys if str(hdu.header.get(key, "")).strip()), "")
    notes = []
    if unit:
        try:
            values = (values * u.Unit(UNIT_ALIASES.get(unit.lower(), unit))).to_value(u.AA)
        except Exception as error:  # astropy raises many types for what is no unit of length
            raise CubeError(f"HDU {hdu.index} {hdu.name}: '{unit}' is no unit of wavelength") from error
    elif not ((values > _SURELY_ANGSTROM[0]) & (values < _SURELY_ANGSTROM[1])).all():
        raise CubeError(f"HDU {hdu.index} {hdu.name} has no unit (CUNIT1, BUNIT): Angstrom, nm, a logarithm?")
    elif native is None:
        notes.append(f"HDU {hdu.name} has no unit: Angstrom assumed")
    if native is None:
        native = _stated_medium(hdu)
        if native is None:
            native = "air"
            notes.append(f"HDU {hdu.name} does not say air or vacuum: air assumed")
    return checked_axis(np.asarray(values, dtype=np.float64), native, hdu.name, unit or "Angstrom", "; ".join(notes))


def _stated_medium(hdu: Hdu) -> Medium | None:
    if isinstance(hdu.header.get("VACUUM"), bool | int):
        return "vacuum" if hdu.header["VACUUM"] else "air"
    for key in _MEDIUM_KEYS:
        text = str(hdu.header.get(key, "")).strip().lower()
        if text.startswith("vac") or text == "wave" or text.startswith("wave-"):
            return "vacuum"
        if text.startswith(("air", "awav")):
            return "air"
    return None
