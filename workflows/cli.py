"""`galprote-pipeline`: from the command line to an exit code.

Exit codes: 0 all done; 1 some galaxies failed or lack chunks, the others are finished; 2 wrong configuration or usage;
3 stopped before the end, the same command goes on; 70 a bug.
"""

import atexit
import gc
import json
import shlex
import sys
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.table import Table

from galprote.model.errors import ConfigError, GalproteError
from galprote.workflows import fit_command, init_command, model_commands
from galprote.workflows.stop import StoppedError, StopRequest, signals_stop
from galprote.workflows.terminal import Debug, console, errors, say

if TYPE_CHECKING:
    from galprote.pipeline.config import SurveyConfig
    from galprote.workflows.logbook import GalaxyResult

app = typer.Typer(
    name="galprote-pipeline",
    help="Maps of stellar age, metallicity and dust from integral-field surveys.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Survey = Annotated[Path, typer.Argument(metavar="SURVEY.yaml", help="The survey: see configs/survey.yaml.")]


Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="local|local-cuda|tcp://...|FILE.yaml",
        help="Where to work instead of what the survey says: a back-end, a scheduler, or a file with the section.",
    ),
]


def _read(survey: Path, cluster: str | None) -> "SurveyConfig":
    """The survey, on another cluster if one is named."""
    from galprote.pipeline.config import choose_cluster, read_survey

    config = read_survey(survey)
    return config if cluster is None else config.model_copy(update={"cluster": choose_cluster(cluster)})


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"galprote {version('galprote')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Maps of stellar age, metallicity and dust from integral-field surveys."""


@app.command()
def run(
    survey: Survey,
    overwrite: Annotated[bool, typer.Option(help="Replace products that were made with other settings.")] = False,
    cluster: Cluster = None,
    debug: Debug = False,
) -> None:
    """Map every galaxy of a survey.

    What is finished is never computed twice: run the same command again after an interruption.
    """
    stop = StopRequest()
    with signals_stop(stop, say):  # from now on: what is imported takes its time
        _run(survey, cluster, stop, overwrite=overwrite, debug=debug)


