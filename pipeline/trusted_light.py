"""Which spaxels count, and where the centre of their light is."""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from galprote.model.errors import GalproteError
from galprote.pipeline.map_wcs import as_image
from galprote.pipeline.quality import UNRELIABLE, Status

#: Width of the window in which the centre is looked for, spaxels, and how often it is moved.
WINDOW_SIGMA, WINDOW_STEPS = 1.5, 30


class ProfileError(GalproteError):
    """A profile cannot be made of these maps as asked."""


def trusted(maps: xr.Dataset) -> xr.DataArray:
    """Spaxels that were fitted and whose spectra are trusted, (y, x) bool.

    Raises
    ------
    ProfileError
        If there is no map `status`, or it was averaged.
    """
    if "status" not in maps:
        raise ProfileError("these maps have no `status`: keep it beside the others, ds[['age_lw', 'status']]")
    bits = int(maps["status"].attrs.get("unreliable_bits", int(UNRELIABLE)))
    status = status_bits(maps["status"])
    good: xr.DataArray = (status & bits) == 0
    good.attrs = {"long_name": "fitted and trusted"}
    return good.rename("good")


def status_bits(status: xr.DataArray) -> xr.DataArray:
    """The map `status` as whole numbers, also where `where` has made floats of them: NaN is a spaxel without data.

    Raises
    ------
    ProfileError
        If it was averaged, by `coarsen` for example: a mean of bits is other bits.
    """
    if status.dtype.kind != "f":
        return status
    known = status.fillna(int(Status.NO_DATA))
    whole = known.astype("int32")
    if bool((whole != known).any()):
        raise ProfileError(
            "`status` holds bits, and averages of these mean nothing: average what is good, "
            "ds.where(ds.galprote.good()).drop_vars('status')"
        )
    return whole


def brightest(maps: xr.Dataset) -> tuple[float, float]:
    """The centre of the light, (y, x) in pixels of the maps as they are sliced.

    From the brightest spaxel of the map `flux`, smoothed over 3 x 3 spaxels: the windowed position of SExtractor (XWIN;
    Bertin & Arnouts 1996, A&AS 117, 393), with a Gaussian window of 1.5 spaxels. Only spaxels that are fitted and
    trusted count.

    Raises
    ------
    ProfileError
        If there are none.
    """
    if "flux" not in maps:
        raise ProfileError("no map `flux` to find the centre with: give center=")
    good = np.array(as_image(trusted(maps)))
    flux = np.asarray(as_image(maps["flux"]))
    good &= np.isfinite(flux)
    if not good.any():
        raise ProfileError("no spaxel is fitted and trusted: there is no centre to be found")
    light = np.where(good, flux, 0).astype(np.result_type(flux, np.float32), copy=False)
    smooth = _box_sum(light)
    smooth /= np.maximum(_box_sum(good.view(np.uint8)), 1)
    smooth[~good] = -np.inf
    row, column = np.unravel_index(int(np.argmax(smooth)), flux.shape)
    return _windowed(light, int(row), int(column))


def _box_sum(values: NDArray[Any]) -> NDArray[Any]:
    """Sum over 3 x 3 spaxels; there is nothing beyond the edges."""
    for axis in (0, 1):
        values = correlate1d(values, np.ones(3), axis=axis, mode="constant")
    return values


def _windowed(light: NDArray[Any], row: int, column: int) -> tuple[float, float]:
    """Windowed centroid: the mean position under a Gaussian window, which is moved to it until it stays.

    Only a cut-out is looked at: the window never moves more than 2 sigma, and ends at 6 sigma.
    """
    reach = int(np.ceil(8 * WINDOW_SIGMA))
    start = max(row - reach, 0), max(column - reach, 0)
    part = light[start[0] : row + reach + 1, start[1] : column + reach + 1].astype(np.float64)
    y, x = (np.arange(size) + first for size, first in zip(part.shape, start, strict=True))
    place = np.array([row, column], dtype=float)
    for _ in range(WINDOW_STEPS):
        up, across = y - place[0], x - place[1]
        window = part * np.exp(-0.5 * (up[:, None] ** 2 + across**2) / WINDOW_SIGMA**2)
        total = float(window.sum())
        if not total > 0:  # negative fluxes outweigh the light
            return float(row), float(column)
        step = 2 * np.array([window.sum(axis=1) @ up, window.sum(axis=0) @ across]) / total
        place += step
        if not np.hypot(*(place - (row, column))) < 2 * WINDOW_SIGMA:  # a hole, or a neighbour
            return float(row), float(column)
        if np.hypot(*step) < 1e-4:
            break
    return float(place[0]), float(place[1])
