"""How much noisier a bin is than independent spaxels would make it, measured from the cube itself.

A cube's spaxels are interpolated from the detector's pixels: neighbours share their noise, and the noise of a sum over
N of them exceeds the square root of the sum of their variances. The customary law is a factor 1 + a log10(N)
(Garcia-Benito et al. 2015, A&A 576, A135, section 4). Here `a` comes from the scatter of the spectra themselves: pairs
of square boxes of N spaxels, a few spaxels apart, are each divided by their light and subtracted, which takes the stars
away and leaves noise; second differences along the spectrum take away what is left of its shape. The scatter over the
formal one, as N grows, in units of that of single spaxels (the stated variances may be wrong by a factor), is the law.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from galprote.pipeline.rest_frame import LARGEST_FLUX, is_variance

#: Sides of the boxes, spaxels; the space between the two of a pair.
SIDES: Final = (1, 2, 3, 4, 6, 8)
SPACE: Final = 5
#: Rows that are read together, and how many such slabs of the cube are looked at.
HEIGHT: Final = 8
SLABS: Final = 12
#: Boxes of a higher signal-to-noise ratio are left out: the stars of two places differ by more than the noise.
BRIGHTEST: Final = 40.0
#: Pairs of a size that are looked at in a slab, and that are needed in all.
MOST_PAIRS: Final = 60
FEWEST_PAIRS: Final = 12
#: Share of its channels that a spaxel must have.
ENOUGH_CHANNELS: Final = 0.8
#: Share of a box's light that a channel must have, and channels that a pair must have.
ENOUGH_LIGHT: Final = 0.5
FEWEST_CHANNELS: Final = 100
#: Square of a normal variable: its median.
_CHI2_MEDIAN: Final = 0.45494


@dataclass(frozen=True)
class Covariance:
    """The law that was found.

    Attributes
    ----------
    a : float
        Of 1 + a log10(N), at least zero.
    spaxels : tuple of int
        N of the boxes.
    excess : tuple of float
        Scatter over the formal one, in units of that of single spaxels.
    pairs : tuple of int
        Number of boxes' pairs.
    note : str
        Why nothing could be measured, if nothing was.
    """

    a: float
    spaxels: tuple[int, ...] = ()
    excess: tuple[float, ...] = ()
    pairs: tuple[int, ...] = ()
    note: str = ""


def choose_slabs(usable: NDArray[np.bool_]) -> list[int]:
    """First rows of the slabs to look at, from the spaxels (ny, nx) that may be used: where they are many."""
    count = np.add.reduceat(usable.sum(axis=1), np.arange(0, usable.shape[0], HEIGHT))
    worth = np.flatnonzero(count > 0.25 * count.max()) if count.max() else np.empty(0, dtype=np.int64)
    chosen = np.unique(np.linspace(0, len(worth) - 1, min(SLABS, len(worth))).round().astype(np.int64))
    return [int(worth[place]) * HEIGHT for place in chosen]


def measure_covariance(
    slabs: Iterable[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]],
) -> Covariance:
    """Measure a cube's covariance.

    Parameters
    ----------
    slabs : iterable of (flux, variance, signal, noise)
        Flux and variance (m, rows, nx), signal and noise per channel of the spaxels (rows, nx), NaN where they are not
        to be used.

    Returns
    -------
    Covariance
    """
    found: dict[int, list[float]] = {side: [] for side in SIDES}
    for values, squares, signal, noise in slabs:
        good = (np.abs(values) < LARGEST_FLUX) & is_variance(squares)
        whole = np.where(good.mean(axis=0) > ENOUGH_CHANNELS, signal, np.float32(np.nan))
        flux, variance = (np.where(good, part, np.float32(np.nan)) for part in (values, squares))
        for side in SIDES:
            found[side] += _of_size(flux, variance, whole, noise, side)
    counts = {side: len(values) for side, values in found.items()}
    sizes = [side for side in SIDES if counts[side] >= FEWEST_PAIRS]
    if 1 not in sizes or len(sizes) < 3:
        return Covariance(0.0, note="too few spaxels to measure how their noise is correlated: taken as independent")
    scatter = {side: float(np.sqrt(np.median(found[side]) / _CHI2_MEDIAN)) for side in sizes}
    excess = np.array([scatter[side] / scatter[1] for side in sizes])
    log_n, weight = 2 * np.log10(sizes), np.array([counts[side] for side in sizes], dtype=np.float64)
    a = float((weight * log_n * (excess - 1)).sum() / (weight * log_n**2).sum())
    return Covariance(
        max(a, 0.0), tuple(side**2 for side in sizes), tuple(excess.tolist()), tuple(counts[side] for side in sizes)
    )


def _of_size(
    flux: NDArray[np.float32],
    variance: NDArray[np.float32],
    signal: NDArray[np.float32],
    noise: NDArray[np.float32],
    side: int,
) -> list[float]:
    """Median squared scatter, in units of the formal one, of each pair of boxes of a size."""
    rows, columns = signal.shape
    corners = [
        (top, left)
        for top in range(0, rows - side + 1, side)
        for left in range(0, columns - 2 * side - SPACE + 1, side)
        if _usable(signal, noise, top, left, side) and _usable(signal, noise, top, left + side + SPACE, side)
    ]
    step = max(1, len(corners) // MOST_PAIRS)
    found = [_scatter(flux, variance, signal, corner, side) for corner in corners[::step]]
    return [value for value in found if np.isfinite(value)]


def _box(top: int, left: int, side: int) -> tuple[slice, slice]:
    return slice(top, top + side), slice(left, left + side)


def _usable(signal: NDArray[np.float32], noise: NDArray[np.float32], top: int, left: int, side: int) -> bool:
    box = _box(top, left, side)
    light, sigma = float(signal[box].sum()), float(np.sqrt((noise[box] ** 2).sum()))
    return bool(light > 0 and sigma > 0 and light < BRIGHTEST * sigma)


def _scatter(
    flux: NDArray[np.float32],
    variance: NDArray[np.float32],
    signal: NDArray[np.float32],
    corner: tuple[int, int],
    side: int,
) -> float:
    difference = np.zeros(flux.shape[0])
    formal = np.zeros(flux.shape[0])
    for sign, left in ((1, corner[1]), (-1, corner[1] + side + SPACE)):
        rows, columns = _box(corner[0], left, side)
        values, squares = (part[:, rows, columns].reshape(len(part), -1) for part in (flux, variance))
        weight = np.maximum(signal[rows, columns].ravel().astype(np.float64), 0.0)
        light = np.isfinite(values) @ weight  # of the voxels that are there
        light[light < ENOUGH_LIGHT * weight.sum()] = np.nan
        difference += sign * np.nansum(values, axis=1, dtype=np.float64) / light
        formal += np.nansum(squares, axis=1, dtype=np.float64) / light**2
    # Neighbouring channels share noise, too; those two apart hardly do.
    second = difference[2:-2] - 0.5 * (difference[:-4] + difference[4:])
    expected = formal[2:-2] + 0.25 * (formal[:-4] + formal[4:])
    ratio = (second**2 / expected)[np.isfinite(second) & (expected > 0)]
    return float(np.median(ratio)) if len(ratio) >= FEWEST_CHANNELS else np.nan
