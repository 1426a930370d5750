"""A page's radial profiles: medians of the good spaxels in rings that are round on the sky.

`galprote.pipeline.profiles` has means, weighted, in the plane of a disc.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray

from galprote.pipeline.map_wcs import read_wcs
from galprote.pipeline.rings import by_ring
from galprote.pipeline.trusted_light import brightest
from galprote.workflows.report.galaxy_maps import GalaxyMaps, percentiles

PROFILES: Final = ("age_lw", "metallicity_lw", "av", "stellar_mass_density", "mass_to_light", "snr")
RINGS: Final = 20
#: Rings with fewer good spaxels have no value.
FEWEST: Final = 5


@dataclass(frozen=True)
class Profile:
    """A map's profile.

    Attributes
    ----------
    name : str
    radius : (n,) float64
        Middles of the rings, in `unit`.
    median, low, high : (n,) float64
        Median, 16th and 84th percentile of the good spaxels in the map's unit; NaN in rings with fewer than `FEWEST`.
    unit : str
        Of the radii: arcsec, or spaxels without a WCS.
    about : mapping
        The store's attributes.
    """

    name: str
    radius: NDArray[np.float64]
    median: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    unit: str
    about: Mapping[str, Any]


def radial_profiles(galaxy: GalaxyMaps) -> list[Profile]:
    """Profiles of the maps of `PROFILES` in rings that are round on the sky; none without good spaxels."""
    if not galaxy.good.any() or galaxy.read("flux") is None:
        return []
    centre = brightest(galaxy.dataset)
    sides, unit = np.ones(2), "spaxels"
    if galaxy.about.get("wcs_header"):
        sides = np.asarray(proj_plane_pixel_scales(read_wcs(str(galaxy.about["wcs_header"])))) * 3600
        unit = "arcsec"
    good = galaxy.good
    radius = _distance(galaxy.shape, centre, (float(sides[1]), float(sides[0])))[good]
    edges = np.linspace(0, float(np.percentile(radius, 99.5)) + 1e-6, RINGS + 1)
    rings = by_ring(radius, edges)
    del radius
    found = []
    for name in PROFILES:
        values = galaxy.read(name)
        if values is None:
            continue
        profile = _percentiles(values[good], *rings)
        if np.isfinite(profile[:, 1]).any():
            low, median, high = profile.T
            found.append(Profile(name, (edges[1:] + edges[:-1]) / 2, median, low, high, unit, galaxy.about))
    return found


def _distance(shape: tuple[int, int], centre: tuple[float, float], sides: tuple[float, float]) -> NDArray[np.float32]:
    """Of all spaxels from the centre, given the height and the width of one."""
    y, x = ((np.arange(n) - middle) * side for n, middle, side in zip(shape, centre, sides, strict=True))
    return np.hypot(y[:, None].astype(np.float32), x.astype(np.float32))


def _percentiles(values: NDArray[np.float32], order: NDArray[np.intp], starts: NDArray[np.intp]) -> NDArray[np.float64]:
    """16th, 50th and 84th percentile of each ring, (RINGS, 3), given what `by_ring` gives."""
    profile = np.full((RINGS, 3), np.nan)
    for number, (first, last) in enumerate(pairwise(starts)):
        part = values[order[first:last]]
        part = part[np.isfinite(part)]
        if part.size >= FEWEST:
            profile[number] = percentiles(part)
    return profile
