"""What each part of the recipe buys: many short trainings that differ in one thing, measured alike.

    python benchmarks/variants.py train STUDY --library LIBRARY --blocks CHECKPOINT --output benchmarks/STUDY.json
    python benchmarks/variants.py show benchmarks/STUDY.json

Studies: `curve`, `ingredients`, `design`. Each variant takes the blocks of CHECKPOINT as they are and trains refining
stages behind them with few steps, by `configs/train/survey.yaml`. The output is written after each variant; what it
holds is not made again.

    python benchmarks/variants.py readout PLAIN_CHECKPOINT

measures a network without stages with A_V as the mean over its classes and as the most probable class.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import torch
import typer
from torch.utils.flop_counter import FlopCounterMode

from galprote.model.bench import Bench
from galprote.model.checkpoint import Checkpoint, load_checkpoint
from galprote.model.evaluation import SUITES
from galprote.model.libraries import library_sha256
from galprote.model.predictor import Predictor
from galprote.model.statistics import QUANTITIES
from galprote.model.stream import INGREDIENTS
from galprote.model.training import Trainer
from galprote.model.training_config import TrainingConfig, read_training_config

RECIPE: Final = Path(__file__).parents[1] / "configs" / "train" / "survey.yaml"
MEASURED: Final = ("paper", "survey", "dispersion", "velocity", "artefacts")
#: Stages of the trainings that are compared: smaller than the shipped ones, so that there can be many.
SMALL: Final[dict[str, Any]] = {"stages": 3, "hidden": 256, "memory": 128}
STEPS: Final = {"curve": 250, "ingredients": 200, "design": 200}
SPECTRA: Final = {"curve": 2048, "ingredients": 1024, "design": 1024}
READOUT_SPECTRA: Final = 8192

Change = dict[str, dict[str, Any]]
"""Of the recipe's sections `refinement`, `stream`, `loss`, `model`."""

