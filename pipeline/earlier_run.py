"""The flags of an earlier run of galprote -> spaxels to leave out of this one."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, label

from galprote.model.errors import ConfigError
from galprote.pipeline.mask_config import EarlierRunConfig
from galprote.pipeline.quality import Status


def read_status(store: str) -> tuple[NDArray[np.int32], str]:
    """Read the status map (y, x) of a finished store, and its celestial WCS.

    Raises
    ------
    ConfigError
        If it is not one.
    """
    try:
        group = zarr.open_group(store, mode="r")
        status = np.asarray(group["status"][...], dtype=np.int32)  # type: ignore[index]
        wcs_header = str(group.attrs["wcs_header"])
    except Exception as error:  # zarr raises many types
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError(
            f"masks.trust: {store}: no finished store of galprote ({reason}): run that survey first"
        ) from error
    if status.ndim != 2:
        raise ConfigError(f"masks.trust: {store}: its status map has {status.ndim} axes; expected y and x")
    return status, wcs_header


def flagged_mask(config: EarlierRunConfig, wcs_header: str, shape: tuple[int, int]) -> tuple[NDArray[np.bool_], str]:
    """Find the spaxels that an earlier run flagged, and those around them.

    Parameters
    ----------
    config : EarlierRunConfig
    wcs_header : str
        The cube's celestial WCS.
    shape : (int, int)
        (y, x).

    Returns
    -------
    mask : (y, x) bool
    note : str

    Raises
    ------
    ConfigError
        If the store is not on the same spaxels.
    """
    status, earlier_header = read_status(config.store)
    where = f"masks.trust: {config.store}"
    if status.shape != tuple(shape):
        raise ConfigError(
            f"{where}: {_by(status.shape)} spaxels (y x x), but the cube has {_by(shape)}: not the same field"
        )
    scale_arcsec = _compare(where, earlier_header, wcs_header, shape)
    bits = sum(int(Status[name.upper()]) for name in config.bits)
    flagged = (status & bits) != 0
    groups, _ = label(flagged, structure=np.ones((3, 3)))
    sizes = np.bincount(groups.ravel())
    mask = flagged & (sizes[groups] >= config.least_spaxels)
    core = int(mask.sum())
    if config.grow_arcsec > 0 and core:
        if scale_arcsec is None:
            raise ConfigError(
                f"{where}: grow_arcsec: the cube has no celestial WCS that says how large a spaxel is: give 0"
            )
        mask = distance_transform_edt(~mask) * scale_arcsec <= config.grow_arcsec
    name = Path(config.store).name
    if not core:
        return mask, f"masks: {name} has no flagged spaxels ({', '.join(config.bits)})"
    return mask, f"masks: {core:,} spaxels are flagged in {name}, {int(mask.sum()):,} with those around them"


def _compare(where: str, earlier: str, now: str, shape: tuple[int, int]) -> float | None:
    """Make sure that two WCS agree; gives the size of a spaxel in arcsec."""
    if not now:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wcslib reports every keyword that it tidies up
        wcs: Any = WCS(fits.Header.fromstring(now))
        scale_arcsec = 3600 * float(proj_plane_pixel_scales(wcs).mean())
        if earlier:
            x, y = [0, shape[1] - 1], [0, shape[0] - 1]
            other: Any = WCS(fits.Header.fromstring(earlier))
            apart = wcs.pixel_to_world(x, y).separation(other.pixel_to_world(x, y)).arcsec.max() / scale_arcsec
            if not apart <= 0.5:
                raise ConfigError(
                    f"{where}: its spaxels lie up to {apart:.3g} spaxels off the cube's: not the same field"
                )
    return scale_arcsec


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
