"""The galaxies of a survey -> its commented YAML."""

import json
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import yaml

from galprote.model.errors import ConfigError
from galprote.pipeline.whole_files import write_text
from galprote.workflows.cube_search import LeftOut
from galprote.workflows.file_names import SurveyKind
from galprote.workflows.survey_entries import SurveyEntry

_WIDTH: Final = 110
_MOST_NAMES: Final = 10

_HEAD: Final = """\
# Survey of {count}, written by `galprote-pipeline init --survey {kind}`: edit it as you like.
# Look at it with `galprote-pipeline plan` before `galprote-pipeline run`. Relative paths are relative to this file.
# Lines like `#key: value` are settings with their defaults: to change one, remove its #.
#
# redshift: barycentric (not LSR, and no velocity). Comments say where each comes from; put a better one if you have it.
# ebv: E(B-V) of the Milky Way in magnitudes, not A_V; 0 only if the cube is dereddened already.
"""
_UNKNOWN: Final = """\
#
# !!!!!!!! {count} UNKNOWN, MARKED `FILL IN` !!!!!!!!
# Until they are given, or their galaxies removed, `plan` and `run` refuse this file. Look redshifts up in NED
# (https://ned.ipac.caltech.edu), E(B-V) at https://irsa.ipac.caltech.edu/applications/DUST (column S and F 2011).
"""
_SCHLEGEL: Final = """\
#
# 0.86 x SFD98: E(B-V) of Schlegel, Finkbeiner & Davis (1998, ApJ 500, 525), which the file has, times 0.86: the scale
# of Schlafly & Finkbeiner (2011, ApJ 737, 103), SF11.
"""
_DEFAULTS: Final = """
output: maps

defaults:
{cube}  foreground: {{law: O94, r_v: 3.1}}  # or law: CCM89, F99, G23
  #binning: {{method: powerbin, target_snr: 35}}  # spaxels added up to a signal-to-noise ratio; none by default
  #kinematics: {{method: measure}}  # velocity and dispersion of each spaxel or bin; one redshift for all by default
  #masks: {{files: ["masks/{{name}}_mask.fits"]}}  # also stars, regions, wavelengths: docs/masks.md
  #snr_min: 5.0  # median signal-to-noise ratio per 2.48 A; spaxels with a lower one are not fitted
  #products: {{residual: true, continuum_subtracted: false, grid: false, fits: true, figure: true}}

galaxies:
"""
_TAIL: Final = """
#chunks: {memory: null}  # for all processes on this machine together, such as 16GiB; null: chosen by the machine's
#cluster: {type: local}  # worker processes on this machine; or local-cuda, slurm, existing
"""


def survey_text(
    entries: Sequence[SurveyEntry], left_out: Sequence[LeftOut], kind: SurveyKind, folder: Path, output: Path
) -> str:
    """Write a survey's YAML.

    Parameters
    ----------
    entries : sequence of SurveyEntry
    left_out : sequence of LeftOut
        Told at the end.
    kind : SurveyKind
    folder : Path
        Of the cubes.
    output : Path
        The YAML, for relative paths.

    Returns
    -------
    str
        The same for the same arguments. Unknown values are `null`, which `read_survey` refuses.
    """
    unknown = sum(len(entry.unknown) for entry in entries)
    parts = [_HEAD.format(count=_count(len(entries), "galaxy", "galaxies"), kind=kind)]
    if unknown:
        parts.append(_UNKNOWN.format(count=_count(unknown, "VALUE IS", "VALUES ARE")))
    if any(entry.ebv_source.endswith("x SFD98") for entry in entries):
        parts.append(_SCHLEGEL)
    where = cube_prefix(folder, output)
    common = _common_pattern(entries)
    parts.append(_DEFAULTS.format(cube=f"  cube: {_scalar(where + common)}\n" if common else ""))
    parts += [_entry_text(entry, where, common) for entry in entries]
    parts.append(_TAIL)
    if left_out:
        parts.append("\n# Other FITS files in the folder:\n")
        parts += [_comment(line, "") for line in left_out_lines(left_out)]
    return "".join(parts)


