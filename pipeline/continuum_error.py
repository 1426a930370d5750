"""The model spectrum's error from parts of the spectrum to single wavelengths."""

import numpy as np
from numpy.typing import NDArray

from galprote.model.appraisal import PARTS, part_masks
from galprote.model.grids import EMISSION_BANDS, WAVELENGTH
from galprote.model.refinement import WINDOWS


def spread_parts(wavelength: NDArray[np.float64]) -> NDArray[np.float32]:
    """How the errors of the parts make that at each wavelength.

    In an emission band its own; elsewhere interpolated between the middles of the windows.

    Parameters
    ----------
    wavelength : (m,) float64
        Rest frame, air, Angstrom.

    Returns
    -------
    (m, PARTS) float32
        Rows sum to one.
    """
    masks = part_masks().numpy()
    middles = np.array([WAVELENGTH[mask].mean() for mask in masks[:WINDOWS]])
    weights = np.zeros((len(wavelength), PARTS), dtype=np.float32)
    for part, row in enumerate(np.eye(WINDOWS)):
        weights[:, part] = np.interp(wavelength, middles, row)
    for number, (_, first, last) in enumerate(EMISSION_BANDS):
        inside = (wavelength >= first) & (wavelength <= last)
        weights[inside] = 0.0
        weights[inside, WINDOWS + number] = 1.0
    return weights
