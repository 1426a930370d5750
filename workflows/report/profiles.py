"""Radial profiles: what the good spaxels of a ring have."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray

from galprote.pipeline.map_wcs import read_wcs
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
    y, x = np.indices(galaxy.shape, dtype=np.float32)
    radius = np.hypot((y - centre[0]) * np.float32(sides[1]), (x - centre[1]) * np.float32(sides[0]))
    edges = np.linspace(0, np.percentile(radius[galaxy.good], 99.5) + 1e-6, RINGS + 1)
    ring = np.digitize(radius, edges) - 1
    found = []
    for name in PROFILES:
        values = galaxy.read(name)
        if values is None:
            continue
        profile = _rings(values, galaxy.good & np.isfinite(values), ring)
        if np.isfinite(profile[:, 1]).any():
            low, median, high = profile.T
            found.append(Profile(name, (edges[1:] + edges[:-1]) / 2, median, low, high, unit, galaxy.about))
    return found


def _rings(values: NDArray[np.float32], good: NDArray[np.bool_], ring: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """16th, 50th and 84th percentile of each ring, (RINGS, 3)."""
    inside = good & (ring < RINGS)
    numbers, mine = ring[inside], values[inside]
    order = np.argsort(numbers, kind="stable")
    ends = np.searchsorted(numbers[order], np.arange(RINGS + 1))
    profile = np.full((RINGS, 3), np.nan)
    for number in range(RINGS):
        part = mine[order[ends[number] : ends[number + 1]]]
        if part.size >= FEWEST:
            profile[number] = percentiles(part)
    return profile
