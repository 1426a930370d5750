"""The celestial WCS of maps, also of slices of them: worked out from the pixel numbers that slices keep."""

import warnings
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS, Sip
from numpy.typing import NDArray

from galprote.model.errors import GalproteError

#: Lengths that a scale bar may have, arcsec.
LENGTHS: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)


class SkyError(GalproteError):
    """The maps have no celestial WCS, or a place is not on them."""


class PixelAxis(NamedTuple):
    """An axis of a slice: the first pixel's number in the cube, the step to the next, how many there are."""

    first: float
    step: float
    size: int


def read_wcs(text: str) -> WCS:
    """Read the celestial WCS that a store's attribute `wcs_header` holds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wcslib reports every keyword that it tidies up
        return WCS(fits.Header.fromstring(text))


def wcs_text(wcs: WCS) -> str:
    """Write a celestial WCS as the attribute `wcs_header` holds it, with distortions by polynomials (SIP).

    Raises
    ------
    SkyError
        If it has distortions in lookup tables, which a header cannot hold.
    """
    if any(table is not None for table in (wcs.cpdis1, wcs.cpdis2, wcs.det2im1, wcs.det2im2)):
        raise SkyError("the WCS has distortions in lookup tables, which a header cannot hold")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # keywords that are not of the standard
        header = wcs.to_header(relax=wcs.sip is not None)
        return str(header.tostring(endcard=False, padding=False))


def sky_positions(
    wcs_header: str, x: NDArray[Any], y: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Right ascension and declination of pixels, counted from 0: ICRS degrees; None without a WCS."""
    if not wcs_header:
        return None
    places = read_wcs(wcs_header).pixel_to_world(x, y).icrs
    return np.asarray(places.ra.deg), np.asarray(places.dec.deg)


def has_wcs(maps: xr.Dataset) -> bool:
    """Tell whether maps have a celestial WCS."""
    return bool(maps.attrs.get("wcs_header", ""))


def slice_wcs(maps: xr.Dataset) -> WCS:
    """Celestial WCS of maps as they are sliced: pixel (0, 0) is their first spaxel.

    Raises
    ------
    SkyError
        If the cube had no celestial WCS, or the rows or columns kept are not evenly spaced.
    """
    if not has_wcs(maps):
        if "galaxy" not in maps.attrs:
            raise SkyError("the Dataset has lost its attributes, and its WCS with them: slice what open_maps gives")
        raise SkyError(f"{maps.attrs['galaxy']}: the cube had no celestial WCS")
    whole = read_wcs(str(maps.attrs["wcs_header"]))
    axes = [pixel_axis(maps, dim) for dim in ("x", "y")]
    first, step = np.array([axis.first for axis in axes]), np.array([axis.step for axis in axes])
    return _shifted(whole, first, step, (axes[1].size, axes[0].size))


def unsliced_wcs(wcs: WCS, first: tuple[float, float], step: tuple[float, float]) -> WCS:
    """WCS of the cube, from that of a slice whose first (x, y) pixel and steps are known."""
    forth = np.asarray(step, dtype=float)
    return _shifted(wcs, -np.asarray(first, dtype=float) / forth, 1 / forth, None)


def _shifted(wcs: WCS, first: Any, step: Any, shape: tuple[int, int] | None) -> WCS:
    """The WCS of every `step`-th pixel (x, y) from `first` on."""
    sliced, step = wcs.deepcopy(), np.asarray(step, dtype=float)
    sliced.wcs.crpix = (np.asarray(wcs.wcs.crpix) - 1 - first) / step + 1
    matrix = np.asarray(wcs.pixel_scale_matrix) * step
    if wcs.wcs.has_cd():
        sliced.wcs.cd = matrix
    else:
        sliced.wcs.cdelt, sliced.wcs.pc = (1.0, 1.0), matrix
    if wcs.sip is not None:
        sliced.sip = _shifted_sip(wcs.sip, first, step)
    sliced.wcs.set()
    sliced.array_shape = shape
    return sliced


