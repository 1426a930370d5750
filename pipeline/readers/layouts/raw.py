"""A spectrum as its file has it, before wavelengths are brought to air."""

from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from galprote.model.errors import SpectrumError
from galprote.pipeline.readers.axis import Medium

#: Full width at half maximum of a Gaussian of standard deviation one.
SIGMA_TO_FWHM: Final = float(np.sqrt(8 * np.log(2)))


@dataclass(frozen=True)
class RawSpectrum:
    """What a layout gives. Arrays have one shape, (m,), in the file's order.

    Attributes
    ----------
    layout : str
        Name of the layout, for people.
    wavelength : (m,) float64
        Bin centres, Angstrom, in the file's own medium.
    flux : (m,) float64
        Flux per unit wavelength.
    variance : (m,) float64 or None
        NaN where the file says that there is no information.
    bad : (m,) bool or None
        What the file's flags exclude.
    medium : {"air", "vacuum"} or None
        None if neither the layout nor the file says.
    medium_source : str
        What says so.
    unit : str
        Of the flux, as found.
    fwhm : (m,) float64 or None
        Line spread function, Angstrom.
    redshift, ebv : float or None
        Of the galaxy, and of the foreground, if the file has them.
    redshift_source, ebv_source : str
        Where from; where `ebv` is None, what else the file says of the foreground.
    rows : int
        Spectra in the file.
    label : str
        Which of them this is; empty if it is the only one.
    notes : tuple of str
        What had to be assumed, and what to know.
    """

    layout: str
    wavelength: NDArray[np.float64]
    flux: NDArray[np.float64]
    variance: NDArray[np.float64] | None = None
    bad: NDArray[np.bool_] | None = None
    medium: Medium | None = None
    medium_source: str = ""
    unit: str = ""
    fwhm: NDArray[np.float64] | None = None
    redshift: float | None = None
    redshift_source: str = ""
    ebv: float | None = None
    ebv_source: str = ""
    rows: int = 1
    label: str = ""
    notes: tuple[str, ...] = ()


class Layout(Protocol):
    """Reads one family of FITS files: None if a file is of another one."""

    def __call__(self, hdus: fits.HDUList, row: int | None) -> RawSpectrum | None: ...  # noqa: D102


def plain(values: Any) -> NDArray[np.float64]:
    """Numbers of any dtype, byte order and shape with one long axis as (m,) float64; masked ones are NaN."""
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.float64), np.nan)
    return np.array(values, dtype=np.float64).squeeze()


def variance_of_inverse(inverse: Any) -> NDArray[np.float64]:
    """Variances of inverse variances; NaN where these are not positive: there is no information."""
    inverse = plain(inverse)
    good = inverse > 0
    with np.errstate(over="ignore"):
        return np.where(good, 1.0 / np.where(good, inverse, 1.0), np.nan)


def variance_of_sigma(sigma: Any) -> NDArray[np.float64]:
    """Variances of standard deviations; NaN where these are not positive."""
    sigma = plain(sigma)
    with np.errstate(over="ignore"):  # damaged values
        return np.where(sigma > 0, sigma**2, np.nan)


def choose_row(rows: int, row: int | None) -> int:
    """The row to read, of a file with so many spectra.

    Raises
    ------
    SpectrumError
        If there are several and none was chosen, or there is no such row.
    """
    if row is None:
        if rows == 1:
            return 0
        raise SpectrumError(f"it has {rows} spectra: choose one, --row 0 to --row {rows - 1}")
    if not 0 <= row < rows:
        there = "one spectrum, row 0" if rows == 1 else f"{rows} spectra, rows 0 to {rows - 1}"
        raise SpectrumError(f"row {row}: it has {there}")
    return row
