"""Radial profiles: maps averaged over rings in the plane of a disc.

A spaxel's distance from the centre is deprojected as that of a point of a thin disc: what lies off the major axis is
further out by 1 / cos(inclination).
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import xarray as xr
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray

from galprote.pipeline.map_names import require_map
from galprote.pipeline.map_wcs import as_image, has_wcs, pixel_axis, slice_wcs
from galprote.pipeline.rings import by_ring, ring_ends, ring_statistics
from galprote.pipeline.sky_places import sky_place
from galprote.pipeline.trusted_light import ProfileError, brightest, trusted

#: Maps per area across the line of sight: a ring's mean weighs areas, not light.
PER_AREA: Final = ("flux", "spaxel_flux", "stellar_mass_density")
#: Maps that number things or hold bits: so says their name, or CF's attributes.
NUMBERS: Final = ("status", "bin_id")
NUMBER_ATTRIBUTES: Final = ("flag_masks", "flag_values", "flag_meanings")
#: Spaxels whose places on the sky are worked out at a time.
AT_A_TIME: Final = 2**17

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Disc:
    """How a disc lies on the sky.

    Attributes
    ----------
    center : SkyCoord or (float, float), optional
        A position, or (y, x) of the cube; by default the centre of the light: `brightest`.
    pa : float
        Position angle of the major axis, degrees from north through east; without a WCS from up through left.
    inclination : float
        Degrees; 0 is face-on.
    """

    center: Any
    pa: float
    inclination: float

    def __post_init__(self) -> None:
        if not np.isfinite(self.pa):
            raise ProfileError(f"pa = {self.pa}: expected degrees from north through east")
        if not 0 <= self.inclination < 90:
            raise ProfileError(f"inclination = {self.inclination}: expected 0 (face-on) to less than 90 degrees")


def disc(center: Any, pa: float | None, inclination: float | None) -> Disc:
    """A disc as asked for: one that is inclined needs a position angle, and one with that an inclination, if only 0.

    Raises
    ------
    ProfileError
        If one of them is missing, or an angle makes no sense.
    """
    if pa is None and inclination:
        raise ProfileError("an inclined disc has a position angle: give pa, degrees from north through east")
    if pa is not None and inclination is None:
        raise ProfileError(f"pa = {pa}: without an inclination it changes nothing: give inclination, 0 for circles")
    return Disc(center, 0.0 if pa is None else pa, inclination or 0.0)


def deprojected_radius(maps: xr.Dataset, disc: Disc) -> tuple[Floats, str, dict[str, Any]]:
    """Distance of every spaxel from a disc's centre, in its plane.

    Returns
    -------
    radius : (y, x) float64
    unit : str
        arcsec; without a WCS `spaxel`.
    about : dict
        Where the centre is, and what the angles are counted from.
    """
    row, column, about = _centre(maps, disc.center)
    ny, nx = (pixel_axis(maps, dim).size for dim in ("y", "x"))
    wcs = slice_wcs(maps) if has_wcs(maps) else None
    if wcs is not None:
        unit, origin = "arcsec", wcs.pixel_to_world(column, row).icrs
        about |= {"center_ra": float(origin.ra.deg), "center_dec": float(origin.dec.deg)}
        about |= {"position_angle": "degrees from north through east"}
    else:
        unit, steps = "spaxel", [pixel_axis(maps, dim).step for dim in ("y", "x")]
        about |= {"position_angle": "degrees from up (y) through left (-x): the cube has no celestial WCS"}
    angle, flat = np.radians(disc.pa), np.cos(np.radians(disc.inclination))
    radius = np.empty((ny, nx))
    rows = max(1, AT_A_TIME // nx)
    for first in range(0, ny, rows):
        y, x = np.mgrid[first : min(first + rows, ny), :nx]
        if wcs is not None:
            east, north = origin.spherical_offsets_to(wcs.pixel_to_world(x, y).icrs)
            left, up = east.to_value(u.arcsec), north.to_value(u.arcsec)
        else:
            left, up = (column - x) * steps[1], (y - row) * steps[0]
        along, across = up * np.cos(angle) + left * np.sin(angle), left * np.cos(angle) - up * np.sin(angle)
        radius[first : first + rows] = np.hypot(along, across / flat)
    return radius, unit, about


def radius_map(maps: xr.Dataset, disc: Disc) -> xr.DataArray:
    """The same as a map."""
    radius, unit, about = deprojected_radius(maps, disc)
    places = {dim: np.atleast_1d(maps[dim]) for dim in ("y", "x")}
    words = {"units": unit, "long_name": "distance from the centre, in the plane of the disc", **about}
    found = xr.DataArray(radius, places, ("y", "x"), "radius", words)
    return found.squeeze([dim for dim in ("y", "x") if dim not in maps.dims])


def _centre(maps: xr.Dataset, center: Any) -> tuple[float, float, dict[str, Any]]:
    """Row and column of the centre in the maps as they are sliced."""
    y, x = (pixel_axis(maps, dim) for dim in ("y", "x"))
    if center is None:
        row, column = brightest(maps)
        how = "the brightest light"
    elif isinstance(center, SkyCoord):
        column, row = (float(value) for value in slice_wcs(maps).world_to_pixel(sky_place(center)))
        how = "given"
    else:
        try:
            row, column = (float(value) for value in center)
        except (TypeError, ValueError):
            raise ProfileError(f"center = {center!r}: expected a SkyCoord, or (y, x) of the cube") from None
        _refuse_degrees(maps, row, column)
        row, column, how = (row - y.first) / y.step, (column - x.first) / x.step, "given"
    if not (np.isfinite(row) and np.isfinite(column)):
        raise ProfileError(f"center = {center!r}: expected a place on the maps, or beside them")
    about = {"center": how, "center_y": y.first + y.step * row, "center_x": x.first + x.step * column}
    return row, column, about


def _refuse_degrees(maps: xr.Dataset, first: float, second: float) -> None:
    """Refuse two numbers that are meant as a position in degrees, in either order: as one they lie on the maps."""
    if not has_wcs(maps):
        return
    wcs = slice_wcs(maps)
    for ra, dec in ((first, second), (second, first)):
        if not (np.isfinite(ra) and abs(dec) <= 90):
            continue
        found = np.array(wcs.world_to_pixel(SkyCoord(ra, dec, unit="deg")))[::-1]
        if np.all((found > -0.5) & (found < np.array(wcs.array_shape) - 0.5)):
            raise ProfileError(
                f"center = ({first}, {second}): expected (y, x) of the cube; a position is SkyCoord({ra}, {dec}, "
                "unit='deg')"
            )


def _is_outside(maps: xr.Dataset, about: dict[str, Any], *, far: bool) -> bool:
    """Whether the centre is outside the maps; one further from them than they are across is refused, if not `far`."""
    beyond, sizes = [], []
    for dim in ("y", "x"):
        axis = pixel_axis(maps, dim)
        half, middle = abs(axis.step) * axis.size / 2, axis.first + axis.step * (axis.size - 1) / 2
        beyond.append(max(abs(about[f"center_{dim}"] - middle) - half, 0.0))
        sizes.append(2 * half)
    off = math.hypot(*beyond) / math.hypot(*sizes)
    if off > 1 and not far:  # most likely a mistake
        ends = (f"{dim} from {float(maps[dim].min()):g} to {float(maps[dim].max()):g}" for dim in ("y", "x"))
        raise ProfileError(
            f"center: its (y, x), ({about['center_y']:.1f}, {about['center_x']:.1f}), is {off:.1f} times as far from "
            f"the maps of {maps.attrs.get('galaxy', 'this galaxy')} as these are across ({', '.join(ends)}); for rings "
            "around such a place, say where they end: edges=[...]"
        )
    return off > 0


def radial_profile(
    maps: xr.Dataset,
    name: str,
    disc: Disc,
    *,
    step: Any = None,
    edges: Any = None,
    weights: str = "",
    distance: Any = None,
) -> xr.Dataset:
    """Average a map over rings: see `MapsAccessor.radial_profile`."""
    values = _numbers(maps, name)
    radius, unit, about = deprojected_radius(maps, disc)
    outside = _is_outside(maps, about, far=edges is not None)
    weights = weights or ("area" if name in PER_AREA or "flux" not in maps else "flux")
    weight = _weight(maps, weights)
    counts = np.asarray(as_image(trusted(maps))) & np.isfinite(values) & np.isfinite(weight) & (weight > 0)
    counts &= np.isfinite(radius)
    if not counts.any():
        raise ProfileError(f"{name}: no spaxel is fitted and trusted, and has a value")
    radius = radius[counts]
    near, far = float(radius.min()), float(radius.max())
    scale = _scale(maps) if unit == "arcsec" else 1.0
    order, starts = by_ring(radius, ends := ring_ends(step, edges, (near if outside else 0.0, far), scale, unit))
    if not len(order):
        raise ProfileError(f"{name}: no spaxel is in these rings: radii are {near:.4g} to {far:.4g} {unit}")
    columns = [radius, values[counts], np.broadcast_to(weight, counts.shape)[counts]]
    if "bin_id" in maps:
        columns.append(np.asarray(as_image(maps["bin_id"]))[counts])
    del radius, values, weight, counts
    rows = []
    for first, last in pairwise(starts):
        place, value, light, *bins = (column[order[first:last]] for column in columns)
        rows.append(ring_statistics(value, light, place, bins[0] if bins else None))
    found = _as_dataset(rows, ends, unit, dict(maps[name].attrs))
    angles = {"pa": float(disc.pa), "inclination": float(disc.inclination)}
    found.attrs = {"map": name, **angles, "weights": weights, **about}
    return found if distance is None else _with_kpc(found, distance, unit)


def _numbers(maps: xr.Dataset, name: str) -> NDArray[Any]:
    """A map (y, x) whose mean means something."""
    require_map(maps, name, ProfileError)
    about = maps[name].attrs
    if name in NUMBERS or any(attribute in about for attribute in NUMBER_ATTRIBUTES):
        raise ProfileError(
            f"{name} holds bits or numbers of things, and a mean of these means nothing; for the share of spaxels make "
            "a map of it: ds.assign(poor=((ds.status & 512) > 0).astype(float))"
        )
    return np.asarray(as_image(maps[name]))


def _weight(maps: xr.Dataset, weights: str) -> NDArray[Any]:
    """Weights (y, x), or one for all."""
    if weights == "area":
        return np.ones(())
    if not isinstance(weights, str) or weights not in maps.data_vars:
        raise ProfileError(f"weights = {weights!r}: expected 'area', or a map like 'flux'")
    return _numbers(maps, weights)


def _scale(maps: xr.Dataset) -> float:
    """Side of a spaxel, arcsec."""
    return float(np.sqrt(np.prod(proj_plane_pixel_scales(slice_wcs(maps))))) * 3600


def _as_dataset(rows: list[tuple[float, ...]], ends: Floats, unit: str, about: dict[str, Any]) -> xr.Dataset:
    units, words = str(about.get("units", "")), str(about.get("long_name", ""))
    names = ("mean", "standard_error", "p16", "median", "p84", "mean_radius", "n", "n_independent")
    meanings = (
        f"mean of: {words}", "standard error of the mean, from the scatter in the ring", "16th percentile", "median",
        "84th percentile", "mean radius of the ring's spaxels, weighted as the mean is", "spaxels",
        "values that are not the same by construction: spaxels, or bins",
    )  # fmt: skip
    variables = {}
    for name, text, column in zip(names, meanings, zip(*rows, strict=True), strict=True):
        kind, own = (int, "") if name.startswith("n") else (float, unit if name == "mean_radius" else units)
        variables[name] = ("radius", np.array(column, dtype=kind), {"units": own, "long_name": text})
    radii = {
        "radius": ((ends[1:] + ends[:-1]) / 2, "deprojected radius"),
        "radius_inner": (ends[:-1], "inner end of the ring"),
        "radius_outer": (ends[1:], "outer end of the ring"),
    }
    coordinates = {
        name: ("radius", values, {"units": unit, "long_name": text}) for name, (values, text) in radii.items()
    }
    return xr.Dataset(variables, coords=coordinates)


def _with_kpc(profile: xr.Dataset, distance: Any, unit: str) -> xr.Dataset:
    """Radii in kpc beside those in arcsec."""
    if unit != "arcsec":
        raise ProfileError("a distance turns arcsec into kpc, but the cube has no celestial WCS")
    try:
        mpc = float(u.Quantity(distance, u.Mpc).value)
    except (TypeError, ValueError, u.UnitsError) as error:
        raise ProfileError(f"distance = {distance!r}: expected Mpc, or a length: {error}") from error
    if not (np.isfinite(mpc) and mpc > 0):
        raise ProfileError(f"distance = {distance!r}: expected a positive number of Mpc")
    kpc_per_arcsec = mpc * 1e3 * np.pi / 180 / 3600
    for name in ("radius", "radius_inner", "radius_outer", "mean_radius"):
        about = {"units": "kpc", "long_name": profile[name].attrs["long_name"]}
        profile = profile.assign_coords({f"{name}_kpc": ("radius", profile[name].values * kpc_per_arcsec, about)})
    profile.attrs["distance_mpc"] = mpc
    return profile
