"""SDSS, BOSS and eBOSS: `spec-PLATE-MJD-FIBER.fits`, and the older `spSpec-MJD-PLATE-FIBER.fit`.

Sources: the data model of SDSS-III and IV (https://data.sdss.org/datamodel/files/SPECTRO_REDUX/RUN2D/PLATE4/), that of
SDSS-I and II (https://classic.sdss.org/dr7/dm/flatFiles/spSpec.html); E(B-V) of Schlegel et al. (1998) for `REDDEN`,
with the factor 0.86 of Schlafly & Finkbeiner (2011, ApJ 737, 103).
"""

from dataclasses import replace
from typing import Any, Final

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from galprote.model.errors import SpectrumError
from galprote.pipeline.readers.layouts.raw import (
    SIGMA_TO_FWHM,
    RawSpectrum,
    choose_row,
    plain,
    variance_of_inverse,
    variance_of_sigma,
)

#: Bits of `and_mask` that spoil a sample in all exposures: FULLREJECT, NOSKY, BRIGHTSKY, NODATA, COMBINEREJ.
SPOILT: Final = (1 << 18) | (1 << 22) | (1 << 23) | (1 << 24) | (1 << 25)
#: From Schlegel et al.'s E(B-V) to that of Schlafly & Finkbeiner.
SFD_TO_SF11: Final = 0.86
#: A_u / E(B-V) of Schlegel et al., in SDSS' own tables (Stoughton et al. 2002, table 22).
A_U: Final = 5.155
UNIT: Final = "10**-17 erg s-1 cm-2 Angstrom-1"
WARNING: Final = "the survey's own redshift has a warning (ZWARNING = {}): is it right?"


def read_spec(hdus: fits.HDUList, row: int | None) -> RawSpectrum | None:
    """Read a `spec` file: a table of loglam, flux, ivar, and_mask and wdisp, and one of the redshift."""
    table = next((hdu for hdu in hdus if {"loglam", "flux", "ivar"} <= _columns(hdu).keys()), None)
    if table is None:
        return None
    choose_row(1, row)
    columns, header = _columns(table), hdus[0].header
    wavelength = 10.0 ** plain(table.data[columns["loglam"]])
    mask, wdisp = (table.data[columns[name]] if name in columns else None for name in ("and_mask", "wdisp"))
    raw = RawSpectrum(
        layout="SDSS spec",
        wavelength=wavelength,
        flux=plain(table.data[columns["flux"]]),
        variance=variance_of_inverse(table.data[columns["ivar"]]),
        bad=None if mask is None else (np.asarray(mask) & SPOILT) != 0,
        medium="air" if header.get("VACUUM") is False else "vacuum",
        medium_source="SDSS",
        unit=str(header.get("BUNIT", UNIT)),
        fwhm=None if wdisp is None else _fwhm(wavelength, wdisp),
        ebv_source=_reddening(header),
    )
    return _with_redshift(raw, hdus)


def read_spspec(hdus: fits.HDUList, row: int | None) -> RawSpectrum | None:
    """Read an `spSpec` file: an image whose rows are flux, flux without continuum, error and mask."""
    header, data = hdus[0].header, hdus[0].data
    if not {"COEFF0", "COEFF1", "FIBERID"} <= set(header) or data is None or data.ndim != 2 or not 4 <= len(data) <= 5:
        return None
    choose_row(1, row)
    found = header.get("Z")
    return RawSpectrum(
        layout="SDSS spSpec",
        wavelength=10.0 ** (header["COEFF0"] + header["COEFF1"] * np.arange(data.shape[1])),
        flux=plain(data[0]),
        variance=variance_of_sigma(data[2]),
        bad=(data[3].astype(np.int64) & SPOILT) != 0,
        medium="air" if header.get("VACUUM") is False else "vacuum",
        medium_source="SDSS",
        unit=UNIT,  # BUNIT is mutilated in most releases
        redshift=None if found is None else float(found),
        redshift_source="" if found is None else "header, Z",
        ebv_source=_reddening(header),
    )


def _columns(hdu: Any) -> dict[str, str]:
    """Names of a table's columns as found, by lower case: releases differ."""
    names = hdu.columns.names if isinstance(hdu, fits.BinTableHDU) else []
    return {name.lower(): name for name in names}


def _fwhm(wavelength: NDArray[np.float64], wdisp: Any) -> NDArray[np.float64]:
    """FWHM in Angstrom from the standard deviation in samples."""
    width = plain(wdisp) * np.gradient(wavelength) * SIGMA_TO_FWHM
    return np.where(width > 0, width, np.nan)


def _with_redshift(raw: RawSpectrum, hdus: fits.HDUList) -> RawSpectrum:
    for hdu in hdus:
        columns = _columns(hdu)
        if "z" not in columns or len(hdu.data) != 1:
            continue
        notes = list(raw.notes)
        warning = hdu.data[columns["zwarning"]][0] if "zwarning" in columns else 0
        kind = str(hdu.data[columns["class"]][0]).strip() if "class" in columns else ""
        if warning:
            notes.append(WARNING.format(int(warning)))
        if kind not in ("", "GALAXY"):
            notes.append(f"the survey's classification is {kind}")
        redshift = float(hdu.data[columns["z"]][0])
        return replace(raw, redshift=redshift, redshift_source=f"table {hdu.name}, Z", notes=tuple(notes))
    return raw


def _reddening(header: fits.Header) -> str:
    """What the plate's median reddening says, in words."""
    try:
        ebv = float(str(header["REDDEN"]).split()[0]) / A_U * SFD_TO_SF11
    except (KeyError, ValueError, IndexError):
        return ""
    return f"the median over its plate is {ebv:.4f} (header, REDDEN, on the scale of Schlafly & Finkbeiner 2011)"


def refuse_plate(hdus: fits.HDUList) -> None:
    """Say what to do with a whole plate.

    Raises
    ------
    SpectrumError
        If the file is an `spPlate`.
    """
    header = hdus[0].header
    if "COEFF0" in header and header.get("NAXIS") == 2 and header["NAXIS2"] > 5 and "FIBERID" not in header:
        raise SpectrumError("this is a whole plate (spPlate): take the `spec` or `spSpec` file of one fibre")
