"""`galprote-pipeline`: from the command line to an exit code.

Exit codes: 0 all done; 1 some galaxies failed, the others are finished; 2 wrong configuration or usage; 70 a bug; 130
interrupted.
"""

import json
import os
import sys
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn, TextIO

import typer
from rich.console import Console
from rich.table import Table

from galprote.model.errors import ConfigError, GalproteError

app = typer.Typer(
    name="galprote-pipeline",
    help="Maps of stellar age, metallicity and dust from integral-field surveys.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

#: Columns where nobody looks: a log file or a pipe gets tables that are not squeezed to 80.
PLAIN_WIDTH = 160


def _console(stream: TextIO, *, stderr: bool = False) -> Console:
    chosen = stream.isatty() or "COLUMNS" in os.environ
    return Console(stderr=stderr, width=None if chosen else PLAIN_WIDTH)


console = _console(sys.stdout)
errors = _console(sys.stderr, stderr=True)

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Survey = Annotated[Path, typer.Argument(metavar="SURVEY.yaml", help="The survey: see configs/survey.yaml.")]


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
    debug: Debug = False,
) -> None:
    """Map every galaxy of a survey.

    What is finished is never computed twice: run the same command again after an interruption.
    """
    from galprote.pipeline.config import read_survey
    from galprote.workflows.progress import make_progress
    from galprote.workflows.reporting import results_table, truth_tables
    from galprote.workflows.survey import run_survey

    config = read_survey(survey)
    try:
        with make_progress(console) as progress:
            results = run_survey(config, progress, overwrite=overwrite)
    except KeyboardInterrupt:
        errors.print("Interrupted. What is finished is kept: run the same command again to go on.")
        raise typer.Exit(130) from None
    for table in truth_tables(config, results):
        console.print(table)
    console.print(results_table(results))
    failed = [result for result in results if result.outcome == "failed"]
    if debug:
        for result in failed:
            errors.print(f"{result.name}:\n{result.details}", markup=False, highlight=False, soft_wrap=True)
    _say(f"Products: {config.output}")
    raise typer.Exit(1 if failed else 0)


