"""Commands about the model: train, appraise, evaluate, card."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from galprote.model.errors import ConfigError
from galprote.workflows.completion import SUITES, complete_suite, complete_weights, complete_yaml
from galprote.workflows.conduct import keeps
from galprote.workflows.preloading import preload_torch
from galprote.workflows.terminal import Debug, Json, complain, conclude, plain, print_json, say, show, voice

if TYPE_CHECKING:
    from galprote.model.statistics import SuiteResult
    from galprote.model.training_config import TrainingConfig
    from galprote.model.training_log import Progress

Checkpoint = Annotated[
    Path | None, typer.Argument(help="A checkpoint (default: the shipped one).", autocompletion=complete_weights)
]


def train(
    config: Annotated[
        Path, typer.Argument(metavar="TRAINING.yaml", help="See configs/train/.", autocompletion=complete_yaml)
    ],
    library: Annotated[Path | None, typer.Option(help="Template library, in place of the YAML's.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for the results, in place of the YAML's.")] = None,
    start_from: Annotated[
        Path | None, typer.Option(help="Checkpoint to begin with (fine-tuning), or: shipped.")
    ] = None,
    without: Annotated[list[str] | None, typer.Option(help="Ingredient of the stream to leave out.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a model; run the same command again to go on after an interruption.

    Example: galprote-pipeline train configs/train/instrument.yaml --library /path/to/E-MILES
    """
    preload_torch()
    from galprote.model.predictor import resolve_device
    from galprote.model.training import Trainer
    from galprote.model.training_config import read_training_config

    settings = read_training_config(
        config, library=library, output=output, without=without or (), start_from=start_from
    )
    trainer = Trainer(settings, resolve_device(device))
    if trainer.new_weights:
        say(f"Not in {settings.start_from}, or of another shape, and so begun anew: {', '.join(trainer.new_weights)}")

    keeps("at most the last minute is lost", goes_on=True)
    begins = "Going on from the last state" if trainer.state_path.exists() else "Beginning"
    say(
        f"{begins}: {settings.steps} steps of {settings.batch} spectra, in {settings.output}; "
        f"a line after every {settings.validate_every}"
    )
    last: list[Any] = []

    def report(progress: "Progress") -> None:
        last[:] = [progress]
        say(_progress_words(progress, settings))

    path = trainer.run(report, say)
    if as_json:
        print_json(
            {
                "checkpoint": path,
                "step": trainer.step,
                "steps": settings.steps,
                "spectra_per_second": last[0].spectra_per_second if last else None,
                "metrics": last[0].metrics if last else {},
            }
        )
    conclude(f"Checkpoint: {path}")


def _progress_words(progress: "Progress", settings: "TrainingConfig") -> str:
    alone = settings.block_steps is not None and progress.step < settings.block_steps
    shown = ("log_age_rms", "metallicity_rms", "av_rms")
    values = "  ".join(f"{name} {progress.metrics[name]:.3f}" for name in shown)
    left = (progress.steps - progress.step) * settings.batch / progress.spectra_per_second
    return (
        f"step {progress.step}/{progress.steps}  {values}  {progress.spectra_per_second:.0f} spectra/s  "
        f"{left / 60:.0f} min left" + ("  (blocks alone)" if alone else "")
    )


