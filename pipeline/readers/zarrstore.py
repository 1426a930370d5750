"""A Zarr store, as xarray writes it -> the same lazy Dataset as of a FITS cube.

What a store must hold (docs/instruments.md has an example):

- `flux`, three dimensions named `wavelength`, `y`, `x` in any order, with an attribute `units`;
- `variance`, or `ivar`, or `sigma` of the same dimensions; without any of them the noise is estimated;
- the coordinate `wavelength` (bin centres) with the attributes `units` and `medium` ("air" or "vacuum");
- optional: `mask`, nonzero = bad; `lsf_fwhm` along `wavelength`, Angstrom; the group's attributes `wcs_header`
  (celestial FITS cards) and `target`.

Blocks of whole rows are read from the store's chunks, each block by itself: a chunk that two blocks share is read
twice, so chunks of `(all wavelengths, 8 or 16 rows, all columns)` are best.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import dask.array as da
import numpy as np
import xarray as xr
from astropy import units as u
from astropy.io import fits
from dask.base import tokenize
from numpy.typing import NDArray

from galprote.model.errors import CubeError
from galprote.pipeline.readers.axis import UNIT_ALIASES, Medium, SpectralAxis, checked_axis
from galprote.pipeline.readers.channels import select_channels
from galprote.pipeline.readers.dataset import axis_attributes, chosen, cube_dataset, masked_arrays
from galprote.pipeline.readers.noise import METHOD
from galprote.pipeline.readers.sky import checked_celestial
from galprote.pipeline.readers.slabs import Kind
from galprote.pipeline.readers.units import FluxUnit, flux_unit

NOISE: Final[dict[str, Kind]] = {"variance": "value", "ivar": "inverse", "sigma": "sigma"}
_DIMS: Final = ("wavelength", "y", "x")
_HOW: Final[dict[Kind, str]] = {"value": "", "sigma": " (squared)", "inverse": " (inverted)", "flag": ""}


@dataclass(frozen=True)
class StoreArray:
    """A picklable array-like over a variable of a store, `(wavelength, y, x)`, that reads what it is indexed with.

    Attributes
    ----------
    path, name : str
        The store and the variable in it.
    stamp : str
        Hash of the store's files, so that one that was replaced gets new task names.
    shape : (int, int, int)
        Channels of the range, y, x.
    first, step : int
        Channel ``k`` of this array is channel ``first + k * step`` of the store.
    kind : {"value", "sigma", "inverse", "flag"}
    factor : float
        Results are multiplied by it.
    """

    path: str
    name: str
    stamp: str
    shape: tuple[int, int, int]
    first: int
    step: int
    kind: Kind
    factor: float = 1.0

    @property
    def ndim(self) -> int:
        """Always 3."""
        return 3

    @property
    def dtype(self) -> np.dtype[Any]:
        """Boolean for flags, float32 otherwise."""
        return np.dtype(bool if self.kind == "flag" else np.float32)

    def __getitem__(self, index: tuple[slice, slice, slice]) -> NDArray[Any]:
        """Read a block, float32 or bool."""
        channels = range(self.first, self.first + self.shape[0] * self.step, self.step)[index[0]]
        low, high = min(channels), max(channels) + 1
        wanted = {"wavelength": slice(low, high), "y": index[1], "x": index[2]}
        try:
            variable = _group(self.path, self.stamp)[self.name]
            block = np.asarray(variable.isel(wanted).transpose(*_DIMS).values)
        except Exception as error:  # zarr and its codecs raise many types
            raise CubeError(f"{self.path}: '{self.name}' cannot be read: {' '.join(str(error).split())}") from error
        block = block[np.array(channels) - low]
        if self.kind == "flag":
            return np.asarray(block != 0)
        values = block.astype(np.float64)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            if self.kind == "sigma":
                values *= values
            elif self.kind == "inverse":
                values = 1.0 / values
            return np.asarray(values * self.factor, dtype=np.float32)

    def lazy(self, rows: int) -> da.Array:
        """As a dask array with blocks of (all channels, `rows`, all columns)."""
        array: da.Array = da.from_array(  # type: ignore[no-untyped-call]
            self,
            chunks=(-1, rows, -1),
            name=f"store-{self.name}-{tokenize(self, rows)}",
            fancy=False,
            inline_array=True,
            meta=np.empty((0, 0, 0), dtype=self.dtype),
        )
        return array


@lru_cache(maxsize=4)
def _group(path: str, stamp: str) -> xr.Dataset:
    """Open a store, once in each process; `stamp` only tells versions of it apart."""
    group: xr.Dataset = xr.open_zarr(path, chunks=None, consolidated=False)
    return group


@dataclass(frozen=True)
class CubeStore:
    """A store that was looked at, with none of its fluxes read.

    Attributes
    ----------
    source : Path
    stamp : str
        Hash of its files' names, sizes and times.
    size_bytes : int
    axis : SpectralAxis
    unit : FluxUnit
    shape : (int, int, int)
        (wavelength, y, x).
    noise : str
        Name of the variable with the noise; empty if there is none.
    flagged : bool
        Whether there is a `mask`.
    width : (n,) float64 or None
        The store's `lsf_fwhm`.
    attributes : mapping
        Of the group.
    """

    source: Path
    stamp: str
    size_bytes: int
    axis: SpectralAxis
    unit: FluxUnit
    shape: tuple[int, int, int]
    noise: str
    flagged: bool
    width: NDArray[np.float64] | None
    attributes: Mapping[str, Any]

    @property
    def variance_source(self) -> str:
        """Name of the noise variable, with what is done to it."""
        return f"{self.noise}{_HOW[NOISE[self.noise]]}" if self.noise else METHOD

    @property
    def sky(self) -> str:
        """The celestial WCS as header text, '' if there is none.

        Raises
        ------
        CubeError
            If there is one that cannot be used.
        """
        text = str(self.attributes.get("wcs_header", ""))
        try:
            return checked_celestial(fits.Header.fromstring(text)) if text else ""
        except CubeError as error:
            raise CubeError(f"{self.source}: {error}") from error

    def dataset(self, redshift: float, window: tuple[float, float], rows: int) -> xr.Dataset:
        """The cube; see `open_cube`.

        Raises
        ------
        CubeError
            If it does not cover the window, or its WCS cannot be used.
        """
        try:
            channels = select_channels(self.axis, window, redshift)
        except CubeError as error:
            raise CubeError(f"{self.source}: {error}") from error
        shape = channels.wavelength.size, self.shape[1], self.shape[2]

        def array(name: str, kind: Kind, factor: float) -> da.Array:
            place = str(self.source.absolute())
            return StoreArray(place, name, self.stamp, shape, channels.first, channels.step, kind, factor).lazy(rows)

        noise = array(self.noise, NOISE[self.noise], self.unit.factor**2) if self.noise else None
        flags = array("mask", "flag", 1.0) if self.flagged else None
        flux, variance = masked_arrays(array("flux", "value", self.unit.factor), noise, flags, None)
        width = None if self.width is None else chosen(self.width, channels)
        about = {
            "source": self.source.name,
            "source_bytes": self.size_bytes,
            "header_sha256": self.stamp,
            "target": str(self.attributes.get("target", "")),
            "layout": "Zarr",
            "layout_notes": [],
            "lsf_source": "" if width is None else "variable lsf_fwhm",
            "variance_source": self.variance_source,
            "variance_note": "",
            "flags_source": "mask" if self.flagged else "",
            "wcs_header": self.sky,
        }
        return cube_dataset(
            flux, variance, channels, self.unit, width, about | axis_attributes(self.axis, self.unit, channels)
        )


def open_store(path: str | Path) -> CubeStore:
    """Look at a store.

    Raises
    ------
    CubeError
        If it is not one, or lacks what a cube needs.
    """
    source = Path(path).expanduser()
    stamp, size = _fingerprint(source)
    try:
        group = _group(str(source.absolute()), stamp)
    except Exception as error:  # zarr raises many types
        raise CubeError(f"{source}: is no Zarr group that xarray can open: {' '.join(str(error).split())}") from error
    try:
        return _cube_of(source, stamp, size, group)
    except CubeError as error:
        raise CubeError(f"{source}: {error}") from error


def _cube_of(source: Path, stamp: str, size: int, group: xr.Dataset) -> CubeStore:
    if "flux" not in group or "wavelength" not in group:
        listing = ", ".join(map(str, group.variables)) or "nothing"
        raise CubeError(f"a cube needs the variables flux and wavelength; the store has {listing}")
    flux = group["flux"]
    noise = next((name for name in NOISE if name in group), "")
    for name in filter(None, ("flux", noise, "mask" if "mask" in group else "")):
        if set(group[name].dims) != set(_DIMS):
            raise CubeError(f"{name} has the dimensions {group[name].dims}: wavelength, y and x are wanted")
    unit = flux_unit(str(flux.attrs.get("units", "")))
    width = None
    if "lsf_fwhm" in group:
        width = np.asarray(group["lsf_fwhm"].values, dtype=np.float64)
        if group["lsf_fwhm"].dims != ("wavelength",):
            raise CubeError(f"lsf_fwhm has the dimensions {group['lsf_fwhm'].dims}: wavelength alone is wanted")
    sizes = flux.sizes
    return CubeStore(
        source, stamp, size, _axis(group["wavelength"]), unit, (sizes["wavelength"], sizes["y"], sizes["x"]), noise,
        "mask" in group, width, group.attrs,
    )  # fmt: skip


def _axis(wavelength: xr.DataArray) -> SpectralAxis:
    unit, medium = (str(wavelength.attrs.get(key, "")).strip() for key in ("units", "medium"))
    if not unit:
        raise CubeError("the coordinate wavelength has no attribute units (Angstrom, nm, um, m)")
    if medium not in ("air", "vacuum", ""):
        raise CubeError(f"the coordinate wavelength has medium = '{medium}': air or vacuum is wanted")
    try:
        values = (wavelength.values.astype(np.float64) * u.Unit(UNIT_ALIASES.get(unit.lower(), unit))).to_value(u.AA)
    except Exception as error:  # astropy raises many types
        raise CubeError(f"the coordinate wavelength has units = '{unit}', which is no length") from error
    native: Medium = "vacuum" if medium == "vacuum" else "air"
    note = "" if medium else "the coordinate wavelength has no attribute medium: air assumed"
    return checked_axis(np.asarray(values), native, "wavelength", unit, note)


def _fingerprint(source: Path) -> tuple[str, int]:
    """Hash of the names, sizes and times of all files, and their total size in bytes."""
    digest, size = hashlib.sha256(), 0
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        status = file.stat()
        size += status.st_size
        digest.update(f"{file.relative_to(source)} {status.st_size} {int(status.st_mtime)}\n".encode())
    return digest.hexdigest(), size
