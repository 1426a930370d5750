"""Spectra without variances -> an estimate of their noise, from the spectra themselves."""

from typing import Any, Final

import bottleneck as bn
import numpy as np
from numpy.typing import NDArray

#: Name of the method, as attributes and reports say it.
METHOD: Final = "estimated (DER_SNR)"

#: Normal noise: 1.482602 makes a median absolute value a standard deviation, sqrt(6) = |(2, -1, -1)|.
_TO_SIGMA: Final = 1.482602 / np.sqrt(6.0)
#: Fewer differences than this say nothing about the noise.
_FEWEST: Final = 5


def der_snr_variance(flux: NDArray[Any]) -> NDArray[np.float32]:
    """Estimate one variance for each spectrum from its second differences.

    The DER_SNR estimator, ``sigma = 1.482602 / sqrt(6) * median(|2 f_i - f_(i-2) - f_(i+2)|)`` (Stoehr et al.
    2008, ASP Conf. Ser. 394, 505): robust against lines and continuum slopes. Neighbours two channels away
    keep it right for noise that is correlated between adjacent channels; wider correlation makes it too low.

    Parameters
    ----------
    flux : (n, ...) float
        Spectra along the first axis; NaN where there is no value.

    Returns
    -------
    (n, ...) float32
        The variance, constant along each spectrum, in the square of the flux' unit; NaN for spectra with
        fewer than five usable differences, or without noise (such as padding with zeros).
    """
    result = np.full(flux.shape, np.nan, dtype=np.float32)
    if flux.shape[0] < 4 + _FEWEST or flux.size == 0:
        return result
    with np.errstate(over="ignore", invalid="ignore"):  # damaged values are left out
        differences = 2.0 * flux[2:-2]
        differences -= flux[:-4]
        differences -= flux[4:]
        np.abs(differences, out=differences)
        finite = np.isfinite(differences)
        differences[~finite] = np.nan
        usable = np.count_nonzero(finite, axis=0) >= _FEWEST
        sigma = np.where(usable, bn.nanmedian(differences, axis=0), np.nan) * _TO_SIGMA
        result[:] = np.where(sigma > 0, sigma**2, np.nan).astype(np.float32)
    return result
