"""Spectra of some spaxels of a lazy cube, slab by slab: a slab of it is in memory, and what was asked for."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from galprote.model.errors import CubeError
from galprote.pipeline.bin_sums import mean_spectra, sum_block
from galprote.pipeline.binning import Bins
from galprote.pipeline.rest_frame import LARGEST_FLUX, is_variance

Spectra = NDArray[np.float32]
Places = NDArray[np.intp]

#: A spaxel counts for no less than this share of the brightest, where another lacks a channel.
FAINTEST = 0.01


def as_places(y: Any, x: Any, shape: tuple[int, int]) -> tuple[Places, Places]:
    """Rows and columns (n,) of spaxels, checked.

    Raises
    ------
    CubeError
        If there are none, or they are not in the cube.
    """
    rows, columns = (np.atleast_1d(np.asarray(values)) for values in (y, x))
    if rows.shape != columns.shape or rows.ndim != 1 or not rows.size:
        raise CubeError(f"spaxels: expected a row and a column for each of one or more, found {rows.shape} rows and "
                        f"{columns.shape} columns")  # fmt: skip
    if rows.dtype.kind not in "iu" or columns.dtype.kind not in "iu":
        raise CubeError(f"spaxels: expected whole numbers, found {rows.dtype} and {columns.dtype}")
    for values, size, what in ((rows, shape[0], "row"), (columns, shape[1], "column")):
        if values.min() < 0 or values.max() >= size:
            bad = int(values[(values < 0) | (values >= size)][0])
            raise CubeError(f"spaxels: there is no {what} {bad}: the cube has {size}, counted from 0")
    return rows.astype(np.intp), columns.astype(np.intp)


def read_slabs(cube: xr.Dataset, y: Places, x: Places) -> Iterator[tuple[Places, Spectra, Spectra]]:
    """Read flux and variance (m, k) of spaxels from each of the cube's blocks of rows, and which of the n these are."""
    heights = cube.chunksizes.get("y", (cube.sizes["y"],))
    block = np.searchsorted(np.cumsum(heights), y, side="right")
    for number in np.unique(block):
        mine = np.flatnonzero(block == number)
        rows, columns = (slice(int(values.min()), int(values.max()) + 1) for values in (y[mine], x[mine]))
        slab = cube[["flux", "variance"]].isel(y=rows, x=columns).compute()
        place = (slice(None), y[mine] - rows.start, x[mine] - columns.start)
        flux, variance = (slab[name].transpose("wavelength", "y", "x").values[place] for name in ("flux", "variance"))
        yield mine, flux, variance


def read_spectra(cube: xr.Dataset, y: Places, x: Places) -> tuple[Spectra, Spectra]:
    """Read flux and variance (m, n) of spaxels."""
    found = np.empty((2, cube.sizes["wavelength"], len(y)), dtype=np.float32)
    for mine, flux, variance in read_slabs(cube, y, x):
        found[0][:, mine], found[1][:, mine] = flux, variance
    return found[0], found[1]


def mean_of(
    cube: xr.Dataset, y: Places, x: Places, weight: NDArray[np.float32] | None, covariance: float
) -> tuple[Spectra, Spectra, NDArray[np.float32]]:
    """Mean spectrum of spaxels, made as those of bins are.

    Parameters
    ----------
    cube : xarray.Dataset
    y, x : (n,) int
    weight : (n,) float32, optional
        Their light, by which they count where others lack a channel; by default the median of their flux.
    covariance : float
        a of the noise's factor 1 + a log10(n).

    Returns
    -------
    flux, variance : (m, 1) float32
        NaN where spaxels with less than half of the light have a value.
    weight : (n,) float32
        What counted as their light.
    """
    light = _light(cube, y, x) if weight is None else weight
    usable = np.isfinite(light)
    floor = FAINTEST * float(light[usable].max(initial=0.0))
    light = np.where(usable, np.maximum(light, floor if floor > 0 else 1.0), np.float32(np.nan)).astype(np.float32)
    y, x, used = y[usable], x[usable], light[usable]
    if not len(y):
        nothing = np.full((cube.sizes["wavelength"], 1), np.nan, np.float32)
        return nothing, nothing, light
    sums = []
    for mine, flux, variance in read_slabs(cube, y, x):
        sums.append(sum_block(flux[:, None], variance[:, None], np.zeros((1, len(mine)), np.int32), used[mine][None]))
    flux, variance = mean_spectra(0, 1, sums, _one_bin(used, covariance), cube.sizes["wavelength"])
    return flux, variance, light


def _light(cube: xr.Dataset, y: Places, x: Places) -> NDArray[np.float32]:
    """Median flux of spaxels; NaN where they have no usable data."""
    found = np.full(len(y), np.nan, dtype=np.float32)
    for mine, flux, variance in read_slabs(cube, y, x):
        good = (np.abs(flux) < LARGEST_FLUX) & is_variance(variance)
        seen = good.any(axis=0)
        found[mine[seen]] = np.nanmedian(np.where(good, flux, np.nan)[:, seen], axis=0)
    return found


def _one_bin(light: NDArray[np.float32], covariance: float) -> Bins:
    """A bin of all spaxels."""
    one, nothing = np.zeros(1, np.int32), np.empty((0, 0))
    return Bins(
        index=nothing.astype(np.int32), ids=one, x=one.astype(np.float32), y=one.astype(np.float32),
        spaxels=np.array([len(light)], np.int32), rows=np.zeros((1, 2), np.int32), weight=nothing.astype(np.float32),
        light=np.array([light.astype(np.float64).sum()]), snr=one.astype(np.float32), covariance=covariance,
    )  # fmt: skip
