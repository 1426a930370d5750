"""Spectra stacked in 2-D arrays on one wavelength axis, as in MaNGA's row-stacked files: WAVE, FLUX, IVAR, MASK.

Source: Law et al. (2016, AJ 152, 83) and https://www.sdss4.org/dr17/manga/manga-data; wavelengths are in vacuum, the
mask is DRP3PIXMASK. SRES is the resolving power of each spectrum, SPECRES that of their median, Z their redshifts (the
last as in the test data of the MaNGA data analysis pipeline).
"""

from typing import Any, Final

import numpy as np
from astropy.io import fits

from galprote.model.errors import SpectrumError
from galprote.pipeline.readers.layouts.raw import RawSpectrum, choose_row, plain, variance_of_inverse
from galprote.pipeline.readers.layouts.wcs import stated_medium

#: Bits of MaNGA's mask that spoil a sample: NOCOV, LOWCOV, DEADFIBER, FORESTAR, DONOTUSE.
SPOILT: Final = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 10


def read_stack(hdus: fits.HDUList, row: int | None) -> RawSpectrum | None:
    """Read one row of arrays WAVE (m,), FLUX (n, m), IVAR and MASK (n, m)."""
    names = {hdu.name for hdu in hdus if getattr(hdu, "shape", ())}
    if not {"WAVE", "FLUX"} <= names:
        return None
    shape = hdus["FLUX"].shape
    if len(shape) == 3:
        raise SpectrumError("FLUX has three axes: this is a cube. `galprote-pipeline run` maps cubes")
    m = int(hdus["WAVE"].shape[-1])
    if shape[-1] != m:
        raise SpectrumError(f"FLUX has {shape[-1]} samples, WAVE {m}: damaged?")
    rows = 1 if len(shape) == 1 else int(shape[0])
    chosen = choose_row(rows, row)
    manga = "DRPVER" in hdus[0].header or "DRPVER" in hdus["FLUX"].header or "VERSDRP3" in hdus[0].header
    medium, source = ("vacuum", "MaNGA") if manga else stated_medium(hdus[0].header, hdus["WAVE"].header)
    wavelength = plain(hdus["WAVE"].data)
    power = next((_row(hdus, name, chosen) for name in ("SRES", "SPECRES") if name in names), None)
    mask = _row(hdus, "MASK", chosen) if "MASK" in names else None
    bits = SPOILT if manga else -1
    redshift = float(plain(hdus["Z"].data).ravel()[chosen]) if "Z" in names and hdus["Z"].shape == (rows,) else None
    return RawSpectrum(
        layout="MaNGA rows" if manga else "stacked arrays",
        wavelength=wavelength,
        flux=_row(hdus, "FLUX", chosen),
        variance=variance_of_inverse(_row(hdus, "IVAR", chosen)) if "IVAR" in names else None,
        bad=None if mask is None else (mask.astype(np.int64) & bits) != 0,
        medium=medium,
        medium_source=source,
        unit=str(hdus["FLUX"].header.get("BUNIT", "")),
        fwhm=None if power is None else np.where(power > 0, wavelength / np.where(power > 0, power, 1.0), np.nan),
        redshift=redshift,
        redshift_source="" if redshift is None else "array Z",
        rows=rows,
        label=f"row {chosen}" if rows > 1 else "",
    )


def _row(hdus: fits.HDUList, name: str, row: int) -> Any:
    """A row of a 2-D array, or a 1-D array that all rows share."""
    hdu = hdus[name]
    return plain(hdu.data if len(hdu.shape) == 1 else hdu.section[row])
