"""What to know of a spectrum's fit besides its numbers."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from galprote.model.checkpoint import Checkpoint
from galprote.model.errors import CubeError, SpectrumError
from galprote.model.line_spread import TemplateResolution
from galprote.pipeline.readers.spectrum import Spectrum
from galprote.pipeline.resolution import ResolutionMatch, match_resolution

#: A larger share of the window that is missing at one end is remarked upon.
MISSING_END: Final = 0.03


def end_notes(filled: NDArray[np.bool_], bands: NDArray[np.bool_]) -> tuple[str, ...]:
    """A remark where an end of the window is missing, for the network learned gaps inside it.

    Parameters
    ----------
    filled, bands : (948,) bool
        Samples without data; emission bands. Their numbers: benchmarks/cut_spectra.py.
    """
    present, wanted = np.flatnonzero(~filled & ~bands), np.flatnonzero(~bands)
    missing = present[0] - wanted[0], wanted[-1] - present[-1]
    return tuple(
        f"{100 * samples / len(filled):.0f} % of the window is missing at its {end} end: A_V is less certain than its "
        "error says"
        for samples, end in zip(missing, ("blue", "red"), strict=True)
        if samples > MISSING_END * len(filled)
    )


def resolution(
    spectrum: Spectrum, axis: NDArray[np.float64], fwhm: float | None, redshift: float, checkpoint: Checkpoint
) -> ResolutionMatch:
    """Compare a spectrum's line spread function with the templates'.

    Parameters
    ----------
    spectrum : Spectrum
    axis : (m,) float64
        Observed wavelengths that are fitted, Angstrom; may reach beyond the spectrum.
    fwhm : float, optional
        Angstrom; where the file has none of its own.
    redshift : float
    checkpoint : Checkpoint

    Raises
    ------
    SpectrumError
        If the instrument is too blunt for the weights.
    """
    known = spectrum.fwhm is not None and bool(np.isfinite(spectrum.fwhm).any())
    if known:
        assert spectrum.fwhm is not None
        width, source = np.interp(axis, spectrum.wavelength, spectrum.fwhm, left=np.nan, right=np.nan), "the file's"
    elif fwhm is not None:
        width, source = np.full_like(axis, fwhm), "--fwhm"
    else:
        return ResolutionMatch(note="the line spread function is not known: the templates' is assumed; --fwhm tells it")
    try:
        return match_resolution(axis, width, redshift, TemplateResolution.of_metadata(checkpoint.metadata), source)
    except CubeError as error:
        raise SpectrumError(f"{spectrum.name}: {error}") from error
