"""Whatever else specutils can read, where it is installed."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u

from galprote.model.errors import SpectrumError
from galprote.pipeline.readers.layouts.raw import RawSpectrum, choose_row, plain

#: How to get it.
ADVICE = "pip install 'galprote[specutils]' adds the formats that specutils reads"


def read_foreign(path: Path, row: int | None) -> RawSpectrum | None:
    """Read with specutils; None if it is not installed.

    Raises
    ------
    SpectrumError
        If specutils does not understand the file either, or its flux is in no unit per wavelength.
    """
    try:
        import specutils
    except ImportError:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Named so since its version 2.
            found: Any = getattr(specutils, "Spectrum", None) or specutils.Spectrum1D
            spectrum = found.read(str(path))
    except Exception as error:  # its loaders raise many types
        raise SpectrumError(f"specutils cannot read it either: {' '.join(str(error).split()):.300}") from error
    return spectrum_of_specutils(spectrum, row)


def spectrum_of_specutils(spectrum: Any, row: int | None) -> RawSpectrum:
    """Make a spectrum of what specutils read."""
    data = np.atleast_2d(spectrum.flux.value)
    rows = int(np.prod(data.shape[:-1]))
    chosen = choose_row(rows, row)

    def one(values: Any) -> Any:
        return np.asarray(values).reshape(rows, -1)[chosen]

    axis = spectrum.spectral_axis.to(u.AA, u.spectral())
    flux = one(spectrum.flux.value) * spectrum.flux.unit
    per_wavelength = u.erg / u.s / u.cm**2 / u.AA
    factor = u.Quantity(np.ones(len(axis)))
    if flux.unit.is_equivalent(u.Jy):
        factor = (1.0 * flux.unit).to(per_wavelength, u.spectral_density(axis)) / flux.unit
    variance = None
    if spectrum.uncertainty is not None:
        from astropy.nddata import VarianceUncertainty

        variance = plain(one(spectrum.uncertainty.represent_as(VarianceUncertainty).array)) * factor.value**2
    return RawSpectrum(
        layout="specutils",
        wavelength=plain(axis.value),
        flux=plain((flux * factor).value),
        variance=variance,
        bad=None if spectrum.mask is None else one(spectrum.mask).astype(bool),
        unit=(flux * factor).unit.to_string() if flux.unit != u.dimensionless_unscaled else "",
        rows=rows,
        label=f"row {chosen}" if rows > 1 else "",
    )
