"""Rings of spaxels: where they end, which spaxels are in them, and what these have."""

from typing import Any, Final

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from galprote.pipeline.trusted_light import ProfileError

#: Rings, where nothing else is asked for; none is thinner than so many spaxels.
RINGS, THINNEST = 15, 1.5
#: More are refused.
MOST_RINGS: Final = 10_000

Floats = NDArray[np.float64]


def ring_ends(step: Any, edges: Any, reach: tuple[float, float], scale: float, unit: str) -> Floats:
    """Ends of the rings, in the unit of the radius.

    Parameters
    ----------
    step, edges
        As for `MapsAccessor.radial_profile`; None: not given.
    reach : (float, float)
        Radii between which rings are wanted where there are no `edges`.
    scale : float
        Side of a spaxel.
    unit : str
        Of the radius: arcsec, or `spaxel`.

    Returns
    -------
    (m + 1,) float64

    Raises
    ------
    ProfileError
        If they make no sense, or are too many.
    """
    if edges is not None and step is not None:
        raise ProfileError("give step or edges, not both")
    if edges is not None:
        ends = _lengths(edges, unit)
        if ends.ndim != 1 or len(ends) < 2 or not (np.diff(ends) > 0).all() or ends[0] < 0:
            raise ProfileError(f"edges = {edges!r}: expected increasing radii, two or more, from 0 on, in {unit}")
        if len(ends) > MOST_RINGS + 1:
            raise ProfileError(f"edges of {len(ends) - 1:,} rings: expected {MOST_RINGS:,} rings at most")
        return ends
    width = max((reach[1] - reach[0]) / RINGS, THINNEST * scale) if step is None else _width(step, unit)
    if not (reach[1] - reach[0]) / width < MOST_RINGS:
        raise ProfileError(
            f"step = {step!r} is too small: radii are {reach[0]:.4g} to {reach[1]:.4g} {unit}, and there can be "
            f"{MOST_RINGS:,} rings at most; a spaxel is {scale:.4g} {unit} wide"
        )
    first, last = (np.floor(radius / width) for radius in reach)
    return np.asarray(width * (first + np.arange(int(last - first) + 2)), dtype=np.float64)


def _width(step: Any, unit: str) -> float:
    """Of rings, as asked for."""
    width = _lengths(step, unit)
    if width.ndim or not (np.isfinite(width) and width > 0):
        what = "angle (a number is arcsec)" if unit == "arcsec" else "number of spaxels"
        raise ProfileError(f"step = {step!r}: expected one positive {what}")
    return float(width)


def _lengths(values: Any, unit: str) -> Floats:
    """Numbers of arcsec, or spaxels, of what may be angles; NaN of what is neither."""
    try:
        wanted = u.arcsec if unit == "arcsec" else u.dimensionless_unscaled
        return np.asarray(u.Quantity(values, wanted).value, dtype=np.float64)
    except (TypeError, ValueError, u.UnitsError):
        return np.asarray(np.nan)


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
