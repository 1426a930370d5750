"""Radial profiles: maps averaged over rings in the plane of a disc.

A spaxel's distance from the centre is deprojected as that of a point of a thin disc: what lies off the major axis is
further out by 1 / cos(inclination).
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray

from galprote.pipeline.map_wcs import as_image, has_wcs, pixel_axis, slice_wcs
from galprote.pipeline.sky_places import angular_size
from galprote.pipeline.trusted_light import ProfileError, brightest, trusted

#: Maps per area across the line of sight: a ring's mean weighs areas, not light.
PER_AREA: Final = ("flux", "spaxel_flux", "stellar_mass_density")
#: Rings, where nothing else is asked for; none is thinner than so many spaxels.
RINGS, THINNEST = 15, 1.5

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


def disc(center: Any, pa: float | None, inclination: float) -> Disc:
    """A disc as asked for: one that is inclined needs a position angle.

    Raises
    ------
    ProfileError
        If it has none, or an angle makes no sense.
    """
    if pa is None and inclination:
        raise ProfileError("an inclined disc has a position angle: give pa, degrees from north through east")
    return Disc(center, 0.0 if pa is None else pa, inclination)


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
    y, x = np.mgrid[:ny, :nx]
    if has_wcs(maps):
        wcs = slice_wcs(maps)
        origin = wcs.pixel_to_world(column, row).icrs
        east, north = origin.spherical_offsets_to(wcs.pixel_to_world(x, y).icrs)
        left, up, unit = east.to_value(u.arcsec), north.to_value(u.arcsec), "arcsec"
        about |= {"center_ra": float(origin.ra.deg), "center_dec": float(origin.dec.deg)}
        about |= {"position_angle": "degrees from north through east"}
    else:
        steps = [pixel_axis(maps, dim).step for dim in ("y", "x")]
        left, up, unit = (column - x) * steps[1], (y - row) * steps[0], "spaxel"
        about |= {"position_angle": "degrees from up (y) through left (-x): the cube has no celestial WCS"}
    angle = np.radians(disc.pa)
    along = up * np.cos(angle) + left * np.sin(angle)
    across = left * np.cos(angle) - up * np.sin(angle)
    return np.hypot(along, across / np.cos(np.radians(disc.inclination))), unit, about


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
        column, row = (float(value) for value in slice_wcs(maps).world_to_pixel(center))
        how = "given"
    else:
        try:
            row, column = (float(value) for value in center)
        except (TypeError, ValueError):
            raise ProfileError(f"center = {center!r}: expected a SkyCoord, or (y, x) of the cube") from None
        row, column, how = (row - y.first) / y.step, (column - x.first) / x.step, "given"
    about = {"center": how, "center_y": y.first + y.step * row, "center_x": x.first + x.step * column}
    return row, column, about


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
    if name not in maps.data_vars:
        raise ProfileError(f"no map {name!r}: there are {', '.join(map(str, maps.data_vars))}")
    radius, unit, about = deprojected_radius(maps, disc)
    values = np.asarray(as_image(maps[name]), dtype=float)
    weights = weights or ("area" if name in PER_AREA or "flux" not in maps else "flux")
    weight = _weight(maps, weights)
    counts = np.asarray(as_image(trusted(maps))) & np.isfinite(values) & np.isfinite(weight) & (weight > 0)
    if not counts.any():
        raise ProfileError(f"{name}: no spaxel is fitted and trusted, and has a value")
    scale = _scale(maps) if unit == "arcsec" else 1.0
    ends = _edges(step, edges, radius[counts], scale, unit)
    bins = np.asarray(as_image(maps["bin_id"]))[counts] if "bin_id" in maps else None
    ring = np.digitize(radius[counts], ends) - 1
    rows = []
    for number in range(len(ends) - 1):
        mine = ring == number
        own = None if bins is None else bins[mine]
        rows.append(_statistics(values[counts][mine], weight[counts][mine], radius[counts][mine], own))
    found = _as_dataset(rows, ends, unit, dict(maps[name].attrs))
    angles = {"pa": float(disc.pa), "inclination": float(disc.inclination)}
    found.attrs = {"map": name, **angles, "weights": weights, **about}
    return found if distance is None else _with_kpc(found, distance, unit)


def _weight(maps: xr.Dataset, weights: str) -> Floats:
    if weights == "area":
        return np.ones([pixel_axis(maps, dim).size for dim in ("y", "x")])
    if weights not in maps.data_vars:
        raise ProfileError(f"weights = {weights!r}: expected 'area', or a map like 'flux'")
    return np.asarray(as_image(maps[weights]), dtype=float)


def _scale(maps: xr.Dataset) -> float:
    """Side of a spaxel, arcsec."""
    return float(np.sqrt(np.prod(proj_plane_pixel_scales(slice_wcs(maps))))) * 3600


def _edges(step: Any, edges: Any, radius: Floats, scale: float, unit: str) -> Floats:
    """Ends of the rings, in the unit of the radius."""
    if edges is not None and step is not None:
        raise ProfileError("give step or edges, not both")
    if edges is not None:
        ends = np.asarray(edges.to_value(u.arcsec) if isinstance(edges, u.Quantity) else edges, dtype=float)
        if ends.ndim != 1 or len(ends) < 2 or not (np.diff(ends) > 0).all() or ends[0] < 0:
            raise ProfileError(f"edges = {edges!r}: expected increasing radii, two or more, from 0 on, in {unit}")
        return ends
    largest = float(radius.max())
    width = max(largest / RINGS, THINNEST * scale) if step is None else angular_size(step, "step")[0]
    return np.asarray(width * np.arange(int(np.floor(largest / width)) + 2), dtype=np.float64)


def _statistics(values: Floats, weight: Floats, radius: Floats, bins: NDArray[Any] | None) -> tuple[float, ...]:
    """Of a ring: mean, its standard error, percentiles 16, 50 and 84, mean radius, spaxels, independent values."""
    n = len(values)
    if n == 0:
        return (*(np.nan,) * 6, 0, 0)
    total = weight.sum()
    mean, distance = float(weight @ values / total), float(weight @ radius / total)
    shares, apart = weight, values
    if bins is not None:  # all spaxels of a bin have one and the same value
        _, first, group = np.unique(bins, return_index=True, return_inverse=True)
        shares, apart = np.bincount(group, weights=weight).astype(np.float64), values[first]
    k = len(apart)
    spread = float(shares**2 @ (apart - mean) ** 2) / float(total) ** 2
    error = float(np.sqrt(spread * k / (k - 1))) if k > 1 else np.nan
    order = np.argsort(values, kind="stable")
    middle = (np.cumsum(weight[order]) - 0.5 * weight[order]) / total
    low, median, high = (float(value) for value in np.interp((0.16, 0.5, 0.84), middle, values[order]))
    return mean, error, low, median, high, distance, n, k


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
        "radius": ((ends[1:] + ends[:-1]) / 2, "deprojected radius: middle of the ring"),
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
