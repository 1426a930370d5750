"""The command `compare`: maps beside published ones, a truth, another run, and beside pPXF on the same spectra."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from galprote.model.errors import ConfigError
from galprote.workflows.completion import complete_cube, complete_map, complete_weights
from galprote.workflows.conduct import current_stop, keeps
from galprote.workflows.stop import STOPPED
from galprote.workflows.terminal import Debug, Json, conclude, out, print_json, show

if TYPE_CHECKING:
    from galprote.pipeline.reference_maps import ReferenceOptions
    from galprote.workflows.map_comparison import MapComparison
    from galprote.workflows.refit import Refitter

#: What linear algebra libraries heed when numpy is imported, which no command is before it is asked something.
ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def compare(
    store: Annotated[
        Path,
        typer.Argument(
            metavar="OUT/NAME.zarr", help="Maps of a finished galaxy (also _MAPS.fits).", autocompletion=complete_cube
        ),
    ],
    reference: Annotated[
        Path | None,
        typer.Option(
            help="Maps of PHANGS or nGIST, a mock's truth, another run (.zarr or _MAPS.fits), FITS images.",
            autocompletion=complete_cube,
        ),
    ] = None,
    quantity: Annotated[
        list[str] | None,
        typer.Option(
            help="What to compare, by our name (default: all in both); repeat it.", autocompletion=complete_map
        ),
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="NAME=EXTENSION", help="Which of its maps is which of ours; repeat it."),
    ] = None,
    unit: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=UNIT", help="Unit of the reference's map, such as age_lw=Gyr; repeat it."),
    ] = None,
    r_v: Annotated[float | None, typer.Option("--r-v", help="Of its E(B-V) (default: nGIST 4.05, others 3.1).")] = None,
    ignore_wcs: Annotated[bool, typer.Option("--ignore-wcs", help="Compare pixel by pixel.")] = False,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder (default: OUT/compare/NAME-vs-REFERENCE).")
    ] = None,
    ppxf: Annotated[int, typer.Option(min=0, help="So many spectra are fitted with pPXF, too.")] = 0,
    ppxf_seconds: Annotated[float, typer.Option(min=1.0, help="No fit of pPXF begins after so long.")] = 600.0,
    seed: Annotated[int, typer.Option(help="Of the choice of spectra for pPXF.")] = 1,
    cube: Annotated[
        Path | None,
        typer.Option(help="The cube, for pPXF (default: where the run found it).", autocompletion=complete_cube),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="The weights of the run, for pPXF (default: the shipped ones).", autocompletion=complete_weights
        ),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare maps with published ones, a truth or another run; and with pPXF on some of the spectra.

    Example: galprote-pipeline compare output/NGC4535.zarr --reference NGC4535_MAPS.fits
    """
    if reference is None and not ppxf:
        raise ConfigError("compare: give --reference FILE, or --ppxf N, or both")
    if ppxf:  # threads that wait for each other would count as pPXF's work: four times its time on two cores
        os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    from galprote.pipeline.maps import find_maps
    from galprote.pipeline.reference_maps import ReferenceOptions
    from galprote.workflows.comparison_folder import comparison_folder, writing_into

    store = find_maps(store)
    options = ReferenceOptions(tuple(quantity or ()), _pairs("--map", map_), _pairs("--unit", unit), r_v, ignore_wcs)
    folder = comparison_folder(output, store, reference)
    refitter = _open(store, cube, checkpoint) if ppxf else None  # or say at once what is missing
    found = _compared(store, reference, options) if reference is not None else None
    record: dict[str, Any] = {}
    written: list[Path] = []
    with writing_into(folder):
        if found is not None:
            record, written = _report(found, folder, quiet=as_json)
        if refitter is not None:
            record["ppxf"], more = _ppxf(refitter, found, folder, (ppxf, ppxf_seconds, seed), quiet=as_json)
            written += more
    if as_json:
        print_json(record)
    conclude(f"Wrote {len(written)} files into {folder}: {', '.join(path.name for path in written)}")
    if current_stop().requested:
        raise typer.Exit(STOPPED)


def _compared(store: Path, reference: Path, options: "ReferenceOptions") -> "MapComparison":
    from galprote.workflows.map_comparison import compare_maps

    return compare_maps(store, reference, options)


def _report(found: "MapComparison", folder: Path, *, quiet: bool) -> tuple[dict[str, Any], list[Path]]:
    """Write tables and figures, and show the tables."""
    from galprote.workflows.comparison_figures import draw_comparison
    from galprote.workflows.comparison_folder import clear_comparison
    from galprote.workflows.comparison_report import comparison_dict, comparison_tables, write_tables

    record = comparison_dict(found)
    clear_comparison(folder)
    keeps(f"what was written into {folder} so far is whole")
    written = write_tables(found, record, folder)
    if not quiet:
        for part in comparison_tables(found, out().width):
            show(part)
    for item in found.compared:
        if item.statistics[0].n:
            written.append(folder / f"{item.quantity.name}.png")
            draw_comparison(found, item, written[-1])
    return record, written


def _open(store: Path, cube: Path | None, checkpoint: Path | None) -> "Refitter":
    from galprote.workflows.ppxf_comparison import open_refitter

    return open_refitter(store, cube, checkpoint)


def _ppxf(
    refitter: "Refitter", found: "MapComparison | None", folder: Path, choice: tuple[int, float, int], *, quiet: bool
) -> tuple[dict[str, Any], list[Path]]:
    """Fit some spectra with pPXF, and show how the two compare."""
    from galprote.workflows.ppxf_comparison import fit_both
    from galprote.workflows.ppxf_report import ppxf_dict, ppxf_tables, write_ppxf

    result = fit_both(refitter, *choice, found)
    record = ppxf_dict(result)
    written = write_ppxf(result, record, folder)
    if not quiet:
        for part in ppxf_tables(result):
            show(part)
    return record, written


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    """NAME=VALUE, once for each name."""
    found: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not (name.strip() and equals and value.strip()):
            raise ConfigError(f"{option} {text}: expected NAME=VALUE, such as age_lw={_EXAMPLES[option]}")
        if name.strip() in found:
            raise ConfigError(f"{option}: {name.strip()} is there twice")
        found[name.strip()] = value.strip()
    return found


_EXAMPLES = {"--map": "AGE", "--unit": "Gyr"}