def appraise(
    recipe: Annotated[
        Path,
        typer.Argument(metavar="TRAINING.yaml", help="Its section `appraisal` is used.", autocompletion=complete_yaml),
    ],
    output: Annotated[Path, typer.Option(help="The checkpoint to write.")],
    checkpoint: Annotated[Path | None, typer.Option(help="The network (default: the shipped one).")] = None,
    stars: Annotated[Path | None, typer.Option(help="Library of stars, in place of the YAML's.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Teach a trained network its errors and its limits anew; run the same command again after an interruption.

    Example: galprote-pipeline appraise configs/train/survey.yaml --output new.safetensors
    """
    preload_torch()
    from galprote.model.appraisal_training import appraised_checkpoint
    from galprote.model.checkpoint import load_checkpoint
    from galprote.model.predictor import resolve_device
    from galprote.model.training_config import read_appraisal_recipe

    settings, began = read_appraisal_recipe(recipe, stars=stars), time.perf_counter()
    loaded = load_checkpoint(checkpoint)
    keeps("at most the last shard of spectra is lost", goes_on=True)
    appraised_checkpoint(loaded, settings, output, resolve_device(device), say)
    if as_json:
        print_json({"checkpoint": output, "seconds": round(time.perf_counter() - began, 1)})
    conclude(f"Checkpoint: {output}")


def evaluate(
    checkpoint: Checkpoint = None,
    suite: Annotated[
        str,
        typer.Option(help=f"{', '.join(SUITES[:-1])}, or all.", autocompletion=complete_suite),
    ] = "all",
    output: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Write the results to this file, after every suite.")
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Write a figure of each suite into this folder.")] = None,
    library: Annotated[
        Path | None,
        typer.Option(help="Template library that the network was not trained on, for the suites library and coverage."),
    ] = None,
    stars: Annotated[Path | None, typer.Option(help="Library of stars, for the suite anomalies.")] = None,
    limit: Annotated[int | None, typer.Option(min=64, help="Use only so many spectra in each case.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure a checkpoint: errors of age, metallicity and A_V, and what makes them grow. See docs/evaluation.md.

    Example: galprote-pipeline evaluate --suite paper --output results.json --plots figures/
    """
    _check_targets(checkpoint, output, plots)
    preload_torch()
    from galprote.model.checkpoint import load_checkpoint
    from galprote.model.evaluation import evaluate_suites, results_dict
    from galprote.model.predictor import Predictor, resolve_device
    from galprote.workflows.evaluation_figures import write_figures
    from galprote.workflows.reporting import evaluation_tables

    predictor = Predictor(load_checkpoint(checkpoint), resolve_device(device))
    done: dict[str, Any] = {}

    def report(name: str, seconds: float, result: "SuiteResult") -> None:
        done[name] = result
        if not voice.quiet:
            complain(f"{name}: {seconds:.0f} s")
        for table in evaluation_tables({name: result}):
            show(table)
        if output is not None:
            output.write_text(json.dumps(plain(results_dict(done, predictor)), indent=1) + "\n")
            keeps(f"{output} has the suites that are done")

    results = evaluate_suites(predictor, suite, library=library, stars=stars, limit=limit, report=report)
    for result in results.values():
        for remark in result.remarks:
            say(remark)
    found = plain(results_dict(results, predictor))
    if output is not None:
        output.write_text(json.dumps(found, indent=1) + "\n")
    if plots is not None:
        for path in write_figures(results, plots):
            say(f"Figure: {path}")
    if as_json:
        print_json(found)
    elif voice.quiet:
        conclude(f"Measured: {', '.join(results)}")


def _check_targets(checkpoint: Path | None, output: Path | None, plots: Path | None) -> None:
    """Refuse names of files that cannot be written, before anything is measured."""
    if checkpoint is not None and checkpoint.suffix == ".json":
        raise ConfigError(f"{checkpoint}: no checkpoint; --json prints, --output {checkpoint} writes the results")
    if output is not None and not output.parent.is_dir():
        raise ConfigError(f"--output {output}: {output.parent}: no such folder")
    if output is not None and output.is_dir():
        raise ConfigError(f"--output {output}: is a folder; name a file")
    if plots is not None and plots.exists() and not plots.is_dir():
        raise ConfigError(f"--plots {plots}: is a file; name a folder")


def card(
    checkpoint: Checkpoint = None,
    results: Annotated[Path | None, typer.Option(help="What `evaluate --suite all --output` wrote for it.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the card to this file, not to the terminal.")] = None,
    embed: Annotated[Path | None, typer.Option(help="Write a copy of the checkpoint that contains the card.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Describe a checkpoint: what it is, what it learned from, what it reaches, what it is not for.

    Example: galprote-pipeline card --output card.md
    """
    preload_torch()
    from galprote.model.card import model_card, read_results
    from galprote.model.checkpoint import add_to_metadata, default_checkpoint, load_checkpoint

    loaded = load_checkpoint(checkpoint)
    if results is None:
        text = str(loaded.metadata.get("card") or model_card(loaded))
    else:
        text = model_card(loaded, read_results(results, loaded))
    if output is not None:
        output.write_text(text)
    if embed is not None:
        add_to_metadata(checkpoint or default_checkpoint(), embed, card=text)
    if as_json:
        hashes = {"sha256": loaded.sha256, "weights_sha256": loaded.weights_sha256}
        about = {key: value for key, value in loaded.metadata.items() if key != "card"}
        print_json({"checkpoint": checkpoint or default_checkpoint()} | hashes | {"card": text, "about": about})
    elif output is None:
        conclude(text.rstrip())
    else:
        conclude(f"Wrote {output}")
