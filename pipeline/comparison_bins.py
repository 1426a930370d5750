"""Pairs of spaxels -> pairs of bins: means weighted by light, with the error of each side by itself."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from galprote.pipeline.comparison import Array, Pairs


def pairs_in_bins(
    pairs: Pairs, our_error: Array, their_error: Array, bins: NDArray[np.int32], light: NDArray[Any]
) -> Pairs:
    """Means over bins; errors as if spaxels were independent.

    A side that has one value all over a bin was measured once: it keeps that value, and its error.

    Parameters
    ----------
    pairs : Pairs
        Of n spaxels.
    our_error, their_error : (n,) float64
        NaN where not known; a reference's that is not known counts as 0.
    bins : (n,) int32
        Numbers of bins; -1: in none.
    light : (n,)
        Of our spaxels; a bin without any is averaged by area.
    """
    inside = bins >= 0
    pairs, light = pairs.take(inside), np.where(light[inside] > 0, light[inside], 0.0).astype(np.float64)
    numbers, place, count = np.unique(bins[inside], return_inverse=True, return_counts=True)
    total = np.bincount(place, light, len(numbers))
    weight = np.where(total[place] > 0, light, 1.0)
    weight = weight / np.bincount(place, weight, len(numbers))[place]

    def mean(values: Array) -> Array:
        return np.bincount(place, weight * values, len(numbers)).astype(np.float64)

    def side(values: Array, error: Array) -> tuple[Array, Array]:
        middle = mean(values)
        spread = mean((values - middle[place]) ** 2)
        alike = (count == 1) | (spread <= 1e-12 * np.maximum(middle**2, 1.0))
        independent = np.sqrt(np.bincount(place, (weight * error) ** 2, len(numbers)))
        return middle, np.where(alike, mean(error), independent)

    ours, our_sigma = side(pairs.ours, our_error[inside])
    theirs, their_sigma = side(pairs.theirs, np.nan_to_num(their_error[inside], nan=0.0))
    return Pairs(ours, theirs, np.hypot(our_sigma, their_sigma), mean(pairs.snr))