def left_out_lines(left_out: Sequence[LeftOut]) -> list[str]:
    """Say which files were left out, those for the same reason together, up to `_MOST_NAMES` of them by name."""
    reasons: dict[str, list[str]] = {}
    for item in left_out:
        reasons.setdefault(item.reason, []).append(repr(item.path.name))
    lines = []
    for reason, names in reasons.items():
        more = [f"and {len(names) - _MOST_NAMES} more"] if len(names) > _MOST_NAMES else []
        lines.append(f"{', '.join(names[:_MOST_NAMES] + more)}: {reason}")
    return lines


def write_survey(text: str, output: Path, *, overwrite: bool) -> None:
    """Write the YAML under a temporary name, and rename it.

    Raises
    ------
    ConfigError
        If it exists and may not be replaced, or its folder does not exist.
    """
    require_writable(output, overwrite=overwrite)
    write_text(output, text)


def require_writable(output: Path, *, overwrite: bool) -> None:
    """Refuse an output that would replace something, or has no folder.

    Raises
    ------
    ConfigError
    """
    if output.is_dir():
        raise ConfigError(f"{output} is a folder; name a file, such as {output / 'survey.yaml'}")
    if output.exists() and not overwrite:
        raise ConfigError(f"{output} exists; choose another name with --output, or add --overwrite")
    if not output.parent.is_dir():
        raise ConfigError(f"{output.parent}: no such folder")


def cube_prefix(folder: Path, output: Path) -> str:
    """Return what stands before the cubes' file names in the YAML: nothing, a relative folder, or an absolute one."""
    cubes, home = folder.resolve(), output.resolve().parent
    if cubes == home:
        return ""
    return f"{cubes.relative_to(home)}/" if cubes.is_relative_to(home) else f"{cubes}/"


def _common_pattern(entries: Sequence[SurveyEntry]) -> str:
    """The name of most cubes with {name} in place of the galaxy's, if several have one; ''."""
    counts = Counter(pattern for entry in entries if (pattern := _pattern(entry)))
    most = max(counts.items(), key=lambda item: (item[1], item[0]), default=("", 0))
    return most[0] if most[1] > 1 else ""


def _pattern(entry: SurveyEntry) -> str:
    file = entry.cube.path.name
    rest = file.removeprefix(entry.name)
    return f"{{name}}{rest}" if rest != file and entry.name not in rest else ""


def _entry_text(entry: SurveyEntry, where: str, common: str) -> str:
    lines = [f"  - name: {_scalar(entry.name)}\n"]
    if not common or _pattern(entry) != common:
        lines.append(f"    cube: {_scalar(where + entry.cube.path.name)}\n")
    if entry.redshift is None:
        lines.append(
            "    redshift: null  # !!!! FILL IN: neither a table nor the header has a redshift to be trusted\n"
        )
    else:
        lines.append(f"    redshift: {_number(entry.redshift)}  # {entry.redshift_source}\n")
    if entry.ebv is None:
        lines.append("    foreground: {ebv: null, source: ''}  # !!!! FILL IN both: E(B-V), and where it is from\n")
    else:
        lines.append(f"    foreground: {{ebv: {_number(entry.ebv)}, source: {_scalar(entry.ebv_source)}}}\n")
    lines += [_comment(f"ATTENTION: {remark}", "    ") for remark in entry.remarks]
    lines += [_comment(f"Another cube of it, not used: {other.path.name}", "    ") for other in entry.others]
    return "".join(lines)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _number(value: float) -> str:
    """As a YAML number: never with an exponent, which YAML 1.1 takes for text."""
    return np.format_float_positional(value, precision=7, unique=True, trim="0")


def _scalar(text: str) -> str:
    """Text as YAML: plain where nothing could be misread, else in double quotes, as in JSON."""
    text = f"./{text}" if text.startswith("~") else text
    bare = text if text.startswith("{") else text.replace("{name}", "name")
    plain = re.fullmatch(r"[A-Za-z0-9/._+][A-Za-z0-9/._+-]*", bare) and yaml.safe_load(bare) == bare
    return text if plain else json.dumps(text, ensure_ascii=False)


def _comment(text: str, indent: str) -> str:
    lines = textwrap.wrap(" ".join(text.split()), _WIDTH, break_long_words=False, break_on_hyphens=False)
    return "".join(f"{indent}# {'  ' if k else ''}{line}\n" for k, line in enumerate(lines))
