"""`galprote-pipeline report`: the report of an output folder, made or made again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from galprote.workflows.completion import complete_output, complete_weights
from galprote.workflows.conduct import current_stop, keeps
from galprote.workflows.stop import STOPPED, is_disk_full
from galprote.workflows.terminal import Debug, Json, complain, conclude, print_json, say

if TYPE_CHECKING:
    from galprote.workflows.report.records import GalaxyRecord


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
    some page could not be made; 3: stopped, by a full disk for example.

    Example: galprote-pipeline report output
    """
    from galprote.workflows.lock import sole_run
    from galprote.workflows.report.files import refuse_in_the_way
    from galprote.workflows.report.finishing import finish_report
    from galprote.workflows.report.records import read_records

    galaxies = read_records(output).galaxies
    refuse_in_the_way(output, [galaxy.name for galaxy in galaxies])
    keeps("finished pages are kept", goes_on=True)
    wanted = [galaxy for galaxy in galaxies if (galaxy.needs_page if missing else galaxy.finished)]
    made: dict[str, str] = {}
    failed: dict[str, str] = {}
    index: Path | None = None
    try:
        with sole_run(output, say):
            _make_pages(output, wanted, checkpoint, made, failed)
            index = finish_report(output)
    except Exception as error:
        if not is_disk_full(error):
            raise
        complain(f"{output}: {_full_words(error)}{current_stop().resume_words()}")
    if as_json:
        print_json({"index": index, "pages": made, "failed": failed})
    if index is None:
        raise typer.Exit(STOPPED)
    conclude(f"Report: {index}")
    if failed:
        raise typer.Exit(1)


def _make_pages(
    output: Path,
    galaxies: "list[GalaxyRecord]",
    checkpoint: Path | None,
    made: dict[str, str],
    failed: dict[str, str],
) -> None:
    """Make galaxies' pages, one after the other; one that cannot be made costs a line, a full disk ends it."""
    from galprote.workflows.failures import describe
    from galprote.workflows.report.files import page_file
    from galprote.workflows.report.page_task import write_galaxy_page

    for galaxy in galaxies:
        try:
            size = write_galaxy_page(output, galaxy.name, galaxy.cube, checkpoint)
        except Exception as error:
            if is_disk_full(error):
                raise
            failed[galaxy.name] = describe(error)
            say(f"{galaxy.name}: no page: {failed[galaxy.name]}")
        else:
            made[galaxy.name] = str(page_file(output, galaxy.name))
            say(f"{galaxy.name}: {size / 1e6:.1f} MB")


def _full_words(error: Exception) -> str:
    where = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
    return f"no space left on the disk{where}; finished pages are kept. Make room, then run the same command again"
