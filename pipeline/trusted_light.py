"""Which spaxels count, and where the centre of their light is."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from galprote.model.errors import GalproteError
from galprote.pipeline.map_wcs import as_image
from galprote.pipeline.quality import UNRELIABLE, Status

#: Width of the window in which the centre is looked for, spaxels, and how often it is moved.
WINDOW_SIGMA, WINDOW_STEPS = 1.5, 30

Floats = NDArray[np.float64]


class ProfileError(GalproteError):
    """A profile cannot be made of these maps as asked."""


def trusted(maps: xr.Dataset) -> xr.DataArray:
    """Spaxels that were fitted and whose spectra are trusted, (y, x) bool.

    Raises
    ------
    ProfileError
        If there is no map `status`.
    """
    if "status" not in maps:
        raise ProfileError("these maps have no `status`: keep it beside the others, ds[['age_lw', 'status']]")
    status = maps["status"]
    bits = int(status.attrs.get("unreliable_bits", int(UNRELIABLE)))
    if status.dtype.kind == "f":  # `where` makes room for NaN
        status = status.fillna(int(Status.NO_DATA)).astype("int32")
    good: xr.DataArray = (status & bits) == 0
    good.attrs = {"long_name": "fitted and trusted"}
    return good.rename("good")


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
    flux = np.where(np.asarray(as_image(trusted(maps))), np.asarray(as_image(maps["flux"]), dtype=float), np.nan)
    if not np.isfinite(flux).any():
        raise ProfileError("no spaxel is fitted and trusted: there is no centre to be found")
    padded = np.pad(flux, 1, constant_values=np.nan)
    ny, nx = flux.shape
    shifts = np.stack([padded[dy : dy + ny, dx : dx + nx] for dy in range(3) for dx in range(3)])
    count = np.isfinite(shifts).sum(axis=0)
    smooth = np.where(np.isfinite(flux), np.nansum(shifts, axis=0) / np.maximum(count, 1), -np.inf)
    row, column = np.unravel_index(int(np.argmax(smooth)), flux.shape)
    return _windowed(np.where(np.isfinite(flux), flux, 0.0), float(row), float(column))


def _windowed(flux: Floats, row: float, column: float) -> tuple[float, float]:
    """Windowed centroid: the mean position under a Gaussian window, which is moved to it until it stays."""
    y, x = np.mgrid[: flux.shape[0], : flux.shape[1]]
    first = (row, column)
    for _ in range(WINDOW_STEPS):
        window = flux * np.exp(-0.5 * ((y - row) ** 2 + (x - column) ** 2) / WINDOW_SIGMA**2)
        total = window.sum()
        step_y, step_x = 2 * float((window * (y - row)).sum() / total), 2 * float((window * (x - column)).sum() / total)
        row, column = row + step_y, column + step_x
        if not np.hypot(row - first[0], column - first[1]) < 2 * WINDOW_SIGMA:  # a hole, or a neighbour
            return first
        if np.hypot(step_y, step_x) < 1e-4:
            break
    return row, column
