"""Rings of spaxels: which spaxels are in them, and what these have."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def by_ring(radius: NDArray[np.floating[Any]], ends: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Sort spaxels by the ring that they are in.

    Parameters
    ----------
    radius : (n,) float
    ends : (m + 1,) float64
        Of the rings, increasing; the outer end is not in a ring.

    Returns
    -------
    order : (k,) int
        Indices of the spaxels in rings, from the innermost ring on.
    starts : (m + 1,) int
        Where a ring starts in `order`, and after the last where it ends.
    """
    ring = np.digitize(radius, ends).astype(np.uint16)  # sorted by radix
    order = np.argsort(ring, kind="stable")
    starts = np.searchsorted(ring, np.arange(1, len(ends) + 1, dtype=np.uint16), sorter=order)
    return order[starts[0] : starts[-1]], starts - starts[0]


def ring_statistics(
    values: NDArray[Any], weight: NDArray[Any], radius: Floats, bins: NDArray[Any] | None
) -> tuple[float, ...]:
    """What a ring's spaxels have.

    Parameters
    ----------
    values, weight, radius : (n,) float
    bins : (n,) int, optional
        Numbers of their bins; negative: in none. Spaxels of a bin that have one value are one measurement; a map of
        spaxels of its own, as `spaxel_flux`, is not.

    Returns
    -------
    tuple of float
        Mean, its standard error, percentiles 16, 50 and 84, mean radius, all weighted; numbers of spaxels and of
        measurements.
    """
    n = len(values)
    if n == 0:
        return (*(np.nan,) * 6, 0, 0)
    values, weight = values.astype(np.float64), weight.astype(np.float64)
    total = weight.sum()
    mean, distance = float(weight @ values / total), float(weight @ radius / total)
    shares, apart = (weight, values) if bins is None else _measurements(values, weight, bins)
    k = len(apart)
    spread = float(shares**2 @ (apart - mean) ** 2) / float(total) ** 2
    error = float(np.sqrt(spread * k / (k - 1))) if k > 1 else np.nan
    order = np.argsort(values, kind="stable")
    middle = (np.cumsum(weight[order]) - 0.5 * weight[order]) / total
    low, median, high = (float(value) for value in np.interp((0.16, 0.5, 0.84), middle, values[order]))
    return mean, error, low, median, high, distance, n, k


def _measurements(values: Floats, weight: Floats, bins: NDArray[Any]) -> tuple[Floats, Floats]:
    """Weights and values of what was measured: once in a bin for spaxels of one value, or else in every spaxel."""
    order = np.lexsort((values, bins))
    values, bins = values[order], bins[order]
    new = np.diff(values, prepend=np.nan) != 0
    new |= np.diff(bins, prepend=bins[0]) != 0
    new |= bins < 0  # in no bin
    return np.add.reduceat(weight[order], np.flatnonzero(new)), values[new]
