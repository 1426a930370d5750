"""A cube of any known format -> the lazy Dataset that everything downstream works on."""

from pathlib import Path
from typing import Any, Final

import dask.array as da
import numpy as np
import xarray as xr

from galprote.model.errors import ConfigError, CubeError
from galprote.model.grids import EDGES
from galprote.pipeline.readers.channels import ChannelRange, select_channels
from galprote.pipeline.readers.cubefile import CubeFile, open_file
from galprote.pipeline.readers.dataset import axis_attributes, chosen, cube_dataset, masked_arrays
from galprote.pipeline.readers.fitsfile import Hdu, headers_sha256
from galprote.pipeline.readers.noise import METHOD
from galprote.pipeline.readers.parts import CubeParts
from galprote.pipeline.readers.sky import celestial_header, target_name
from galprote.pipeline.readers.slabs import Kind, lazy
from galprote.pipeline.readers.units import FluxUnit
from galprote.pipeline.readers.zarrstore import open_store
from galprote.pipeline.zarr_path import is_store

#: The model's rest-frame window, first and last bin edge, Angstrom.
MODEL_WINDOW: Final = (float(EDGES[0]), float(EDGES[-1]))


def open_cube(
    path: str | Path,
    *,
    redshift: float = 0.0,
    rest_window: tuple[float, float] = MODEL_WINDOW,
    rows: int = 8,
    scratch: str | Path | None = None,
) -> xr.Dataset:
    """Open a cube lazily: headers are read, data when they are computed.

    Reads MUSE's layout (`DATA`, `STAT`, `DQ`; PHANGS and MAUVE among it), MaNGA, CALIFA, SAMI, KCWI, WEAVE,
    also ``.fits.gz``, any FITS cube or image of spectra whose spectral axis FITS or spectral-cube can convert to
    wavelengths or that has them in an HDU, and Zarr stores (docs/instruments.md). A 40 GB cube opens in milliseconds.

    Parameters
    ----------
    path : str or Path
        One file, or a Zarr store, whose name ends in ``.zarr``.
    redshift : float
        Barycentric redshift of the galaxy; only decides which channels are needed.
    rest_window : tuple of float
        First and last rest-frame air wavelength needed, Angstrom; the model's by default.
    rows : int
        Height of the blocks: each is (all selected channels, `rows`, all x).
    scratch : str or Path, optional
        Where ``.fits.gz`` files are unpacked; a folder that every worker sees. By default one under the
        system's temporary folder.

    Returns
    -------
    xarray.Dataset
        `flux` and `variance`, float32, dask-backed, dims ``(wavelength, y, x)``, in `bunit` and its square;
        coordinate `wavelength`, float64, observed-frame **air** Angstrom, ascending, the channels that cover
        the window and two more on each side. Values are as stored: NaN stays NaN, no channel or spaxel is
        dropped, non-positive variances are left for the preprocessing to judge; where a flag says "do not use" both
        are NaN. Without variances in the file they are estimated from each spectrum when computed
        (`der_snr_variance`). Coordinate `lsf_fwhm`, float64: FWHM of the instrument's line spread function at each
        channel, observed-frame Angstrom, NaN where neither the file nor the format tells it.

        Attributes (all JSON): `layout`, `layout_notes`, `lsf_source`, `source`, `source_bytes`, `header_sha256`,
        `target`, `bunit`, `bunit_found`, `bunit_assumed`, `flux_calibrated`, `native_axis` (air or vacuum),
        `axis_assumption`, `variance_source`, `variance_note`, `flags_source`, `wcs_header` (celestial, '' if none),
        `first_channel`, `channel_step`, `channels_in_file`, `redshift`, `rest_window`, `uncovered_angstrom`
        (rest-frame, blue and red end).

    Raises
    ------
    CubeError
        If the file is missing, damaged, truncated, not a cube, in a unit that is no flux density, or does not
        cover the window (the message names what is missing).
    ConfigError
        If an argument makes no sense.
    """
    _check_arguments(redshift, rest_window, rows)
    if is_store(path):
        cube = open_store(path).dataset(redshift, rest_window, rows)
        return cube.assign_attrs(_asked(redshift, rest_window))
    file = open_file(path, scratch)
    parts = file.parts()
    unit = file.unit(parts)
    try:
        channels = select_channels(parts.axis, rest_window, redshift, advice=parts.advice)
        sky = celestial_header(parts.flux)
    except CubeError as error:
        raise CubeError(f"{file.source}: {error}") from error
    flux, variance = _arrays(file, parts, unit, channels, rows)
    width = None if parts.line_width is None else chosen(parts.line_width.fwhm(), channels)
    attributes = _attributes(file, parts) | axis_attributes(parts.axis, unit, channels)
    attributes |= {"wcs_header": sky} | _asked(redshift, rest_window)
    return cube_dataset(flux, variance, channels, unit, width, attributes)


def _asked(redshift: float, rest_window: tuple[float, float]) -> dict[str, Any]:
    return {"redshift": float(redshift), "rest_window": [float(edge) for edge in rest_window]}


def _arrays(
    file: CubeFile, parts: CubeParts, unit: FluxUnit, channels: ChannelRange, rows: int
) -> tuple[da.Array, da.Array]:
    response, factor = None, unit.factor
    if parts.response is not None:  # both factors at once: in erg/s/cm2/Angstrom variances underflow
        response, factor = chosen(parts.response, channels) * factor, 1.0

    def array(hdu: Hdu | None, kind: Kind, factor: float) -> da.Array | None:
        return None if hdu is None else lazy(file.slabs(hdu, parts, channels, kind, factor), rows)

    flux = array(parts.flux, "value", factor)
    assert flux is not None
    return masked_arrays(
        flux, array(parts.variance, parts.variance_kind, factor**2), array(parts.flags, "flag", 1.0), response
    )


def _attributes(file: CubeFile, parts: CubeParts) -> dict[str, Any]:
    used = [file.hdus[0], *(hdu for hdu in (parts.flux, parts.variance, parts.flags) if hdu is not None)]
    return {
        "source": file.source.name,
        "source_bytes": file.source.stat().st_size,
        "header_sha256": headers_sha256({hdu.index: hdu for hdu in used}.values()),
        "target": target_name(file.hdus[0], parts.flux),
        "layout": parts.layout,
        "layout_notes": list(parts.notes),
        "lsf_source": parts.line_width.source if parts.line_width else "",
        "variance_source": parts.variance_source or METHOD,
        "variance_note": parts.variance_note,
        "flags_source": parts.flags.name if parts.flags else "",
    }


def _check_arguments(redshift: float, rest_window: tuple[float, float], rows: int) -> None:
    if not (np.isfinite(redshift) and -0.5 < redshift < 10):
        raise ConfigError(f"redshift = {redshift}: expected a redshift (dimensionless, -0.5 to 10), not a velocity")
    if not (len(rest_window) == 2 and 0 < rest_window[0] < rest_window[1] < np.inf):
        raise ConfigError(f"rest_window = {rest_window}: expected (first, last) in Angstrom, ascending")
    if rows < 1:
        raise ConfigError(f"rows = {rows}: expected 1 or more")
