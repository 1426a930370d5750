"""A file with a spectrum -> wavelengths in air, flux and variance, and what the file says of the galaxy.

Nothing is guessed that changes the answer: whether wavelengths are in air or vacuum is said by the layout, the file or
the caller, or it is an error.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from galprote.model.errors import CubeError, GalproteError, SpectrumError
from galprote.model.grids import STEP
from galprote.pipeline.readers.axis import Medium, checked_axis
from galprote.pipeline.readers.layouts.desi import read_desi
from galprote.pipeline.readers.layouts.foreign import ADVICE, read_foreign
from galprote.pipeline.readers.layouts.raw import Layout, RawSpectrum
from galprote.pipeline.readers.layouts.sdss import read_spec, read_spspec, refuse_plate
from galprote.pipeline.readers.layouts.stack import read_stack
from galprote.pipeline.readers.layouts.table import read_table
from galprote.pipeline.readers.layouts.text import read_text
from galprote.pipeline.readers.layouts.wcs import read_image
from galprote.pipeline.readers.units import flux_unit

#: The first that understands a file reads it.
LAYOUTS: Final[tuple[Layout, ...]] = (read_spec, read_spspec, read_desi, read_stack, read_table, read_image)
#: Layouts of which errors that are all zero do not mean that there are no data.
PLAIN: Final = ("FITS table", "FITS image", "text", "ECSV", "specutils")
#: Samples this much wider than their neighbours have a gap beside them; as many are added at most.
GAP: Final = 1.8
MOST_ADDED: Final = 100_000
#: As for cubes: wider samples, Angstrom, cannot hold what the model reads in its own of a fourth of it.
WIDEST: Final = 4 * STEP
_FITS: Final = (b"SIMPLE  =", b"\x1f\x8b", b"BZh")


@dataclass(frozen=True)
class Spectrum:
    """One spectrum, ready for `galprote.pipeline.fit_spectra`. Arrays are (m,) float64, in ascending wavelength.

    Attributes
    ----------
    wavelength : (m,) float64
        Bin centres in air, Angstrom, observed frame.
    flux : (m,) float64
        In `unit`; NaN where there are no data or the file's flags exclude them.
    variance : (m,) float64 or None
        In `unit` squared; None if the file has none.
    unit : str
        As FITS writes it; empty if the file does not say.
    name : str
        The file's name without its ending, and the row.
    layout : str
        What kind of file it is.
    native : {"air", "vacuum"}
        What the file's wavelengths are in.
    native_source : str
        What says so.
    fwhm : (m,) float64 or None
        Line spread function, Angstrom, observed frame.
    redshift, ebv : float or None
        If the file has them.
    redshift_source, ebv_source : str
        Where they are from; without `ebv`, what else the file says of the foreground.
    notes : tuple of str
        What was assumed, and what to know.
    """

    wavelength: NDArray[np.float64]
    flux: NDArray[np.float64]
    variance: NDArray[np.float64] | None
    unit: str
    name: str
    layout: str
    native: Medium
    native_source: str
    fwhm: NDArray[np.float64] | None = None
    redshift: float | None = None
    redshift_source: str = ""
    ebv: float | None = None
    ebv_source: str = ""
    notes: tuple[str, ...] = ()


def read_spectrum(path: str | Path, *, row: int | None = None, medium: Medium | None = None) -> Spectrum:
    """Read a spectrum: SDSS, BOSS, eBOSS, DESI, MaNGA rows, FITS tables and images, text, and what specutils reads.

    Parameters
    ----------
    path : str or Path
    row : int, optional
        Which spectrum of a file with several, counted from 0.
    medium : {"air", "vacuum"}, optional
        What the wavelengths are in. Needed if the file does not say; where it says something else, this holds.

    Returns
    -------
    Spectrum

    Raises
    ------
    SpectrumError
        If there is no such file or row, it is damaged or not understood, it does not say air or vacuum, its unit is no
        flux per wavelength, or no sample of it is usable.
    """
    path = Path(path)
    if not path.is_file():
        raise SpectrumError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}; expected a spectrum")
    try:
        return _finished(_read(path, row), path, medium)
    except SpectrumError as error:
        raise SpectrumError(f"{path}: {error}") from error


def _read(path: Path, row: int | None) -> RawSpectrum:
    with path.open("rb") as file:
        start = file.read(9)
    raw = _read_fits(path, row) if start.startswith(_FITS) else None
    if raw is None and start.startswith(_FITS):
        raw = read_foreign(path, row)
        if raw is None:
            raise SpectrumError(
                "no spectrum found in it: neither columns of wavelength and flux, nor an image with CRVAL1, nor a "
                f"layout of SDSS, DESI or MaNGA. {ADVICE}"
            )
    if raw is not None:
        return raw
    try:
        return read_text(path, row)
    except SpectrumError as error:
        foreign = read_foreign(path, row)
        if foreign is None:
            raise SpectrumError(f"{error}. {ADVICE}") from error
        return foreign


def _read_fits(path: Path, row: int | None) -> RawSpectrum | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # astropy warns of cosmetic faults in headers
            with path.open("rb") as file, fits.open(file, memmap=False) as hdus:
                refuse_plate(hdus)
                found = (read(hdus, row) for read in LAYOUTS)
                return next((raw for raw in found if raw is not None), None)
    except GalproteError:
        raise
    except Exception as error:  # astropy raises many types for damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SpectrumError(f"damaged, or not a spectrum: {reason:.300}") from error


def _finished(raw: RawSpectrum, path: Path, medium: Medium | None) -> Spectrum:
    """Bring wavelengths to air and ascending order, drop what is flagged, check."""
    if raw.flux.shape != raw.wavelength.shape or raw.flux.ndim != 1:
        raise SpectrumError(f"flux has shape {raw.flux.shape}, wavelength {raw.wavelength.shape}: expected one axis")
    native, source, notes = _medium(raw, medium)
    order = np.argsort(raw.wavelength, kind="stable")
    order = order[np.isfinite(raw.wavelength[order])]
    wavelength, unit = _checked(raw, native, order)
    flux, variance = raw.flux[order], None if raw.variance is None else raw.variance[order]
    bad = ~np.isfinite(flux) if raw.bad is None else raw.bad[order] | ~np.isfinite(flux)
    uncertain = variance is not None and not (variance > 0).any()
    if bad.all() or (uncertain and raw.layout not in PLAIN):
        raise SpectrumError(f"{raw.label or 'the spectrum'} has no usable sample")
    if uncertain:
        notes, variance = (*notes, "no error in the file is positive: the noise is estimated"), None
    suffix = f" {raw.label}" if raw.label else ""
    complete, place = without_gaps(wavelength)
    if len(complete) > len(place):
        notes = (*notes, f"{len(complete) - len(place)} samples are not in the file, and count as missing")

    def placed(values: NDArray[np.float64]) -> NDArray[np.float64]:
        whole = np.full(len(complete), np.nan)
        whole[place] = values
        return whole

    return Spectrum(
        wavelength=complete,
        flux=placed(np.where(bad, np.nan, flux)),
        variance=None if variance is None else placed(variance),
        unit=unit,
        name=path.name.removesuffix(".gz").removesuffix(".bz2").rsplit(".", 1)[0] + suffix,
        layout=raw.layout,
        native=native,
        native_source=source,
        fwhm=None if raw.fwhm is None else placed(raw.fwhm[order]),
        redshift=raw.redshift,
        redshift_source=raw.redshift_source,
        ebv=raw.ebv,
        ebv_source=raw.ebv_source,
        notes=notes,
    )


def _checked(raw: RawSpectrum, native: Medium, order: NDArray[np.int64]) -> tuple[NDArray[np.float64], str]:
    """Ascending wavelengths in air, and the flux's unit, both plausible."""
    wavelength = raw.wavelength[order]
    if len(wavelength) and wavelength[-1] < 20:
        raise SpectrumError(
            f"wavelengths end at {wavelength[-1]:.4g} Angstrom: are they logarithms? Name the column loglam, "
            "or set DC-FLAG = 1; or convert to Angstrom"
        )
    try:
        axis = checked_axis(wavelength, native, "", "Angstrom")
        unit = flux_unit(raw.unit).found
    except CubeError as error:
        raise SpectrumError(str(error).replace("BUNIT", "the flux's unit")) from error
    if (widest := float(np.diff(wavelength).min())) > WIDEST:
        raise SpectrumError(f"samples are {widest:.3g} A wide or more: at most {WIDEST:.3g} A can be used")
    return axis.wavelength, unit


