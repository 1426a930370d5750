"""`Dataset.galprote`: what astronomers do with maps, on any slice of them."""

import warnings
from typing import Any

import numpy as np
import xarray as xr
from astropy.io import fits
from astropy.wcs import WCS

from galprote.model.errors import GalproteError


@xr.register_dataset_accessor("galprote")  # type: ignore[no-untyped-call]
class MapsAccessor:
    """Methods of a Dataset from `galprote.pipeline.open_maps`, or of a slice of one.

    Parameters
    ----------
    maps : xarray.Dataset
    """

    def __init__(self, maps: xr.Dataset) -> None:
        self._maps = maps

    @property
    def wcs(self) -> WCS:
        """Celestial WCS of the Dataset as it is sliced: pixel (0, 0) is its first spaxel.

        Raises
        ------
        GalproteError
            If the cube had no celestial WCS, or the rows or columns kept are not evenly spaced.
        """
        text = str(self._maps.attrs.get("wcs_header", ""))
        if not text:
            raise GalproteError(f"{self._maps.attrs.get('galaxy', 'these maps')}: the cube had no celestial WCS")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # wcslib reports every keyword that it tidies up
            whole = WCS(fits.Header.fromstring(text))
        first, step = zip(*(self._axis(dim) for dim in ("x", "y")), strict=True)
        sliced = whole.deepcopy()
        sliced.wcs.crpix = (np.asarray(whole.wcs.crpix) - 1 - first) / step + 1
        scale = np.asarray(whole.pixel_scale_matrix) * np.asarray(step)[None, :]
        sliced.wcs.cdelt = (1.0, 1.0)
        sliced.wcs.pc = scale
        sliced.wcs.set()
        sliced.array_shape = (self._maps.sizes.get("y", 1), self._maps.sizes.get("x", 1))
        return sliced

    def _axis(self, dim: str) -> tuple[int, int]:
        """First pixel of an axis in the cube, and the step from one to the next."""
        if dim not in self._maps.coords:
            raise GalproteError(f"no coordinate {dim!r}: open the maps with galprote.pipeline.open_maps")
        pixels = np.atleast_1d(np.asarray(self._maps[dim]))
        if len(pixels) < 2:
            return (int(pixels[0]) if len(pixels) else 0), 1
        steps = np.unique(np.diff(pixels))
        if len(steps) != 1 or steps[0] == 0:
            raise GalproteError(f"the {dim} of these maps are not evenly spaced: a WCS needs a plain slice")
        return int(pixels[0]), int(steps[0])

    def good(self) -> xr.DataArray:
        """Spaxels that were fitted and whose spectra are trusted, (y, x) bool: what figures show."""
        status: Any = self._maps["status"]
        good: xr.DataArray = (status & int(status.attrs["unreliable_bits"])) == 0
        return good.rename("good")