@app.command()
def plan(
    survey: Survey,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Show what a run would do: galaxies, shapes, channels, chunks, memory, products. Nothing is computed.

    Works without the cubes: it then says which are missing and where it looked.
    """
    from galprote.pipeline.config import read_survey
    from galprote.workflows.planning import plan_survey
    from galprote.workflows.reporting import plan_dict, plan_table

    config = read_survey(survey)
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
    from galprote.pipeline.inspection import inspect_cube, report_lines

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
    _say(f"Wrote {path} and {truth_path(path)}")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(metavar="TRAINING.yaml", help="See configs/train/.")],
    library: Annotated[Path | None, typer.Option(help="Template library, in place of the YAML's.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for the results, in place of the YAML's.")] = None,
    start_from: Annotated[
        Path | None, typer.Option(help="Checkpoint to begin with (fine-tuning), or: shipped.")
    ] = None,
    without: Annotated[list[str] | None, typer.Option(help="Ingredient of the stream to leave out.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    debug: Debug = False,
) -> None:
    """Train a model; run the same command again to go on after an interruption."""
    from galprote.model.predictor import resolve_device
    from galprote.model.training import Progress, Trainer
    from galprote.model.training_config import read_training_config

    settings = read_training_config(
        config, library=library, output=output, without=without or (), start_from=start_from
    )
    trainer = Trainer(settings, resolve_device(device))
    if trainer.new_weights:
        _say(f"Not in {settings.start_from}, or of another shape, and so begun anew: {', '.join(trainer.new_weights)}")

    begins = "Going on from the last state" if trainer.state_path.exists() else "Beginning"
    _say(
        f"{begins}: {settings.steps} steps of {settings.batch} spectra, in {settings.output}; "
        f"a line after every {settings.validate_every}"
    )

    def report(progress: Progress) -> None:
        alone = settings.block_steps is not None and progress.step < settings.block_steps
        shown = ("log_age_rms", "metallicity_rms", "av_rms")
        values = "  ".join(f"{name} {progress.metrics[name]:.3f}" for name in shown)
        left = (progress.steps - progress.step) * settings.batch / progress.spectra_per_second
        console.print(
            f"step {progress.step}/{progress.steps}  {values}  {progress.spectra_per_second:.0f} spectra/s  "
            f"{left / 60:.0f} min left" + ("  (blocks alone)" if alone else ""),
            soft_wrap=True,
        )

    try:
        path = trainer.run(report)
    except KeyboardInterrupt:
        errors.print("Interrupted. At most the last minute is lost: run the same command again to go on.")
        raise typer.Exit(130) from None
    _say(f"Checkpoint: {path}")


@app.command()
def evaluate(
    checkpoint: Annotated[Path | None, typer.Argument(help="A checkpoint (default: the shipped one).")] = None,
    suite: Annotated[
        str, typer.Option(help="paper, survey, library, dispersion, velocity, artefacts, fits, or all.")
    ] = "all",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Write a figure of each suite into this folder.")] = None,
    library: Annotated[
        Path | None, typer.Option(help="Template library that the network was not trained on, for the suite library.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=64, help="Use only so many spectra in each case.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    debug: Debug = False,
) -> None:
    """Measure a checkpoint: errors of age, metallicity and A_V, and what makes them grow. See docs/evaluation.md."""
    from galprote.model.checkpoint import load_checkpoint
    from galprote.model.evaluation import evaluate_suites, results_dict
    from galprote.model.predictor import Predictor, resolve_device
    from galprote.model.statistics import SuiteResult
    from galprote.workflows.evaluation_figures import write_figures
    from galprote.workflows.reporting import evaluation_tables

    if json_file is not None and not json_file.parent.is_dir():
        raise ConfigError(f"--json {json_file}: {json_file.parent}: no such folder")
    if json_file is not None and json_file.is_dir():
        raise ConfigError(f"--json {json_file}: is a folder; name a file")
    if plots is not None and plots.exists() and not plots.is_dir():
        raise ConfigError(f"--plots {plots}: is a file; name a folder")
    predictor = Predictor(load_checkpoint(checkpoint), resolve_device(device))
    done: dict[str, SuiteResult] = {}

    def report(name: str, seconds: float, result: SuiteResult) -> None:
        done[name] = result
        errors.print(f"{name}: {seconds:.0f} s", highlight=False)
        for table in evaluation_tables({name: result}):
            console.print(table)
        if json_file is not None:
            json_file.write_text(json.dumps(results_dict(done, predictor), indent=1) + "\n")

    results = evaluate_suites(predictor, suite, library=library, limit=limit, report=report)
    for result in results.values():
        for remark in result.remarks:
            _say(remark)
    if json_file is not None:
        json_file.write_text(json.dumps(results_dict(results, predictor), indent=1) + "\n")
    if plots is not None:
        for path in write_figures(results, plots):
            _say(f"Figure: {path}")


@app.command()
def card(
    checkpoint: Annotated[Path | None, typer.Argument(help="A checkpoint (default: the shipped one).")] = None,
    results: Annotated[Path | None, typer.Option(help="What `evaluate --suite all --json` wrote for it.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the card to this file, not to the terminal.")] = None,
    embed: Annotated[Path | None, typer.Option(help="Write a copy of the checkpoint that contains the card.")] = None,
    debug: Debug = False,
) -> None:
    """Describe a checkpoint: what it is, what it learned from, what it reaches, what it is not for."""
    from galprote.model.card import model_card, read_results
    from galprote.model.checkpoint import add_to_metadata, default_checkpoint, load_checkpoint

    loaded = load_checkpoint(checkpoint)
    if results is None:
        text = str(loaded.metadata.get("card") or model_card(loaded))
    else:
        text = model_card(loaded, read_results(results, loaded))
    if output is None:
        _say(text.rstrip())
    else:
        output.write_text(text)
    if embed is not None:
        add_to_metadata(checkpoint or default_checkpoint(), embed, card=text)


def _say(text: str) -> None:
    """Print a line as it is: brackets in a path are no markup."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


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
