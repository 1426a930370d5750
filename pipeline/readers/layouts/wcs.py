"""FITS images of one spectrum, or of rows of spectra, whose header says the wavelengths.

Sources: Greisen et al. (2006, A&A 446, 747) for CTYPE; IRAF's DC-FLAG (log-linear); SDSS' VACUUM and COEFF0/1.
"""

from typing import Any, Final

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from galprote.model.errors import CubeError, SpectrumError
from galprote.pipeline.readers.axis import VAGUE_TYPES, Medium, read_wavelengths
from galprote.pipeline.readers.layouts.raw import (
    RawSpectrum,
    choose_row,
    plain,
    variance_of_inverse,
    variance_of_sigma,
)

VARIANCES: Final = frozenset({"STAT", "VAR", "VARIANCE"})
INVERSES: Final = frozenset({"IVAR", "INVVAR"})
SIGMAS: Final = frozenset({"ERR", "ERROR", "ERRORS", "SIGMA", "STD", "NOISE", "UNCERT"})
FLAGS: Final = frozenset({"DQ", "MASK", "QUAL", "QUALITY", "FLAGS"})
#: An axis in wavelength, by the first four letters of CTYPE.
_TYPES: Final[dict[str, Medium]] = {"AWAV": "air", "WAVE": "vacuum"}


def read_image(hdus: fits.HDUList, row: int | None) -> RawSpectrum | None:
    """Read an image of one or two axes, of which the first is wavelength."""
    known = VARIANCES | INVERSES | SIGMAS | FLAGS
    image = next((hdu for hdu in hdus if _is_image(hdu) and hdu.name.upper() not in known), None)
    if image is None:
        return None
    header, data = image.header, np.asarray(image.data)
    data = data.reshape(-1, data.shape[-1]) if data.ndim < 3 or min(data.shape[:-1]) == 1 else data
    if data.ndim > 2:
        raise SpectrumError(
            f"the image has axes {data.shape[::-1]}: this is a cube. `galprote-pipeline run` maps cubes"
        )
    if not {"CRVAL1", "COEFF0"} & set(header):
        return None
    chosen = choose_row(len(data), row)
    wavelength, notes = header_wavelengths(header, data.shape[1])
    medium, source = stated_medium(hdus[0].header, header)
    variance, bad = _beside(hdus, image, data.shape, chosen)
    redshift = header.get("REDSHIFT", hdus[0].header.get("REDSHIFT"))
    return RawSpectrum(
        layout="FITS image",
        wavelength=wavelength,
        flux=plain(data[chosen]),
        variance=variance,
        bad=bad,
        medium=medium,
        medium_source=source,
        unit=str(header.get("BUNIT", "")),
        redshift=float(redshift) if isinstance(redshift, int | float) else None,
        redshift_source="header, REDSHIFT" if isinstance(redshift, int | float) else "",
        rows=len(data),
        label=f"row {chosen}" if len(data) > 1 else "",
        notes=notes,
    )


def stated_medium(*headers: fits.Header) -> tuple[Medium | None, str]:
    """Whether headers say air or vacuum, and which keyword does; (None, "") if none."""
    for header in headers:
        if isinstance(header.get("VACUUM"), bool):
            return ("vacuum" if header["VACUUM"] else "air"), "header, VACUUM"
        word = str(header.get("AIRORVAC", "")).strip().lower()[:3]
        if word in ("air", "vac"):
            return ("air" if word == "air" else "vacuum"), "header, AIRORVAC"
        ctype = str(header.get("CTYPE1", "")).strip().upper()
        if ctype not in VAGUE_TYPES and ctype[:4] in _TYPES:
            return _TYPES[ctype[:4]], f"header, CTYPE1 = '{ctype}'"
    return None, ""


def header_wavelengths(header: fits.Header, length: int) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Wavelengths of an image's first axis, Angstrom, in the file's medium, and what was assumed.

    Raises
    ------
    SpectrumError
        If the keywords are missing, or their wavelengths make no sense.
    """
    if "CRVAL1" not in header:
        return _powers(float(header["COEFF0"]), float(header["COEFF1"]), length), ()
    notes = []
    if "CRPIX1" not in header:
        notes.append("the header has no CRPIX1: the first sample is taken to be at CRVAL1")
    step = float(header.get("CD1_1", header.get("CDELT1", 0.0)))
    first = float(header["CRVAL1"]) + (1 - float(header.get("CRPIX1", 1.0))) * step
    if header.get("DC-FLAG") == 1:
        return _powers(first, step, length), tuple(notes)
    ctype, unit = (str(header.get(key, "")).strip() for key in ("CTYPE1", "CUNIT1"))
    if not unit:
        notes.append("the header has no CUNIT1: Angstrom assumed")
    # An axis in vacuum is read as one in air, so that nothing is converted yet.
    algorithm = ctype[4:] if ctype.upper() not in VAGUE_TYPES and ctype.upper()[:4] in _TYPES else ""
    if ctype and not algorithm and ctype.upper() not in VAGUE_TYPES and ctype.upper()[:4] not in _TYPES:
        raise SpectrumError(f"CTYPE1 = '{ctype}' is no wavelength: convert the spectrum to wavelengths")
    cards: dict[str, Any] = {"CTYPE1": "AWAV" + algorithm, "CUNIT1": unit or "Angstrom", "CDELT1": step}
    cards |= {"CRVAL1": float(header["CRVAL1"]), "CRPIX1": float(header.get("CRPIX1", 1.0))}
    try:
        return read_wavelengths(fits.Header(cards), 1, length).wavelength, tuple(notes)
    except CubeError as error:
        hint = " (a logarithmic axis needs DC-FLAG = 1)" if first + step * length < 20 else ""
        raise SpectrumError(f"{error}{hint}") from error


def _powers(first: float, step: float, length: int) -> NDArray[np.float64]:
    """Wavelengths of an axis that is linear in their logarithm to base ten."""
    return np.asarray(10.0 ** (first + step * np.arange(length)), dtype=np.float64)


def _is_image(hdu: Any) -> bool:
    return bool(hdu.is_image and hdu.header.get("NAXIS", 0) > 0 and hdu.shape[-1] >= 5)


def _beside(
    hdus: fits.HDUList, image: Any, shape: tuple[int, ...], row: int
) -> tuple[NDArray[np.float64] | None, NDArray[np.bool_] | None]:
    """Variance and flags from images of the same shape, known by their names."""
    variance, bad = None, None
    for hdu in hdus:
        if hdu is image or not _is_image(hdu) or hdu.shape != image.shape:
            continue
        values = np.asarray(hdu.data).reshape(shape)[row]
        name = hdu.name.upper()
        if name in VARIANCES:
            variance = plain(values)
        elif name in INVERSES:
            variance = variance_of_inverse(values)
        elif name in SIGMAS:
            variance = variance_of_sigma(values)
        elif name in FLAGS:
            bad = np.asarray(values) != 0
    return variance, bad
