"""`galprote-pipeline report`: the report of an output folder, made or made again."""

from dataclasses import asdict, dataclass, field
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
    if checkpoint is not None:
        _refuse_other_weights(output, galaxies, checkpoint)
    keeps("finished pages are kept", goes_on=True)
    wanted = [galaxy for galaxy in galaxies if (galaxy.needs_page if missing else galaxy.finished)]
    became = _Became()
    index: Path | None = None
    try:
        with sole_run(output, say):
            _make_pages(output, wanted, checkpoint, became)
            index = finish_report(output)
    except Exception as error:
        if not is_disk_full(error):
            raise
        complain(f"{output}: {_full_words(error)}{current_stop().resume_words()}")
    if as_json:
        print_json({"index": index} | asdict(became))
    if index is None:
        raise typer.Exit(STOPPED)
    conclude(f"Report: {index}")
    if became.failed:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Became:
    """What became of pages, by galaxy: files that were made, and why some have no fits, were kept, or failed."""

    pages: dict[str, str] = field(default_factory=dict)
    without_fits: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def _refuse_other_weights(output: Path, galaxies: "list[GalaxyRecord]", checkpoint: Path) -> None:
    """Refuse a file that is no checkpoint, or that made none of the galaxies.

    Raises
    ------
    CheckpointError
    """
    from galprote.model.checkpoint import load_checkpoint
    from galprote.model.errors import CheckpointError
    from galprote.pipeline.store import GalaxyStore

    found = load_checkpoint(checkpoint).sha256
    records = [GalaxyStore(output, galaxy.name).finished_provenance() for galaxy in galaxies if galaxy.finished]
    made = {str(record["checkpoint_sha256"]) for record in records if record}
    if made and found not in made:
        others = ", ".join(sorted(weights[:8] for weights in made))
        raise CheckpointError(
            f"{checkpoint}: the galaxies in {output} were made with other weights ({others}, not {found[:8]}): name "
            "those"
        )


def _make_pages(
    output: Path,
    galaxies: "list[GalaxyRecord]",
    checkpoint: Path | None,
    became: _Became,
) -> None:
    """Make galaxies' pages, one after the other; one that cannot be made costs a line, a full disk ends it."""
    from galprote.workflows.failures import describe
    from galprote.workflows.report.files import page_file
    from galprote.workflows.report.page_task import write_galaxy_page

    for galaxy in galaxies:
        try:
            result = write_galaxy_page(output, galaxy.name, galaxy.cube, checkpoint)
        except Exception as error:
            if is_disk_full(error):
                raise
            became.failed[galaxy.name] = describe(error)
            say(f"{galaxy.name}: no page: {became.failed[galaxy.name]}")
            continue
        why = result.fits_missing
        if result.kept:
            became.kept[galaxy.name] = why
            say(f"{galaxy.name}: the page is kept: a new one would have no fits: {why}")
            continue
        became.pages[galaxy.name] = str(page_file(output, galaxy.name))
        if why:
            became.without_fits[galaxy.name] = why
        say(f"{galaxy.name}: {result.bytes / 1e6:.1f} MB{f', without fits: {why}' if why else ''}")


def _full_words(error: Exception) -> str:
    where = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
    return f"no space left on the disk{where}; finished pages are kept. Make room, then run the same command again"