def _shifted_sip(sip: Sip, first: Any, step: NDArray[np.float64]) -> Sip:
    """The same distortion, in pixels of `step` (x, y) pixels: polynomials of these, which give these."""
    terms: list[Any] = []
    for axis, terms_of in ((0, sip.a), (1, sip.b), (0, sip.ap), (1, sip.bp)):
        if terms_of is None:
            terms.append(None)
            continue
        power = np.arange(len(terms_of))
        terms.append(np.asarray(terms_of) * step[0] ** power[:, None] * step[1] ** power / step[axis])
    return Sip(*terms, (np.asarray(sip.crpix) - 1 - first) / step + 1)


def pixel_axis(maps: xr.Dataset, dim: str) -> PixelAxis:
    """The pixels of an axis, `y` or `x`; one that was picked by a number has one pixel.

    Raises
    ------
    SkyError
        If the axis is missing, or its pixels are not evenly spaced.
    """
    if dim not in maps.coords:
        raise SkyError(f"no coordinate {dim!r}: open the maps with galprote.pipeline.open_maps")
    if maps[dim].dims not in ((), (dim,)):
        raise SkyError(f"{dim!r} is no axis of its own any more: unstack the maps first")
    pixels = np.atleast_1d(np.asarray(maps[dim], dtype=float))
    if len(pixels) == 0:
        raise SkyError(f"no {dim} is left in these maps")
    if len(pixels) == 1:
        return PixelAxis(float(pixels[0]), 1.0, 1)
    steps = np.unique(np.diff(pixels))
    if len(steps) != 1 or steps[0] == 0:
        raise SkyError(f"the {dim} of these maps are not evenly spaced: a WCS needs a plain slice")
    return PixelAxis(float(pixels[0]), float(steps[0]), len(pixels))


def as_image(values: xr.DataArray) -> xr.DataArray:
    """A map as (y, x); a row or column that was picked by a number gets its axis of one pixel back.

    Raises
    ------
    SkyError
        If it has other axes, too.
    """
    others = [str(dim) for dim in values.dims if dim not in ("y", "x")]
    if others:
        choose = ", ".join(f"{dim}=..." for dim in others)
        raise SkyError(f"{values.name} is no map: choose first, .sel({choose}, method='nearest') or .isel({choose})")
    for dim in ("y", "x"):
        if dim not in values.dims:
            values = values.expand_dims(dim)
    return values.transpose("y", "x")


def sky(maps: xr.Dataset) -> SkyCoord:
    """ICRS positions of the centres of spaxels: (y, x), or whatever axes the maps have left of these.

    Raises
    ------
    SkyError
        If the cube had no celestial WCS.
    """
    if "ra" in maps.coords and "dec" in maps.coords:
        ra, dec = maps["ra"], maps["dec"]
        if set(ra.dims) == {"y", "x"}:
            ra, dec = ra.transpose("y", "x"), dec.transpose("y", "x")
        return SkyCoord(np.asarray(ra), np.asarray(dec), unit="deg", frame="icrs")
    wcs = slice_wcs(maps)
    ny, nx = wcs.array_shape
    y, x = np.mgrid[:ny, :nx]
    places = wcs.pixel_to_world(x, y).icrs
    return places.reshape([maps.sizes[dim] for dim in ("y", "x") if dim in maps.dims])


def on_sky(maps: xr.Dataset) -> xr.Dataset:
    """Give maps (y, x) the coordinates `ra` and `dec` of their attribute `wcs_header`, if they have one."""
    y, x = np.meshgrid(maps["y"], maps["x"], indexing="ij")
    found = sky_positions(str(maps.attrs.get("wcs_header", "")), x, y)
    if found is None:
        return maps
    words = (("ra", "right ascension (ICRS)"), ("dec", "declination (ICRS)"))
    return maps.assign_coords(
        {
            name: (("y", "x"), values, {"units": "degree", "long_name": text})
            for (name, text), values in zip(words, found, strict=True)
        }
    )
