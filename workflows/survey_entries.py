"""Cubes and tables -> the galaxies of a survey: which cube, which redshift, which E(B-V), and what is doubtful.

A value is taken from the first of these that has it: one's own table, MaNGA's drpall, the bundled table of the survey,
the other bundled tables, the cube's headers. Where none has it, it stays unknown: nothing is ever taken for zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from galprote.model.errors import CubeError
from galprote.pipeline.readers.channels import select_channels
from galprote.workflows.cube_groups import cubes_of_galaxies
from galprote.workflows.cube_search import FoundCube, preferred
from galprote.workflows.file_names import SurveyKind
from galprote.workflows.galaxy_table import KnownGalaxy, identity
from galprote.workflows.header_values import SPEED_OF_LIGHT_KMS

Table = Mapping[str, KnownGalaxy]

#: Differences between table and header that are told: km/s (the network copes with less), and magnitudes.
VELOCITY_DIFFERENCE_KMS: Final = 50.0
EBV_DIFFERENCE: Final = 0.02


@dataclass(frozen=True)
class SurveyEntry:
    """A galaxy of the survey that is to be written.

    Attributes
    ----------
    name : str
    cube : FoundCube
        The cube to use.
    others : tuple of FoundCube
        Other cubes of the same galaxy.
    redshift, ebv : float or None
        None: unknown.
    redshift_source, ebv_source : str
        Where they come from; '' where unknown.
    covered : bool or None
        Whether the cube covers the model's window; None: unknown, as the redshift is.
    remarks : tuple of str
        What somebody should look at before the survey is run.
    """

    name: str
    cube: FoundCube
    others: tuple[FoundCube, ...]
    redshift: float | None
    redshift_source: str
    ebv: float | None
    ebv_source: str
    covered: bool | None
    remarks: tuple[str, ...]

    @property
    def unknown(self) -> tuple[str, ...]:
        """What has to be filled in."""
        values = (("redshift", self.redshift), ("E(B-V)", self.ebv))
        return tuple(name for name, value in values if value is None)


def survey_entries(
    cubes: Sequence[FoundCube], tables: Sequence[Table], kind: SurveyKind, prefer: str, window: tuple[float, float]
) -> list[SurveyEntry]:
    """Make one entry of each galaxy.

    Parameters
    ----------
    cubes : sequence of FoundCube
    tables : sequence of mapping
        Galaxies by `identity`; the first that has a value counts.
    kind : SurveyKind
    prefer : str
        Part of the file names to prefer where a galaxy has several cubes.
    window : (float, float)
        Rest-frame wavelengths that the model needs, Angstrom.

    Returns
    -------
    list of SurveyEntry
        In the order of the cubes.
    """
    return [_entry(preferred(same, kind, prefer), tables, window) for same in cubes_of_galaxies(cubes)]


def _entry(cubes: Sequence[FoundCube], tables: Sequence[Table], window: tuple[float, float]) -> SurveyEntry:
    cube = cubes[0]
    known, remarks = _look_up(cube, tables)
    redshift, redshift_source = _redshift(cube, known, remarks)
    ebv, ebv_source = _ebv(cube, known, remarks)
    remarks += [cube.doubt] if cube.doubt else []
    covered = _covered(cube, redshift, window, remarks)
    return SurveyEntry(
        cube.name, cube, tuple(cubes[1:]), redshift, redshift_source, ebv, ebv_source, covered, tuple(remarks)
    )


def _look_up(cube: FoundCube, tables: Sequence[Table]) -> tuple[list[KnownGalaxy], list[str]]:
    """What the tables have under the galaxy's name, or else under the headers' OBJECT."""

    def find(name: str) -> list[KnownGalaxy]:
        return [table[identity(name)] for table in tables if identity(name) in table]

    by_name, by_target = find(cube.name), find(cube.target) if cube.target else []
    if by_name and by_target and by_name[0] != by_target[0]:
        return by_name, [f"the header's OBJECT is {cube.target!r}: is this {by_name[0].name}?"]
    if not by_name and by_target:
        return by_target, [f"looked up as {by_target[0].name}, by the header's OBJECT {cube.target!r}"]
    return by_name, []


def _redshift(cube: FoundCube, known: Sequence[KnownGalaxy], remarks: list[str]) -> tuple[float | None, str]:
    header = cube.redshift
    remarks += [header.doubt] if header.doubt else []
    source = next((galaxy for galaxy in known if galaxy.redshift is not None), None)
    remarks += [galaxy.remark for galaxy in known if galaxy.remark and (galaxy is source or galaxy.redshift is None)]
    if source is None or source.redshift is None:
        return header.value, header.source
    if header.value is not None:
        header_kms, table_kms = (SPEED_OF_LIGHT_KMS * value for value in (header.value, source.redshift))
        if abs(header_kms - table_kms) > VELOCITY_DIFFERENCE_KMS:
            remarks.append(
                f"{header.source} is {header.value:.6f} ({header_kms:.0f} km/s), {source.redshift_source} has "
                f"{source.redshift:.6f} ({table_kms:.0f} km/s): {abs(header_kms - table_kms):.0f} km/s apart; the "
                f"latter was taken"
            )
    return source.redshift, source.redshift_source


def _ebv(cube: FoundCube, known: Sequence[KnownGalaxy], remarks: list[str]) -> tuple[float | None, str]:
    header = cube.ebv
    remarks += [header.doubt] if header.doubt else []
    source = next((galaxy for galaxy in known if galaxy.ebv is not None), None)
    if source is None or source.ebv is None:
        return header.value, header.source
    if source.ebv == 0:
        remarks.append(f"E(B-V) = 0 ({source.ebv_source}): right only if the cube is dereddened already")
    if header.value is not None and abs(header.value - source.ebv) > EBV_DIFFERENCE:
        remarks.append(
            f"the header has E(B-V) = {header.value:g} ({header.source}), the table {source.ebv:g} "
            f"({source.ebv_source}); the latter was taken"
        )
    return source.ebv, source.ebv_source


def _covered(cube: FoundCube, redshift: float | None, window: tuple[float, float], remarks: list[str]) -> bool | None:
    if redshift is None:
        return None
    try:
        select_channels(cube.axis, window, redshift)
    except CubeError as error:
        remarks.append(str(error))
        return False
    return True
