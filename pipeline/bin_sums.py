"""Spectra of bins, summed chunk by chunk: no chunk has to know the others, and none of them is read twice.

A bin's spectrum is the *mean* of its spaxels' (their sum is `spaxels` times that): it stays a surface brightness.
Voxels without a usable value are left out, and the mean of the others is scaled by the share of the bin's light that
they hold: a bright spaxel with a gap leaves no dent. A channel of which less than half of the light is left is missing.
The variance of the mean is the sum of the variances over N^2, times the square of the noise's factor for covariance.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from galprote.pipeline.binning import Bins
from galprote.pipeline.rest_frame import LARGEST_FLUX, is_variance

#: Share of a bin's light that a channel must have.
ENOUGH_LIGHT = 0.5


@dataclass(frozen=True)
class BinSums:
    """Sums over the part of each bin that lies in a block.

    Attributes
    ----------
    bins : (b,) int32, increasing
        Which bins they are.
    light : (b,) float64
        Weight of the spaxels that lie here.
    flux, variance : (b, m) float32
        Over voxels with usable values.
    present : (b, m) float32 or None
        Weight of these; None where nothing is missing.
    """

    bins: NDArray[np.int32]
    light: NDArray[np.float64]
    flux: NDArray[np.float32]
    variance: NDArray[np.float32]
    present: NDArray[np.float32] | None

    def stacked(self) -> NDArray[np.float32]:
        """All spectra in one array, (2 or 3, b, m)."""
        parts = [self.flux, self.variance, *([] if self.present is None else [self.present])]
        return np.stack(parts)

    @classmethod
    def unstacked(cls, bins: NDArray[np.int32], light: NDArray[np.float64], spectra: NDArray[np.float32]) -> Self:
        """The way back."""
        return cls(bins, light, spectra[0], spectra[1], spectra[2] if len(spectra) > 2 else None)


def sum_block(
    flux: NDArray[np.float32],
    variance: NDArray[np.float32],
    index: NDArray[np.int32],
    weight: NDArray[np.float32],
) -> BinSums:
    """Sum the spectra of a block by bins.

    Parameters
    ----------
    flux, variance : (m, rows, columns) float32
    index : (rows, columns) int32
        Bins; -1: none.
    weight : (rows, columns) float32
        Light of each spaxel.

    Returns
    -------
    BinSums
    """
    m = flux.shape[0]
    spaxels = np.flatnonzero(index.ravel() >= 0)
    bins, number = np.unique(index.ravel()[spaxels], return_inverse=True)
    weights = weight.ravel()[spaxels].astype(np.float64)
    spectra, noise = (np.take(values.reshape(m, -1), spaxels, axis=1) for values in (flux, variance))
    good = (np.abs(spectra) < LARGEST_FLUX) & is_variance(noise)
    columns = np.arange(len(spaxels))
    adder, weigher = (
        csr_array((values, (number, columns)), shape=(len(bins), len(spaxels)))
        for values in (np.ones(len(spaxels)), weights)
    )

    def total(matrix: csr_array, values: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(matrix @ np.ascontiguousarray(values.T, dtype=np.float64), dtype=np.float32)

    complete = bool(good.all())
    if not complete:
        spectra, noise = np.where(good, spectra, np.float32(0)), np.where(good, noise, np.float32(0))
    return BinSums(
        bins.astype(np.int32),
        np.bincount(number, weights, minlength=len(bins)).astype(np.float64),
        total(adder, spectra),
        total(adder, noise),
        None if complete else total(weigher, good),
    )


def mean_spectra(
    first: int, stop: int, sums: Iterable[BinSums], bins: Bins, channels: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Put the spectra of some bins together from the blocks that they lie in.

    Parameters
    ----------
    first, stop : int
        Which bins they are.
    sums : iterable of BinSums
        Of all blocks in which they have spaxels, in the order of the rows. Where one is left out, because it could not
        be computed, its bins have no spectra.
    bins : Bins
        These alone.
    channels : int

    Returns
    -------
    flux, variance : (channels, stop - first) float32
        Means, NaN where missing.
    """
    shape = (stop - first, channels)
    flux, variance, present = (np.zeros(shape) for _ in range(3))
    summed = np.zeros(stop - first)
    for part in sums:
        inside = slice(*np.searchsorted(part.bins, [first, stop]))
        rows = part.bins[inside] - first
        summed[rows] += part.light[inside]
        flux[rows] += part.flux[inside]
        variance[rows] += part.variance[inside]
        present[rows] += part.light[inside][:, None] if part.present is None else part.present[inside]
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = bins.light[:, None] / present
    gain[~(present >= ENOUGH_LIGHT * bins.light[:, None])] = np.nan
    gain[summed < (1 - 1e-6) * bins.light] = np.nan
    gain[np.abs(gain - 1) < 1e-6] = 1.0  # single precision's rounding is no missing light
    count = bins.spaxels[:, None]
    mean = flux * gain / count
    noise = variance * (gain / count * bins.noise_factor[:, None]) ** 2
    return tuple(np.ascontiguousarray(values.T, dtype=np.float32) for values in (mean, noise))  # type: ignore[return-value]
