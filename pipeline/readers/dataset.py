"""Lazy arrays and what is known of them -> the Dataset that every reader gives, whatever the file's format."""

from collections.abc import Callable
from typing import Any, Final

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from galprote.pipeline.readers.axis import SpectralAxis
from galprote.pipeline.readers.channels import ChannelRange
from galprote.pipeline.readers.noise import der_snr_variance
from galprote.pipeline.readers.units import FluxUnit

_WAVELENGTH_ATTRS: Final = {
    "units": "Angstrom",
    "long_name": "observed-frame wavelength in air",
    "medium": "air",
}
_DIMS: Final = ("wavelength", "y", "x")


def cube_dataset(
    flux: da.Array,
    variance: da.Array,
    channels: ChannelRange,
    unit: FluxUnit,
    width: NDArray[np.float64] | None,
    attributes: dict[str, Any],
) -> xr.Dataset:
    """Put a cube together.

    Parameters
    ----------
    flux, variance : (m, y, x) float32 dask arrays
    channels : ChannelRange
        m channels.
    unit : FluxUnit
    width : (m,) float64 or None
        FWHM of the instrument's line spread function, Angstrom, observed frame; None if unknown.
    attributes : dict
    """
    known = np.full(channels.wavelength.size, np.nan) if width is None else width
    about = {"units": "Angstrom", "long_name": "FWHM of the instrument's line spread function, observed frame"}
    return xr.Dataset(
        {
            "flux": (_DIMS, flux, {"units": unit.bunit, "long_name": "flux density"}),
            "variance": (_DIMS, variance, {"units": unit.squared, "long_name": "variance of the flux density"}),
        },
        coords={
            "wavelength": ("wavelength", channels.wavelength, _WAVELENGTH_ATTRS),
            "lsf_fwhm": ("wavelength", known, about),
        },
        attrs=attributes,
    )


def axis_attributes(axis: SpectralAxis, unit: FluxUnit, channels: ChannelRange) -> dict[str, Any]:
    """Attributes that follow from the axis and the unit."""
    return {
        "bunit": unit.bunit,
        "bunit_found": unit.found,
        "bunit_assumed": unit.assumed,
        "flux_calibrated": unit.calibrated,
        "native_axis": axis.native,
        "axis_assumption": axis.assumption,
        "first_channel": channels.first,
        "channel_step": channels.step,
        "channels_in_file": int(axis.wavelength.size),
        "uncovered_angstrom": list(channels.uncovered),
    }


def chosen(values: NDArray[np.float64], channels: ChannelRange) -> NDArray[np.float64]:
    """One number for each channel of the file -> for each channel of the range."""
    return values[channels.first + channels.step * np.arange(channels.wavelength.size)]


def masked_arrays(
    flux: da.Array, variance: da.Array | None, flags: da.Array | None, response: NDArray[np.float64] | None
) -> tuple[da.Array, da.Array]:
    """Leave out what is flagged, apply the response, and estimate the noise where there is no variance.

    Parameters
    ----------
    flux : (m, y, x) float32
    variance : (m, y, x) float32 or None
    flags : (m, y, x) bool or None
        True = bad.
    response : (m,) float64 or None
        Factors of the fluxes.
    """
    if flags is not None:
        flux = blockwise(mask_flagged, flux, flags)
        variance = None if variance is None else blockwise(mask_flagged, variance, flags)
    if response is not None:
        flux = blockwise(times, flux, factors=response)
        variance = None if variance is None else blockwise(times, variance, factors=response**2)
    if variance is None:
        variance = blockwise(der_snr_variance, flux)
    return flux, variance


def mask_flagged(values: NDArray[np.float32], flags: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the values with NaN where a flag is set."""
    return np.where(flags, np.float32(np.nan), values)


def times(values: NDArray[np.float32], factors: NDArray[np.float64]) -> NDArray[np.float32]:
    """Multiply every channel by its factor."""
    return np.asarray(values * factors[:, None, None], dtype=np.float32)


def blockwise(function: Callable[..., Any], *arrays: da.Array, **more: Any) -> da.Array:
    """Apply a function block by block."""
    empty = np.empty((0, 0, 0), dtype=np.float32)
    array: da.Array = da.map_blocks(  # type: ignore[no-untyped-call]
        function, *arrays, dtype=empty.dtype, meta=empty, **more
    )
    return array