def _run(survey: Path, cluster: str | None, stop: StopRequest, *, overwrite: bool, debug: bool) -> None:
    from galprote.workflows.forking import can_fork, start_server

    atexit.register(gc.freeze)  # or Python would look through a million objects for garbage before it ends: 0.8 s
    config = _read(survey, cluster)
    if can_fork(config):  # what the workers need is imported while this process imports what it needs itself
        start_server()

    gc.disable()  # imports make no garbage, and looking for it takes a fifth of their time
    from galprote.workflows.progress import make_progress
    from galprote.workflows.survey import run_survey

    gc.enable()
    choice = str(Path(cluster).resolve()) if cluster and Path(cluster).is_file() else cluster
    words = ["galprote-pipeline", "run", str(survey.resolve()), *(["--overwrite"] if overwrite else [])]
    words += ["--cluster", choice] if choice else []
    command = shlex.join(words)
    try:
        # Once more: dask_jobqueue takes SIGINT for itself when it is imported.
        with signals_stop(stop, say), make_progress(console) as progress:
            results = run_survey(config, progress, overwrite=overwrite, command=command, stop=stop)
    except KeyboardInterrupt:  # the third signal
        errors.print(f"Interrupted. What is finished is kept. To go on:\n  {command}", markup=False, soft_wrap=True)
        raise typer.Exit(3) from None
    except StoppedError as stopped:
        _show_results(config, stopped.results, debug=debug)
        errors.print(f"{stopped}. To go on:\n  {command}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(3) from None
    _show_results(config, results, debug=debug)
    say(f"Products: {config.output}")
    raise typer.Exit(1 if any(result.outcome in ("failed", "incomplete") for result in results) else 0)


def _show_results(config: "SurveyConfig", results: list["GalaxyResult"], *, debug: bool) -> None:
    from galprote.workflows.reporting import results_table, truth_tables

    for table in truth_tables(config, results):
        console.print(table)
    console.print(results_table(results))
    if debug:
        for result in results:
            if result.details:
                errors.print(f"{result.name}:\n{result.details}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def status(
    output: Annotated[Path, typer.Argument(metavar="OUTDIR", help="The output folder of a survey.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Show how far a survey is, from any shell, also while it runs elsewhere."""
    from galprote.workflows.status import read_status, status_tables

    found = read_status(output)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
    else:
        for part in status_tables(found):
            console.print(part, soft_wrap=True)


@app.command()
def plan(
    survey: Survey,
    cluster: Cluster = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Show what a run would do: galaxies, shapes, channels, chunks, memory, products. Nothing is computed.

    Works without the cubes: it then says which are missing and where it looked.
    """
    from galprote.workflows.planning import plan_survey
    from galprote.workflows.reporting import plan_dict, plan_table

    config = _read(survey, cluster)
    plans = plan_survey(config)
    if as_json:
        typer.echo(json.dumps(plan_dict(config, plans), indent=1))
    else:
        for part in plan_table(config, plans):
            console.print(part, soft_wrap=True)


@app.command()
def inspect(
    cube: Annotated[Path, typer.Argument(metavar="CUBE.fits", help="A data cube.")],
    sample: Annotated[
        int | None, typer.Option(help="Read only about this many evenly spread slabs of rows (default: all).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Show what a cube holds: HDUs, units, wavelength axis, missing bands, bad variances, empty spaxels."""
    from galprote.pipeline.inspection import inspect_cube
    from galprote.pipeline.inspection_text import report_lines

    report = inspect_cube(cube, sample=sample)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=1))
        return
    table = Table(show_header=False, box=None)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in report_lines(report):
        table.add_row(label, value)
    console.print(table)


@app.command()
def mock(
    output: Annotated[Path, typer.Argument(metavar="CUBE.fits", help="The cube to make.")],
    ny: Annotated[int, typer.Option(min=8, help="Rows.")] = 100,
    nx: Annotated[int, typer.Option(min=8, help="Columns.")] = 100,
    redshift: Annotated[float, typer.Option(min=0.0, max=0.1, help="Barycentric redshift.")] = 0.008,
    ebv: Annotated[float, typer.Option(min=0.0, help="Foreground E(B-V).")] = 0.03,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 1,
    peak_snr: Annotated[float, typer.Option(help="Signal-to-noise ratio per channel at the centre.")] = 40.0,
    rotation: Annotated[float, typer.Option(help="Projected amplitude of the rotation, km/s.")] = 60.0,
    red_end: Annotated[
        float | None, typer.Option(help="Last wavelength, A (default: 7400 or the window's end).")
    ] = None,
    ao_notch: Annotated[bool, typer.Option(help="Leave out 5806-5964 A, as adaptive optics does.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace a file that exists.")] = False,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint with the templates (default: shipped).")] = None,
    debug: Debug = False,
) -> None:
    """Make a synthetic MUSE cube of a spiral galaxy, and its true maps in CUBE_TRUTH.fits."""
    from pydantic import ValidationError

    from galprote.model.checkpoint import load_checkpoint
    from galprote.pipeline.mock import MockConfig, make_mock, truth_path

    if output.exists() and not overwrite:
        raise ConfigError(f"{output} exists; choose another name, or add --overwrite")
    if not output.parent.is_dir():
        raise ConfigError(f"{output.parent}: no such folder")

    try:
        config = MockConfig(
            shape=(ny, nx),
            redshift=redshift,
            ebv=ebv,
            seed=seed,
            peak_snr=peak_snr,
            rotation_kms=rotation,
            wavelength_last_A=red_end or max(7400.0, 7110.0 * (1 + redshift) * (1 + rotation / 2.9e5)),
            ao_notch=ao_notch,
        )
    except ValidationError as error:
        raise ConfigError("\n".join(f"mock: {item['msg']}" for item in error.errors())) from error
    path = make_mock(config, output, load_checkpoint(checkpoint).decoder)
    say(f"Wrote {path} and {truth_path(path)}")


for _command in (
    init_command.init,
    fit_command.fit,
    model_commands.train,
    model_commands.appraise,
    model_commands.evaluate,
    model_commands.card,
):
    app.command()(_command)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Errors that galprote raises on purpose, and those of the file system, are printed as they are; the traceback is for
    `--debug`.
    """
    words = sys.argv[1:] if arguments is None else arguments
    try:
        app(words)
    except (GalproteError, OSError) as error:
        if "--debug" in words:
            traceback.print_exception(error)
        errors.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except Exception as error:
        if "--debug" in words:
            raise
        advice = "This is a bug in galprote: please report it with what --debug shows."
        errors.print(
            f"unexpected {type(error).__name__}: {error}\n{advice}",
            style="red",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        sys.exit(70)
    raise AssertionError("typer always exits")
