"""`galprote-pipeline init`: a folder of cubes -> a commented survey, and a table of what was found."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from galprote.model.errors import ConfigError
from galprote.model.wording import count
from galprote.workflows.conduct import keeps
from galprote.workflows.file_names import NAMED_AS, SurveyKind
from galprote.workflows.preloading import preload_torch
from galprote.workflows.terminal import Debug, Json, conclude, print_json, say, show

if TYPE_CHECKING:
    from galprote.workflows.cube_search import LeftOut
    from galprote.workflows.galaxy_table import KnownGalaxy
    from galprote.workflows.survey_entries import SurveyEntry


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder with the cubes.")],
    survey: Annotated[
        SurveyKind, typer.Option(help="Whose file names and table of galaxies to use; generic: any cube.")
    ] = SurveyKind.GENERIC,
    output: Annotated[Path | None, typer.Option(help="The YAML to write (default: survey.yaml in DIR).")] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="Table with columns name, redshift, ebv (FITS, CSV, ECSV ...), or MaNGA's drpall file."),
    ] = None,
    prefer: Annotated[
        str, typer.Option(help="Where a galaxy has several cubes: those with this in the file name, such as copt.")
    ] = "",
    overwrite: Annotated[bool, typer.Option(help="Replace a YAML that exists.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a survey for the cubes in a folder: names, redshifts and E(B-V) from tables and headers.

    What is unknown becomes null, with a comment: the survey is refused until it is filled in.

    Example: galprote-pipeline init --survey phangs cubes/
    """
    if not folder.exists():
        raise ConfigError(f"{folder}: no such folder")
    preload_torch()
    from galprote.model.checkpoint import checkpoint_config, default_checkpoint
    from galprote.model.grids import covered
    from galprote.workflows.cube_search import search_folder
    from galprote.workflows.galaxy_table import read_table
    from galprote.workflows.survey_entries import survey_entries
    from galprote.workflows.survey_writer import left_out_lines, require_writable, survey_text, write_survey

    path = output or folder / "survey.yaml"
    tables = [read_table(table)] if table is not None else []
    cubes, left_out = search_folder(folder, survey)
    if not cubes:
        raise ConfigError(_nothing(folder, survey, left_out))
    require_writable(path, overwrite=overwrite)
    tables += _drpall(folder, survey, left_out) + _bundled(survey)
    window = covered(checkpoint_config(default_checkpoint()).visible)
    entries = survey_entries(cubes, tables, survey, prefer, window)
    write_survey(survey_text(entries, left_out, survey, folder, path), path, overwrite=overwrite)
    keeps(f"{path} is written")
    if as_json:
        print_json(_document(entries, left_out, path))
        return
    show(entries_table(entries))
    for line in left_out_lines(left_out):
        say(f"left out {line}")
    _say_next(entries, path)


def _drpall(folder: Path, survey: SurveyKind, left_out: "list[LeftOut]") -> "list[dict[str, KnownGalaxy]]":
    """MaNGA's table, where it lies beside the cubes; the newest by name."""
    from galprote.workflows.cube_search import LeftOut
    from galprote.workflows.galaxy_table import read_table

    if survey not in (SurveyKind.MANGA, SurveyKind.GENERIC):
        return []
    for path in sorted(folder.glob("drpall*.fits*"), reverse=True):
        left_out[:] = [item for item in left_out if item.path != path]
        try:
            return [read_table(path)]
        except ConfigError as error:
            left_out.append(LeftOut(path, str(error).removeprefix(f"{path}: ")))
    return []


def _bundled(survey: SurveyKind) -> "list[dict[str, KnownGalaxy]]":
    """The survey's own table first."""
    from galprote.workflows.galaxy_table import BUNDLED, bundled_table

    if survey is SurveyKind.MANGA:
        return []
    return [bundled_table(name) for name in sorted(BUNDLED, key=lambda name: (name != survey, BUNDLED.index(name)))]


def _nothing(folder: Path, survey: SurveyKind, left_out: "Sequence[LeftOut]") -> str:
    from galprote.workflows.survey_writer import left_out_lines

    lines = [f"{folder}: no cube here; expected files named {NAMED_AS[survey]}"]
    lines += [f"  {line}" for line in left_out_lines(left_out)[:20]]
    inside = sorted(path.parent.name for path in folder.glob("*/*.fits*"))
    if inside:
        lines.append(f"FITS files lie in folders of it, such as {inside[0]}: name that one")
    return "\n".join(lines)


def _document(entries: "Sequence[SurveyEntry]", left_out: "Sequence[LeftOut]", path: Path) -> dict[str, Any]:
    """What was found, as plain data."""
    return {
        "survey": path,
        "galaxies": [
            {
                "name": entry.name,
                "cube": entry.cube.path,
                "redshift": entry.redshift,
                "redshift_source": entry.redshift_source,
                "ebv": entry.ebv,
                "ebv_source": entry.ebv_source,
                "covers_window": entry.covered,
                "unknown": list(entry.unknown),
                "remarks": list(entry.remarks),
                "other_cubes": [other.path for other in entry.others],
            }
            for entry in entries
        ],
        "left_out": [{"path": item.path, "why": item.reason} for item in left_out],
    }


def entries_table(entries: "Sequence[SurveyEntry]") -> Table:
    """What was found, and where each value comes from."""
    table = Table(title="Survey", caption="window: does the cube cover the model's wavelengths at this redshift?")
    for name in ("galaxy", "cube", "redshift", "from", "E(B-V)", "from", "window", "look at"):
        table.add_column(name, justify="right" if name in {"redshift", "E(B-V)"} else "left", overflow="fold")
    missing = Text("unknown", style="bold red")
    windows: dict[bool | None, str | Text] = {True: "yes", False: Text("no", style="red"), None: "?"}
    for entry in entries:
        notes = [count(len(entry.remarks), "remark")] if entry.remarks else []
        notes += [count(len(entry.others), "other cube")] if entry.others else []
        table.add_row(
            entry.name,
            entry.cube.path.name,
            missing if entry.redshift is None else f"{entry.redshift:.6f}",
            entry.redshift_source,
            missing if entry.ebv is None else f"{entry.ebv:.4f}",
            entry.ebv_source,
            windows[entry.covered],
            ", ".join(notes),
        )
    return table


def _say_next(entries: "Sequence[SurveyEntry]", path: Path) -> None:
    for entry in entries:
        for remark in entry.remarks:
            say(f"{entry.name}: {remark}")
    conclude(f"Wrote {path}")
    unknown = {name: [entry.name for entry in entries if name in entry.unknown] for name in ("redshift", "E(B-V)")}
    for what, names in unknown.items():
        if names:
            say(f"Fill in the {what} of {', '.join(names)}: marked FILL IN, null until then, which is refused")
    for entry in entries:
        if entry.others:
            left_out = ", ".join(repr(other.path.name) for other in entry.others)
            say(f"{entry.name} is run with {entry.cube.path.name!r}; left out, of the same galaxy: {left_out}")
    for command in ("plan", "run"):
        say(f"Then: {shlex.join(['galprote-pipeline', command, str(path)])}")
