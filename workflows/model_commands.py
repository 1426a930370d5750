"""Commands about the model: train, appraise, evaluate, card."""

import json
from pathlib import Path
from typing import Annotated

import typer

from galprote.model.errors import ConfigError
from galprote.workflows.terminal import Debug, console, errors, say


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
    from galprote.model.training import Trainer
    from galprote.model.training_config import read_training_config
    from galprote.model.training_log import Progress

    settings = read_training_config(
        config, library=library, output=output, without=without or (), start_from=start_from
    )
    trainer = Trainer(settings, resolve_device(device))
    if trainer.new_weights:
        say(f"Not in {settings.start_from}, or of another shape, and so begun anew: {', '.join(trainer.new_weights)}")

    begins = "Going on from the last state" if trainer.state_path.exists() else "Beginning"
    say(
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
        path = trainer.run(report, say)
    except KeyboardInterrupt:
        errors.print("Interrupted. At most the last minute is lost: run the same command again to go on.")
        raise typer.Exit(130) from None
    say(f"Checkpoint: {path}")


def appraise(
    recipe: Annotated[Path, typer.Argument(metavar="TRAINING.yaml", help="Its section `appraisal` is used.")],
    output: Annotated[Path, typer.Option(help="The checkpoint to write.")],
    checkpoint: Annotated[Path | None, typer.Option(help="The network (default: the shipped one).")] = None,
    stars: Annotated[Path | None, typer.Option(help="Library of stars, in place of the YAML's.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    debug: Debug = False,
) -> None:
    """Teach a trained network its errors and its limits anew; run the same command again after an interruption."""
    from galprote.model.appraisal_training import appraised_checkpoint
    from galprote.model.checkpoint import load_checkpoint
    from galprote.model.predictor import resolve_device
    from galprote.model.training_config import read_appraisal_recipe

    settings = read_appraisal_recipe(recipe, stars=stars)
    try:
        appraised_checkpoint(load_checkpoint(checkpoint), settings, output, resolve_device(device), say)
    except KeyboardInterrupt:
        errors.print("Interrupted. At most the last shard is lost: run the same command again to go on.")
        raise typer.Exit(130) from None
    say(f"Checkpoint: {output}")


def evaluate(
    checkpoint: Annotated[Path | None, typer.Argument(help="A checkpoint (default: the shipped one).")] = None,
    suite: Annotated[
        str,
        typer.Option(
            help="paper, survey, library, dispersion, velocity, artefacts, fits, coverage, anomalies, or all."
        ),
    ] = "all",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Write a figure of each suite into this folder.")] = None,
    library: Annotated[
        Path | None,
        typer.Option(help="Template library that the network was not trained on, for the suites library and coverage."),
    ] = None,
    stars: Annotated[Path | None, typer.Option(help="Library of stars, for the suite anomalies.")] = None,
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

    results = evaluate_suites(predictor, suite, library=library, stars=stars, limit=limit, report=report)
    for result in results.values():
        for remark in result.remarks:
            say(remark)
    if json_file is not None:
        json_file.write_text(json.dumps(results_dict(results, predictor), indent=1) + "\n")
    if plots is not None:
        for path in write_figures(results, plots):
            say(f"Figure: {path}")


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
        say(text.rstrip())
    else:
        output.write_text(text)
    if embed is not None:
        add_to_metadata(checkpoint or default_checkpoint(), embed, card=text)
