"""A folder -> the cubes in it, by their headers alone, and the files that were left out with the reason."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from galprote.model.errors import ConfigError, CubeError
from galprote.pipeline.readers.axis import SpectralAxis
from galprote.pipeline.readers.shape import cube_headers
from galprote.pipeline.readers.sky import field_centre, target_name
from galprote.workflows.file_names import FILE_NAMES, NAMED_AS, NO_CUBES, SurveyKind, name_in, stem, usable_name
from galprote.workflows.header_values import HeaderValue, frame_doubt, header_ebv, header_redshift

_ENDINGS: Final = (".fits", ".fit", ".fits.gz", ".fit.gz", ".fits.fz")


@dataclass(frozen=True)
class FoundCube:
    """A cube file, with what its name and its headers say.

    Attributes
    ----------
    path : Path
    name : str
        The galaxy's name, fit for `GalaxyConfig.name`.
    target : str
        The headers' OBJECT.
    redshift, ebv : HeaderValue
        From the headers.
    axis : SpectralAxis
        Wavelengths.
    doubt : str
        What is odd about its wavelengths; '' if nothing.
    centre : (float, float) or None
        RA and Dec (ICRS) of the middle of the field, degrees; None without a WCS.
    """

    path: Path
    name: str
    target: str
    redshift: HeaderValue
    ebv: HeaderValue
    axis: SpectralAxis
    doubt: str
    centre: tuple[float, float] | None = None


@dataclass(frozen=True)
class LeftOut:
    """A FITS file that is no cube for the survey, and why."""

    path: Path
    reason: str


def search_folder(folder: Path, kind: SurveyKind) -> tuple[list[FoundCube], list[LeftOut]]:
    """Look at every FITS file of a folder (not of those in it).

    Parameters
    ----------
    folder : Path
    kind : SurveyKind
        Whose file names to expect; GENERIC takes every cube.

    Returns
    -------
    cubes : list of FoundCube
        In the order of the files' names.
    left_out : list of LeftOut
        The other FITS files: of other names, no cubes, damaged, truncated.

    Raises
    ------
    ConfigError
        If it is no folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: {'is a file; name the folder' if folder.exists() else 'no such folder'}")
    cubes: list[FoundCube] = []
    left_out: list[LeftOut] = []
    for path in sorted(folder.iterdir()):
        if path.is_dir() or path.name.startswith(".") or not path.name.lower().endswith(_ENDINGS):
            continue
        found = _look_at(path, kind)
        if isinstance(found, FoundCube):
            cubes.append(found)
        else:
            left_out.append(found)
    return cubes, left_out


def _look_at(path: Path, kind: SurveyKind) -> FoundCube | LeftOut:
    named = name_in(path.name, kind)
    reason = _no_cube(path.name, named, kind)
    if reason:
        return LeftOut(path, reason)
    try:
        hdus, parts = cube_headers(path)
    except (CubeError, OSError) as error:
        return LeftOut(path, " ".join(str(error).removeprefix(f"{path}: ").split()))
    headers = [hdus[0].header, parts.flux.header]
    if str(headers[0].get("CREATOR", "")).startswith("galprote"):
        return LeftOut(path, "a product of galprote")
    target = target_name(hdus[0], parts.flux)
    name = usable_name(named) or usable_name(target) or usable_name(stem(path.name))
    if not name:
        return LeftOut(path, "neither its name nor its header's OBJECT has a letter or a digit: rename it")
    doubt = frame_doubt(parts.flux.header)
    return FoundCube(path, name, target, header_redshift(headers), header_ebv(headers), parts.axis, doubt,
                     field_centre(parts.flux))  # fmt: skip


def _no_cube(file_name: str, named: str, kind: SurveyKind) -> str:
    """Why a file is none of the survey's cubes, by its name; '' if it may be one."""
    for pattern, what in NO_CUBES:
        if pattern.fullmatch(file_name):
            return what
    if not named and kind is not SurveyKind.GENERIC:
        return f"not named as {kind} names its cubes ({NAMED_AS[kind]}); --survey generic takes any cube"
    if not file_name.isprintable() or "{name}" in file_name:
        return "its name has characters that a survey cannot hold: rename it"
    return ""


def preferred(cubes: Sequence[FoundCube], kind: SurveyKind, text: str) -> list[FoundCube]:
    """Order the cubes of one galaxy, the one to use first.

    Parameters
    ----------
    cubes : sequence of FoundCube
    kind : SurveyKind
    text : str
        Those with this text in the file's name come first; then those that are named as the survey's own, native before
        matched seeing (`copt`), logarithmic before linear channels, the highest version, uncompressed before
        compressed, and by name.

    Returns
    -------
    list of FoundCube
    """

    def rank(cube: FoundCube) -> tuple[bool, int, bool, bool, int, bool, str]:
        name = cube.path.name
        order = [k for k, pattern in enumerate(FILE_NAMES[kind]) if pattern.fullmatch(name)]
        versions = re.findall(r"_v(\d+)", name)
        return (
            text.lower() not in name.lower(),
            order[0] if order else len(FILE_NAMES[kind]),
            "_copt_" in name,
            "-LINCUBE" in name,
            -int(versions[-1]) if versions else 0,
            name.endswith(".gz"),
            name,
        )

    return sorted(cubes, key=rank)
