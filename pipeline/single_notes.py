"""What to know of a spectrum's fit besides its numbers."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from galprote.model.checkpoint import Checkpoint
from galprote.model.grids import WAVELENGTH
from galprote.model.line_spread import LineSpread
from galprote.pipeline.readers.spectrum import Spectrum

#: A larger share of the window that is missing at one end is remarked upon.
MISSING_END: Final = 0.03
#: A line spread function that differs more from the weights' is remarked upon, relative.
SPREAD_TOLERANCE: Final = 0.15


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


def resolution_notes(
    spectrum: Spectrum, fwhm: float | None, redshift: float, checkpoint: Checkpoint
) -> tuple[str, ...]:
    """A remark where a known line spread function differs from the one that the weights were trained for.

    Parameters
    ----------
    spectrum : Spectrum
    fwhm : float, optional
        Angstrom; where the file has none of its own.
    redshift : float
    checkpoint : Checkpoint
    """
    config = checkpoint.metadata.get("training", {}).get("config", {})
    if (spectrum.fwhm is None and fwhm is None) or "line_spread" not in config:
        return ()
    model = LineSpread.model_validate(config["line_spread"])
    axis = spectrum.wavelength
    inside = (axis > WAVELENGTH[0] * (1 + redshift)) & (axis < WAVELENGTH[-1] * (1 + redshift))
    own = spectrum.fwhm if spectrum.fwhm is not None else np.full_like(axis, fwhm or np.nan)
    rest = axis / (1 + redshift)
    ratio = (own / (1 + redshift) / model.fwhm_at(rest))[inside & np.isfinite(own)]
    if not len(ratio):
        return ()
    low, high = (float(value) for value in np.percentile(ratio, (5, 95)))
    if max(1 - low, high - 1) < SPREAD_TOLERANCE:
        return ()
    return (
        f"the instrument's lines are {low:.2f} to {high:.2f} times as wide (FWHM) as those that the weights were "
        "trained for; the dispersion takes up a part of the difference",
    )