CURVE: Final[dict[str, Change]] = {
    f"{stages} x {hidden}": {"refinement": {"stages": stages, "hidden": hidden, "memory": hidden // 2}}
    for stages, hidden in ((1, 512), (2, 512), (3, 256), (3, 512), (3, 1024), (6, 256), (6, 512), (10, 256))
}

DESIGN: Final[dict[str, Change]] = {
    "as it is": {},
    "one stage": {"refinement": {"stages": 1}},
    "shared weights": {"refinement": {"shared": True}},
    "no memory": {"refinement": {"memory": 0}},
    "blocks untrained": {"start": {"blocks": False}},
    "loss: no ranked score": {"loss": {"ranked": 0.0}},
    "loss: no moments": {"loss": {"moments": 0.0}},
    "loss: last stage only": {"loss": {"early_stages": 0.0}},
    "loss: all S/N alike": {"loss": {"noise_weight": 0.0}},
}

#: The test in which an ingredient should show: suite, case.
OWN_TEST: Final = {
    "paper": ("paper", "blind"),
    "quiet": ("dispersion", "sigma_0"),
    "smooth": ("survey", "smooth"),
    "bursts": ("survey", "snr_100"),
    "flat": ("dispersion", "sigma_0"),
    "dusty": ("survey", "snr_35"),
    "dispersion": ("dispersion", "sigma_200"),
    "velocity": ("velocity", "velocity_+100"),
    "coloured_noise": ("survey", "snr_35"),
    "misjudged_noise": ("survey", "snr_35"),
    "calibration": ("artefacts", "tilt_red_told"),
    "sky": ("artefacts", "sky"),
    "emission": ("artefacts", "emission"),
    "notch": ("artefacts", "ao_notch"),
    "gaps": ("artefacts", "ao_notch"),
    "patches": ("survey", "snr_35"),
}

app = typer.Typer(add_completion=False)


def variants(study: str) -> dict[str, Change]:
    """The variants of a study by name; the first is what the others are held against."""
    if study != "ingredients":
        return {"curve": CURVE, "design": DESIGN}[study]
    seeds: dict[str, Change] = {f"all, seed {seed}": {"start": {"seed": seed}} for seed in (2, 3)}
    return {"all": {}} | seeds | {name: {"stream": {"without": frozenset({name})}} for name in INGREDIENTS}


def recipe(library: Path, output: Path, steps: int, change: Change) -> TrainingConfig:
    """The survey's recipe, short and small, with a change."""
    whole = read_training_config(RECIPE, library=library, output=output)
    assert whole.model.refinement is not None
    assert whole.stream is not None
    refinement = whole.model.refinement.model_copy(update=SMALL | change.get("refinement", {}))
    return whole.model_copy(
        update={
            "model": whole.model.model_copy(update={"refinement": refinement}),
            "stream": whole.stream.model_copy(update=change.get("stream", {})),
            "loss": whole.loss.model_copy(update=change.get("loss", {})),
            "seed": change.get("start", {}).get("seed", whole.seed),
            "steps": steps,
            "block_steps": 0,
            "warmup": 50,
            "ema": 0.99,
            "validate_every": steps,
        }
    )


def take_blocks(trainer: Trainer, known: Checkpoint) -> None:
    """Begin with the blocks of a checkpoint, and with what they expect of their input."""
    state = {name: value for name, value in known.model.state_dict().items() if not name.startswith("refinement.")}
    for model in (trainer.model, trainer.average):
        model.load_state_dict(state, strict=False)


def flops(checkpoint: Checkpoint) -> float:
    """GFLOP for a spectrum, in matrix products and convolutions."""
    spectra = torch.ones(64, 876)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        checkpoint.model(spectra, 0.03 * spectra, torch.zeros(64))
    return float(counter.get_total_flops() / 64 / 1e9)


def measured(config: TrainingConfig, blocks: Path, change: Change, spectra: int) -> dict[str, Any]:
    """Train a variant and measure it."""
    trainer = Trainer(config)
    if change.get("start", {}).get("blocks", True):
        take_blocks(trainer, load_checkpoint(blocks))
    began = time.process_time()
    checkpoint = load_checkpoint(trainer.run(resume=False))
    seconds = time.process_time() - began
    bench = Bench(Predictor(checkpoint), limit=spectra)
    suites = {name: {case: numbers(t) for case, t in SUITES[name](bench).cases.items()} for name in MEASURED}
    return {
        "gflop_per_spectrum": flops(checkpoint),
        "training_spectra": config.steps * config.batch,
        "training_seconds": seconds,
        "suites": suites,
    }


def numbers(case: dict[str, Any]) -> dict[str, list[float]]:
    """Mean error, scatter, rms, and the mean errors in the lowest and the highest fifth of the true values."""
    table = {}
    for name in QUANTITIES:
        ends = [case[name]["fifths"][k]["mean"] for k in (0, -1)] if "fifths" in case[name] else []
        table[name] = [round(value, 5) for value in (*(case[name][key] for key in ("mean", "sigma", "rms")), *ends)]
    return table


@app.command()
def train(
    study: str,
    library: Annotated[Path, typer.Option()],
    output: Annotated[Path, typer.Option()],
    blocks: Annotated[Path, typer.Option()],
    threads: Annotated[int, typer.Option()] = 1,
) -> None:
    """Train and measure the variants of a study: curve, ingredients or design."""
    torch.set_num_threads(threads)
    about = {
        "study": study,
        "steps": STEPS[study],
        "spectra": SPECTRA[study],
        "library_sha256": library_sha256(library),
        "blocks_sha256": load_checkpoint(blocks).weights_sha256,
        "recipe": recipe(library, Path(), 1, {}).model_dump_json(exclude={"library", "output"}),
    }
    saved = json.loads(output.read_text()) if output.exists() else {"about": about, "variants": {}}
    if saved["about"] != about:
        raise typer.BadParameter(f"{output}: made with other settings; choose another file or delete it")
    for name, change in variants(study).items():
        if name in saved["variants"]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            result = measured(recipe(library, Path(folder), STEPS[study], change), blocks, change, SPECTRA[study])
        saved["variants"][name] = result
        partial = output.with_suffix(".partial")
        partial.write_text(json.dumps(saved) + "\n")
        partial.replace(output)
        typer.echo(f"{name}: {triple(result['suites']['survey']['snr_35'])}")


def triple(case: dict[str, list[float]]) -> str:
    """Root mean square errors of log age, [M/H] and A_V."""
    return " / ".join(f"{case[name][2]:.3f}" for name in QUANTITIES)


@app.command()
def readout(checkpoint: Path) -> None:
    """Print the A_V of a plain network read in two ways."""
    known = load_checkpoint(checkpoint)
    for way in ("mean", "argmax"):
        known.model.config = known.model.config.model_copy(update={"av_readout": way})
        case = SUITES["paper"](Bench(Predictor(known), limit=READOUT_SPECTRA)).cases["blind"]
        typer.echo(f"A_V by {way}: mean error {case['av']['mean']:+.3f}, rms {case['av']['rms']:.3f} mag")


@app.command()
def show(output: Path) -> None:
    """Print a study as a table in Markdown: RMS errors of log age / [M/H] / A_V."""
    saved = json.loads(output.read_text())
    rows = ingredient_rows if saved["about"]["study"] == "ingredients" else variant_rows
    typer.echo("\n".join("| " + " | ".join(cells) + " |" for cells in rows(saved["variants"])))


def variant_rows(results: dict[str, Any]) -> Iterator[list[str]]:
    """One row for each variant of the refining network."""
    yield ["", "GFLOP a spectrum", "paper", "clean, S/N 35", "survey, S/N 35", "survey, S/N 100"]
    yield ["---"] * 6
    for name, result in results.items():
        suites = result["suites"]
        survey = (suites["survey"][f"snr_{snr}"] for snr in (35, 100))
        cases = suites["paper"]["blind"], suites["dispersion"]["sigma_0"], *survey
        yield [name, f"{result['gflop_per_spectrum']:.3f}", *map(triple, cases)]


def ingredient_rows(results: dict[str, Any]) -> Iterator[list[str]]:
    """One row for each ingredient: its own test with and without it, and the survey at large; then other seeds."""
    yield ["left out", "test", "with it", "without it", "survey, S/N 35"]
    yield ["---"] * 5
    for name, (suite, case) in OWN_TEST.items():
        if name in results:
            pair = (triple(results[key]["suites"][suite][case]) for key in ("all", name))
            survey = triple(results[name]["suites"]["survey"]["snr_35"])
            yield [f"`{name}`", f"{suite}: {case.replace('_', ' ')}", *pair, survey]
    for name in (key for key in results if key.startswith("all")):
        survey = triple(results[name]["suites"]["survey"]["snr_35"])
        yield ["nothing" + name.removeprefix("all"), "", "", "", survey]


if __name__ == "__main__":
    app()
