"""How far two sets of values of one quantity lie apart: mean, scatter, running difference, by signal-to-noise ratio.

Everywhere a difference is ours minus the reference's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Signal-to-noise ratios (per 2.48 A) at which spaxels are split.
SNR_EDGES: Final = (10.0, 20.0, 40.0)
#: Standard deviation of a Gaussian over its median absolute deviation.
SIGMA_PER_MAD: Final = 1.4826
#: Beyond so many robust standard deviations, and so many errors where they are known, a spaxel is an outlier.
OUTLIER: Final = 3.0
#: Parts of a running difference, and the fewest values that a part may have.
PARTS, FEWEST = 24, 20


@dataclass(frozen=True)
class Pairs:
    """Values of one quantity at n places (spaxels or bins), each (n,) float64.

    Attributes
    ----------
    ours, theirs : (n,)
        Finite.
    error : (n,)
        Expected standard deviation of the difference: of our error and the reference's where it has one; NaN where
        ours is not known.
    snr : (n,)
        Of our spectra; NaN where it is not known.
    """

    ours: Array
    theirs: Array
    error: Array
    snr: Array

    def __len__(self) -> int:
        return len(self.ours)

    @property
    def difference(self) -> Array:
        """Ours minus theirs."""
        return self.ours - self.theirs

    def take(self, which: NDArray[Any]) -> "Pairs":
        """Some of them."""
        return Pairs(self.ours[which], self.theirs[which], self.error[which], self.snr[which])


@dataclass(frozen=True)
class Statistics:
    """Differences of n pairs in numbers; NaN where there are too few.

    Attributes
    ----------
    places : {"spaxels", "bins"}
    snr_range : (float, float)
        Lower end (included), upper end (excluded); (0, inf): all, also those without a signal-to-noise ratio.
    n : int
    mean, median : float
    sigma : float
        Standard deviation of the differences.
    robust_sigma : float
        1.4826 times their median absolute deviation.
    rms : float
    correlation : float
        Pearson's coefficient of ours and theirs; NaN where either is constant.
    outliers : int
        Differences beyond three robust standard deviations and three errors.
    clipped_mean, clipped_sigma : float
        Without the outliers.
    expected : float
        Median expected standard deviation of a difference; NaN without errors.
    within_1, within_2 : float
        Shares within one and two expected standard deviations, of pairs where these are above 0; NaN without any.
    ours_mean, ours_sigma, reference_mean, reference_sigma : float
        Of the values themselves.
    """

    places: str
    snr_range: tuple[float, float]
    n: int
    mean: float
    median: float
    sigma: float
    robust_sigma: float
    rms: float
    correlation: float
    outliers: int
    clipped_mean: float
    clipped_sigma: float
    expected: float
    within_1: float
    within_2: float
    ours_mean: float
    ours_sigma: float
    reference_mean: float
    reference_sigma: float


def compare_pairs(pairs: Pairs, places: str, snr_edges: Sequence[float] = SNR_EDGES) -> tuple[Statistics, ...]:
    """Statistics of all pairs, then of each range of signal-to-noise ratios that has any."""
    rows = [statistics(pairs, places, (0.0, np.inf))]
    edges = (0.0, *snr_edges, np.inf)
    for low, high in pairwise(edges):
        inside = (pairs.snr >= low) & (pairs.snr < high)
        if inside.any():
            rows.append(statistics(pairs.take(inside), places, (low, high)))
    return tuple(rows)


def statistics(pairs: Pairs, places: str, snr_range: tuple[float, float]) -> Statistics:
    """Statistics of all the pairs."""
    difference = pairs.difference
    odd = outlying(difference, pairs.error)
    known = np.isfinite(pairs.error)
    there = known & (pairs.error > 0)
    inside = np.abs(difference[there]) / pairs.error[there]
    varies = bool(len(pairs) and np.ptp(pairs.ours) > 0 and np.ptp(pairs.theirs) > 0)
    return Statistics(
        places=places,
        snr_range=snr_range,
        n=len(pairs),
        mean=_mean(difference),
        median=_median(difference),
        sigma=_sigma(difference),
        robust_sigma=robust_sigma(difference),
        rms=float(np.sqrt(_mean(difference**2))),
        correlation=float(np.corrcoef(pairs.ours, pairs.theirs)[0, 1]) if varies else np.nan,
        outliers=int(odd.sum()),
        clipped_mean=_mean(difference[~odd]),
        clipped_sigma=_sigma(difference[~odd]),
        expected=_median(pairs.error[known]),
        within_1=_mean(inside <= 1),
        within_2=_mean(inside <= 2),
        ours_mean=_mean(pairs.ours),
        ours_sigma=_sigma(pairs.ours),
        reference_mean=_mean(pairs.theirs),
        reference_sigma=_sigma(pairs.theirs),
    )


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if values.size else np.nan


def _median(values: Array) -> float:
    return float(np.median(values)) if values.size else np.nan


def _sigma(values: Array) -> float:
    return float(values.std()) if values.size else np.nan


def robust_sigma(values: Array) -> float:
    """1.4826 times the median absolute deviation; NaN of nothing."""
    return float(SIGMA_PER_MAD * np.median(np.abs(values - np.median(values)))) if values.size else np.nan


def outlying(difference: Array, error: Array) -> NDArray[np.bool_]:
    """Which differences are beyond three robust standard deviations from the median, and beyond three errors."""
    if not difference.size:
        return np.zeros(0, dtype=bool)
    far = np.abs(difference - np.median(difference)) > OUTLIER * robust_sigma(difference)
    return far & ~(np.abs(difference) <= OUTLIER * np.nan_to_num(error, nan=0.0))


@dataclass(frozen=True)
class Running:
    """Differences along the reference's value, in parts with equally many pairs, (k,) float64 each.

    Attributes
    ----------
    centre : (k,)
        Median value of the reference.
    median, low, high : (k,)
        Median, 16th and 84th percentile of the differences.
    expected : (k,)
        Median expected standard deviation; NaN without errors.
    n : (k,) int64
    """

    centre: Array
    median: Array
    low: Array
    high: Array
    expected: Array
    n: NDArray[np.int64]


def running(pairs: Pairs, parts: int = PARTS) -> Running:
    """The running difference: as many parts as there can be with 20 pairs each, up to `parts`.

    Pairs of the same reference value are never parted: the parts of binned references differ in size.
    """
    order = np.argsort(pairs.theirs, kind="stable")
    rows = []
    for first, stop in _parts(pairs.theirs[order], min(parts, max(1, len(pairs) // FEWEST))):
        part = pairs.take(order[first:stop])
        low, median, high = (float(value) for value in np.percentile(part.difference, (15.87, 50, 84.13)))
        expected = _median(part.error[np.isfinite(part.error)])
        rows.append((float(np.median(part.theirs)), median, low, high, expected, len(part)))
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    return Running(table[:, 0], table[:, 1], table[:, 2], table[:, 3], table[:, 4], table[:, 5].astype(np.int64))


def _parts(ordered: Array, parts: int) -> Iterator[tuple[int, int]]:
    """First and last but one of each part of ordered values, between which they differ."""
    edges = np.linspace(0, len(ordered), parts + 1).astype(int)
    starts = np.unique(np.searchsorted(ordered, ordered[edges[:-1]], side="left")) if len(ordered) else np.array([0])
    for first, stop in pairwise([*starts.tolist(), len(ordered)]):
        if stop > first:
            yield first, stop