def without_gaps(wavelength: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """An axis with the samples that somebody left out: else those beside a gap would be taken for as wide as it is.

    Parameters
    ----------
    wavelength : (m,) float64, increasing

    Returns
    -------
    wavelength : (n,) float64
    place : (m,) int64
        Where the given samples are among them.
    """
    steps = np.diff(wavelength)
    if len(steps) < 3:
        return wavelength, np.arange(len(wavelength))
    # Wider than both neighbours: where two samplings meet, a step is as wide as those on one side.
    around = np.maximum(np.append(steps[1], steps[:-1]), np.append(steps[1:], steps[-2]))
    missing = np.where(steps > GAP * around, np.round(steps / around).astype(np.int64) - 1, 0)
    if missing.sum() > MOST_ADDED:
        raise SpectrumError(f"its wavelengths leave out {missing.sum():,} samples: are they right?")
    place = np.arange(len(wavelength)) + np.concatenate([[0], np.cumsum(missing)])
    return np.interp(np.arange(place[-1] + 1), place, wavelength), place


def _medium(raw: RawSpectrum, told: Medium | None) -> tuple[Medium, str, tuple[str, ...]]:
    if told is None:
        if raw.medium is None:
            raise SpectrumError("it does not say whether wavelengths are in air or vacuum: add --air or --vacuum")
        return raw.medium, raw.medium_source, raw.notes
    if raw.medium is not None and raw.medium != told:
        note = f"the file says {raw.medium} ({raw.medium_source}): taken to be in {told}, as told"
        return told, "the command", (*raw.notes, note)
    return told, "the command" if raw.medium is None else raw.medium_source, raw.notes
