"""Dust extinction curves, from the `dust_extinction` package."""

from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

ExtinctionLaw = Literal["O94", "CCM89", "F99", "G23"]

EXTINCTION_LAWS: Final = get_args(ExtinctionLaw)


def extinction_curve(
    wavelength: NDArray[np.float64], law: ExtinctionLaw = "O94", r_v: float = 3.1
) -> NDArray[np.float64]:
    """Give the extinction relative to the V band, A(wavelength) / A_V.

    Parameters
    ----------
    wavelength : (n,) float64
        Wavelengths, Angstrom.
    law : {"O94", "CCM89", "F99", "G23"}
        O'Donnell (1994), the paper's; Cardelli, Clayton & Mathis (1989); Fitzpatrick (1999); Gordon et al. (2023).
    r_v : float
        Ratio of total to selective extinction.

    Returns
    -------
    (n,) float64
        A(wavelength) / A_V.
    """
    from dust_extinction import parameter_averages  # imports astropy's modelling: slow, wanted only here

    model = getattr(parameter_averages, law)(Rv=r_v)
    inverse_micron = 1e4 / np.asarray(wavelength, dtype=np.float64)
    return np.asarray(model.evaluate(inverse_micron, Rv=r_v), dtype=np.float64)
