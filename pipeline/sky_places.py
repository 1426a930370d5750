"""Places on the sky, as people write them, and where they lie in maps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from galprote.pipeline.map_wcs import SkyError, pixel_axis, slice_wcs


def sky_place(ra: Any, dec: Any = None) -> SkyCoord:
    """One position on the sky.

    Parameters
    ----------
    ra, dec : float, Quantity or str
        Degrees; quantities with their unit; text like ``12h18m49s`` or ``12:18:49`` (hours) and ``+14d24m59s`` or
        ``14:24:59``. ICRS. Or `ra` is an astropy SkyCoord of any frame, and `dec` is left out.

    Raises
    ------
    SkyError
        If it is none of these, or not one position.
    """
    if dec is None and not isinstance(ra, SkyCoord):
        raise SkyError(f"{ra!r}: expected ra and dec, or one astropy SkyCoord")
    try:
        place = ra if dec is None else SkyCoord(_angle(ra, u.hourangle), _angle(dec, u.deg), frame="icrs")
    except (ValueError, TypeError, u.UnitsError) as error:
        raise SkyError(f"ra {ra!r}, dec {dec!r} is no position on the sky: {error}") from error
    if not place.isscalar or not np.isfinite([place.icrs.ra.deg, place.icrs.dec.deg]).all():
        raise SkyError(f"{ra!r}: expected one position on the sky")
    return place.icrs


def _angle(value: Any, sexagesimal: u.Unit) -> Angle:
    if isinstance(value, str):
        try:
            return Angle(float(value), u.deg)
        except ValueError:
            return Angle(value, unit=sexagesimal)
    return Angle(value, u.deg)


def angular_size(size: Any, what: str = "size") -> list[float]:
    """Height and width in arcsec, from a number of arcsec, a Quantity, or a pair of these.

    Raises
    ------
    SkyError
        If it is none of these, or not positive.
    """
    pair = list(size) if isinstance(size, Sequence) and not isinstance(size, str) else None
    if pair is None and np.ndim(getattr(size, "value", size)) == 1:
        pair = list(size)
    try:
        found = [float(u.Quantity(item, u.arcsec).value) for item in (pair if pair is not None else [size, size])]
    except (TypeError, ValueError, u.UnitsError) as error:
        raise SkyError(f"{what} {size!r}: expected arcsec, an angle, or a pair of them: {error}") from error
    if len(found) != 2 or not all(np.isfinite(item) and item > 0 for item in found):
        raise SkyError(f"{what} {size!r}: expected one positive angle or two (height, width)")
    return found


def pixel_of(maps: xr.Dataset, place: SkyCoord) -> tuple[float, float]:
    """(y, x) of a position, in numbers of the coordinates `y` and `x`, with fractions; it need not be on the maps."""
    column, row = slice_wcs(maps).world_to_pixel(place)
    y, x = (pixel_axis(maps, dim) for dim in ("y", "x"))
    return y.first + y.step * float(row), x.first + x.step * float(column)


def cutout(maps: xr.Dataset, place: SkyCoord, size: Any) -> xr.Dataset:
    """The part of maps around a position: see `MapsAccessor.cutout`."""
    wcs = slice_wcs(maps)
    column, row = (float(value) for value in wcs.world_to_pixel(place))
    scales = proj_plane_pixel_scales(wcs) * 3600
    indexers = {}
    for dim, centre, length, scale in zip(("y", "x"), (row, column), angular_size(size), scales[::-1], strict=True):
        wanted, pixels = max(1, round(length / scale)), pixel_axis(maps, dim).size
        start = int(np.ceil(centre - wanted / 2 - 1e-6)) if np.isfinite(centre) else pixels
        if start >= pixels or start + wanted <= 0:
            raise SkyError(outside_words(maps, wcs, place))
        if dim in maps.dims:
            indexers[dim] = slice(max(start, 0), min(start + wanted, pixels))
    return maps.isel(indexers)


def outside_words(maps: xr.Dataset, wcs: WCS, place: SkyCoord) -> str:
    """Say that a place is not on maps, and how far it is from these."""
    ny, nx = wcs.array_shape
    centre = wcs.pixel_to_world((nx - 1) / 2, (ny - 1) / 2).icrs
    high, wide = (n * scale * 3600 for n, scale in zip((ny, nx), proj_plane_pixel_scales(wcs)[::-1], strict=True))
    return (
        f"{place.to_string('hmsdms', precision=1)} is not on the maps of {maps.attrs.get('galaxy', 'this galaxy')}: it "
        f"is {_length(place.separation(centre).arcsec)} from their centre, {centre.to_string('hmsdms', precision=1)}; "
        f"they are {_length(high)} high and {_length(wide)} wide"
    )


def _length(arcsec: float) -> str:
    return f"{arcsec:.1f} arcsec" if arcsec < 600 else f"{arcsec / 3600:.2f} deg"
