"""A cube file of any known layout -> the lazy Dataset that everything downstream works on."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dask.array as da
import numpy as np
import xarray as xr
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray

from galprote.model.errors import ConfigError, CubeError
from galprote.model.grids import EDGES
from galprote.pipeline.readers.axis import ChannelRange, select_channels
from galprote.pipeline.readers.fitsfile import Hdu, headers_sha256, read_hdus, require_complete
from galprote.pipeline.readers.generic import find_generic
from galprote.pipeline.readers.muse import find_muse
from galprote.pipeline.readers.noise import METHOD, der_snr_variance
from galprote.pipeline.readers.parts import CubeParts, image_of
from galprote.pipeline.readers.slabs import Kind, SlabArray, lazy
from galprote.pipeline.readers.units import FluxUnit, flux_unit
from galprote.pipeline.readers.unpack import is_gzip, unpack_gzip

#: The model's rest-frame window, first and last bin edge, Angstrom.
MODEL_WINDOW: Final = (float(EDGES[0]), float(EDGES[-1]))


@dataclass(frozen=True)
class CubeFile:
    """A cube file that was looked at, with none of its data read.

    Attributes
    ----------
    source : Path
        The file as named by the user.
    path : Path
        The file to read: the same, or what it was unpacked to.
    hdus : tuple of Hdu
        All HDUs.
    """

    source: Path
    path: Path
    hdus: tuple[Hdu, ...]

    def parts(self) -> CubeParts:
        """Find the cube in the file.

        Raises
        ------
        CubeError
            If the file is truncated, or has no cube that can be read.
        """
        try:
            require_complete(self.path, self.hdus)
        except CubeError as error:
            raise _of_source(error, self.path, self.source) from error
        try:
            return find_muse(self.hdus) or find_generic(self.path, self.hdus)
        except CubeError as error:
            raise CubeError(f"{self.source}: {error}") from error

    def unit(self, parts: CubeParts) -> FluxUnit:
        """Understand the flux unit; the primary header is asked where the cube's own is silent.

        Raises
        ------
        CubeError
            If the unit is not one of flux density per wavelength, nor counts.
        """
        found = str(parts.flux.header.get("BUNIT", "")).strip()
        found = found or str(self.hdus[0].header.get("BUNIT", "")).strip()
        try:
            return flux_unit(found, muse=parts.muse, fscale=float(parts.flux.header.get("FSCALE", 1.0)))
        except CubeError as error:
            raise CubeError(f"{self.source}: {error}") from error

    def slabs(self, hdu: Hdu, parts: CubeParts, channels: ChannelRange, kind: Kind, factor: float) -> SlabArray:
        """Return the array-like that reads some channels of an HDU."""
        status = self.path.stat()
        return SlabArray(
            path=str(self.path),
            stamp=(status.st_size, status.st_mtime_ns),
            image=image_of(hdu),
            first=channels.first,
            channels=channels.wavelength.size,
            step=channels.step,
            axes=parts.axes,
            kind=kind,
            factor=factor,
        )


def open_file(path: str | Path, scratch: str | Path | None = None) -> CubeFile:
    """Read the headers of a cube file, after unpacking it if it is gzip-compressed.

    Raises
    ------
    CubeError
        If the file is missing, not FITS, ends inside a header, or cannot be unpacked.
    """
    source = Path(path).expanduser()
    if source.is_dir():
        raise CubeError(f"{source}: is a folder; name one FITS file")
    plain = unpack_gzip(source, Path(scratch).expanduser() if scratch else None) if is_gzip(source) else source
    try:
        return CubeFile(source, plain.absolute(), read_hdus(plain.absolute()))
    except CubeError as error:
        raise _of_source(error, plain.absolute(), source) from error


def _of_source(error: CubeError, path: Path, source: Path) -> CubeError:
    """The same error about the file that the user named, not about what it was unpacked to."""
    return CubeError(str(error).replace(str(path), str(source)))


def open_cube(
    path: str | Path,
    *,
    redshift: float = 0.0,
    rest_window: tuple[float, float] = MODEL_WINDOW,
    rows: int = 8,
    scratch: str | Path | None = None,
) -> xr.Dataset:
    """Open a cube lazily: headers are read, data when they are computed.

    Reads MUSE's layout (`DATA`, `STAT`, `DQ`; PHANGS and MAUVE among it), also ``.fits.gz``, and any FITS
    cube whose spectral axis FITS or spectral-cube can convert to wavelengths. A 40 GB cube opens in
    milliseconds.

    Parameters
    ----------
    path : str or Path
        One file.
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
        dropped, non-positive variances are left for the preprocessing to judge; where a `DQ` flag is set both
        are NaN. Without variances in the file they are estimated from each spectrum when computed
        (`der_snr_variance`).

        Attributes (all JSON): `source`, `source_bytes`, `header_sha256`, `target`, `bunit`, `bunit_found`,
        `bunit_assumed`, `flux_calibrated`, `native_axis` (air or vacuum), `axis_assumption`,
        `variance_source`, `variance_note`, `flags_source`, `wcs_header` (celestial, '' if none),
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
    file = open_file(path, scratch)
    parts = file.parts()
    unit = file.unit(parts)
    try:
        channels = select_channels(parts.axis, rest_window, redshift)
        sky = celestial_header(parts.flux)
    except CubeError as error:
        raise CubeError(f"{file.source}: {error}") from error
    flux, variance = _arrays(file, parts, unit, channels, rows)
    dims = ("wavelength", "y", "x")
    return xr.Dataset(
        {
            "flux": (dims, flux, {"units": unit.bunit, "long_name": "flux density"}),
            "variance": (
                dims,
                variance,
                {"units": unit.squared, "long_name": "variance of the flux density"},
            ),
        },
        coords={"wavelength": ("wavelength", channels.wavelength, _WAVELENGTH_ATTRS)},
        attrs=_attributes(file, parts, unit, channels)
        | {"wcs_header": sky, "redshift": float(redshift), "rest_window": [float(edge) for edge in rest_window]},
    )


