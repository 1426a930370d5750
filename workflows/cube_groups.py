"""Cubes -> those of each galaxy: of one name, one redshift and one place on the sky."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from galprote.workflows.cube_search import FoundCube
from galprote.workflows.file_names import stem, usable_name
from galprote.workflows.galaxy_table import identity

#: Headers of one galaxy's cubes differ by less: in redshift, and in where the middle of the field is, degrees.
REDSHIFT_APART: Final = 5e-4
PLACE_APART: Final = 1 / 60


def cubes_of_galaxies(cubes: Sequence[FoundCube]) -> list[list[FoundCube]]:
    """Put together the cubes of each galaxy.

    Cubes of one name whose headers have different redshifts, or whose fields lie more than an arcminute apart, are
    different galaxies: they get the names of their files.

    Parameters
    ----------
    cubes : sequence of FoundCube

    Returns
    -------
    list of list of FoundCube
        In the order of the cubes.
    """
    by_name: dict[str, list[list[FoundCube]]] = {}
    for cube in cubes:
        groups = by_name.setdefault(identity(cube.name), [])
        group = next((group for group in groups if all(_alike(cube, other) for other in group)), None)
        if group is None:
            groups.append([cube])
        else:
            group.append(cube)
    taken = {name for name, groups in by_name.items() if len(groups) == 1}
    found = []
    for groups in by_name.values():
        for group in groups:
            found.append(group if len(groups) == 1 else _renamed(group, taken))
    places = {cube.path: place for place, cube in enumerate(cubes)}
    return sorted(found, key=lambda group: places[group[0].path])


def _alike(one: FoundCube, other: FoundCube) -> bool:
    """Whether nothing in their headers says that two cubes are of different galaxies."""
    redshifts = (one.redshift.value, other.redshift.value)
    if None not in redshifts and abs(redshifts[0] - redshifts[1]) > REDSHIFT_APART:  # type: ignore[operator]
        return False
    if one.centre is None or other.centre is None:
        return True
    east = (one.centre[0] - other.centre[0] + 180) % 360 - 180
    north = one.centre[1] - other.centre[1]
    return math.hypot(east * math.cos(math.radians(one.centre[1])), north) <= PLACE_APART


def _renamed(group: list[FoundCube], taken: set[str]) -> list[FoundCube]:
    """Name a galaxy by the file of its first cube."""
    path = group[0].path
    whole = usable_name(Path(path.name.removesuffix(".gz")).stem)
    names = [name for name in (usable_name(stem(path.name)), whole) if name]
    names += [f"{names[-1] if names else group[0].name}_{number}" for number in range(2, len(taken) + 3)]
    name = next(name for name in names if identity(name) not in taken)
    taken.add(identity(name))
    return [replace(cube, name=name) for cube in group]
