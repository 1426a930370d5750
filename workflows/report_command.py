"""`galprote-pipeline report`: the report of an output folder, made or made again."""

from pathlib import Path
from typing import Annotated

import typer

from galprote.workflows.completion import complete_output, complete_weights
from galprote.workflows.conduct import keeps
from galprote.workflows.terminal import Debug, Json, conclude, print_json, say


def report(
    output: Annotated[
        Path,
        typer.Argument(metavar="OUTDIR", help="The output folder of a survey.", autocompletion=complete_output),
    ],
    missing: Annotated[bool, typer.Option("--missing", help="Only pages that are not there yet.")] = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="The weights that the maps were made with (default: the shipped ones).",
            autocompletion=complete_weights,
        ),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make the HTML report of a survey's products, or make it again.

    The cubes, for the spectra of three spaxels a galaxy, are looked for where the last run found them. Exit code 1:
    some page could not be made.

    Example: galprote-pipeline report output
    """
    from galprote.model.errors import GalproteError
    from galprote.workflows.failures import describe
    from galprote.workflows.lock import sole_run
    from galprote.workflows.report.files import page_file, refuse_in_the_way
    from galprote.workflows.report.finishing import finish_report
    from galprote.workflows.report.page_task import write_galaxy_page
    from galprote.workflows.report.records import read_records

    galaxies = read_records(output).galaxies
    refuse_in_the_way(output, [galaxy.name for galaxy in galaxies])
    keeps("finished pages are kept", goes_on=True)
    made: dict[str, str] = {}
    failed: dict[str, str] = {}
    with sole_run(output, say):
        for galaxy in galaxies:
            if not (galaxy.needs_page if missing else galaxy.finished):
                continue
            try:
                size = write_galaxy_page(output, galaxy.name, galaxy.cube, checkpoint)
            except (GalproteError, OSError) as error:
                failed[galaxy.name] = describe(error)
                say(f"{galaxy.name}: no page: {failed[galaxy.name]}")
            else:
                made[galaxy.name] = str(page_file(output, galaxy.name))
                say(f"{galaxy.name}: {size / 1e6:.1f} MB")
        index = finish_report(output)
    if as_json:
        print_json({"index": str(index), "pages": made, "failed": failed})
    conclude(f"Report: {index}")
    if failed:
        raise typer.Exit(1)