#: Arcsec; wcslib takes a missing CD1_1 for a degree.
_LARGEST_SPAXEL: Final = 60.0
_MEND_WCS: Final = "correct CTYPE, CUNIT, CRVAL, CD of axes 1 and 2, or remove CTYPE1 and CTYPE2 to do without"

_WAVELENGTH_ATTRS: Final = {
    "units": "Angstrom",
    "long_name": "observed-frame wavelength in air",
    "medium": "air",
}


def _arrays(
    file: CubeFile, parts: CubeParts, unit: FluxUnit, channels: ChannelRange, rows: int
) -> tuple[da.Array, da.Array]:
    flux = lazy(file.slabs(parts.flux, parts, channels, "value", unit.factor), rows)
    if parts.variance is not None:
        variance = lazy(file.slabs(parts.variance, parts, channels, parts.variance_kind, unit.factor**2), rows)
    else:
        variance = None
    if parts.flags is not None:
        flags = lazy(file.slabs(parts.flags, parts, channels, "flag", 1.0), rows)
        flux = _blockwise(mask_flagged, flux, flags)
        variance = None if variance is None else _blockwise(mask_flagged, variance, flags)
    if variance is None:
        variance = _blockwise(der_snr_variance, flux)
    return flux, variance


def mask_flagged(values: NDArray[np.float32], flags: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the values with NaN where a flag is set."""
    return np.where(flags, np.float32(np.nan), values)


def _blockwise(function: Any, *arrays: da.Array) -> da.Array:
    empty = np.empty((0, 0, 0), dtype=np.float32)
    array: da.Array = da.map_blocks(function, *arrays, dtype=empty.dtype, meta=empty)  # type: ignore[no-untyped-call]
    return array


def _attributes(file: CubeFile, parts: CubeParts, unit: FluxUnit, channels: ChannelRange) -> dict[str, Any]:
    used = [file.hdus[0], *(hdu for hdu in (parts.flux, parts.variance, parts.flags) if hdu is not None)]
    return {
        "source": file.source.name,
        "source_bytes": file.source.stat().st_size,
        "header_sha256": headers_sha256({hdu.index: hdu for hdu in used}.values()),
        "target": target_name(file.hdus[0], parts.flux),
        "bunit": unit.bunit,
        "bunit_found": unit.found,
        "bunit_assumed": unit.assumed,
        "flux_calibrated": unit.calibrated,
        "native_axis": parts.axis.native,
        "axis_assumption": parts.axis.assumption,
        "variance_source": parts.variance_source or METHOD,
        "variance_note": parts.variance_note,
        "flags_source": parts.flags.name if parts.flags else "",
        "first_channel": channels.first,
        "channel_step": channels.step,
        "channels_in_file": int(parts.axis.wavelength.size),
        "uncovered_angstrom": list(channels.uncovered),
    }


def target_name(*hdus: Hdu) -> str:
    """Return the first OBJECT that the headers hold, or ''."""
    return next((name for hdu in hdus if (name := str(hdu.header.get("OBJECT", "")).strip())), "")


def celestial_header(hdu: Hdu) -> str:
    """Return the celestial part of an HDU's WCS as header text (80-character cards), '' if there is none.

    ``astropy.wcs.WCS(text)`` and ``fits.Header.fromstring(text)`` read it back.

    Raises
    ------
    CubeError
        If there is one, but it gives no place on the sky. Names no file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # wcslib reports every keyword that it tidies up
            wcs: Any = WCS(hdu.header)
            if not wcs.has_celestial:
                return ""
            text = str(wcs.celestial.to_header().tostring(endcard=False, padding=False))
            again: Any = WCS(fits.Header.fromstring(text))
            sky, sides = again.pixel_to_world(0, 0).icrs, 3600 * proj_plane_pixel_scales(again.celestial)
    except Exception as error:  # wcslib and astropy raise many types
        reason = " ".join(str(error).split())
        raise CubeError(f"the celestial WCS cannot be used ({reason}): {_MEND_WCS}") from error
    if not (sky.isscalar and (sides > 0).all() and (sides <= _LARGEST_SPAXEL).all()):
        raise CubeError(f"the celestial WCS makes spaxels of {sides[0]:.4g} x {sides[1]:.4g} arcsec: {_MEND_WCS}")
    return text


def _check_arguments(redshift: float, rest_window: tuple[float, float], rows: int) -> None:
    if not (np.isfinite(redshift) and -0.5 < redshift < 10):
        raise ConfigError(f"redshift = {redshift}: expected a redshift (dimensionless, -0.5 to 10), not a velocity")
    if not (len(rest_window) == 2 and 0 < rest_window[0] < rest_window[1] < np.inf):
        raise ConfigError(f"rest_window = {rest_window}: expected (first, last) in Angstrom, ascending")
    if rows < 1:
        raise ConfigError(f"rows = {rows}: expected 1 or more")
