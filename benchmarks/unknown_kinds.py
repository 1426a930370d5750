"""How well the network tells kinds of anomalies that it was not taught: each kind left out in turn.

    python benchmarks/unknown_kinds.py --stars data/stars/miles --spectra 200000 --json benchmarks/unknown-kinds.json

Spectra are fitted once (kept beside the JSON while it runs); then the appraisal is learned anew without each kind, and
asked for it.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from galprote.model.anomalies import ANOMALIES, TESTED, Anomalies
from galprote.model.anomaly_suite import FALSE_ALARMS, STAR_SEED
from galprote.model.appraisal import KINDS
from galprote.model.appraisal_recipe import AppraisalRecipe
from galprote.model.appraisal_training import AppraisalTrainer, Lesson
from galprote.model.bench import OBSERVATION_SEED, Bench, observed, parameters, predict
from galprote.model.checkpoint import load_checkpoint
from galprote.model.predictor import Predictor
from galprote.model.stars import rough_stars
from galprote.model.stream import StreamConfig, TrainingStream
from galprote.model.suites import SURVEY_CALIBRATION, SURVEY_TEMPLATES
from galprote.model.synthesis import NoiseConfig

SNR = 35.0
SPECTRA = 1000


def without(lesson: Lesson, kind: str | None) -> Lesson:
    """A lesson without one kind."""
    keep = lesson.kind != (-1 if kind is None else KINDS.index(kind))
    return Lesson(**{name: values[keep] for name, values in vars(lesson).items()})


def caught(trainer: AppraisalTrainer, kind: str) -> list[float]:
    """Shares of a kind that are caught at the levels of `FALSE_ALARMS`."""
    checkpoint = replace(load_checkpoint(), model=trainer.model)
    bench = Bench(Predictor(checkpoint))
    stream = TrainingStream(bench.decoder, StreamConfig(paper=0.0), NoiseConfig(), OBSERVATION_SEED, bench.templates)
    maker = Anomalies(stream, rough_stars(1000, STAR_SEED), TESTED)
    ordinary = observed(stream, parameters(stream, SPECTRA), SNR)
    stream.generator.manual_seed(OBSERVATION_SEED)
    trust = [predict(bench.predictor, one, SURVEY_CALIBRATION, SURVEY_TEMPLATES).trust for one in ordinary]
    limits = np.quantile(np.concatenate(trust), FALSE_ALARMS)
    spectra = maker.make(kind, SPECTRA, torch.full((SPECTRA,), SNR))
    found = predict(bench.predictor, spectra, SURVEY_CALIBRATION, SURVEY_TEMPLATES).trust
    return [float(np.mean(found <= limit)) for limit in limits]


def main() -> None:
    """Fit, leave out, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stars", type=Path)
    parser.add_argument("--spectra", type=int, default=200_000)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    recipe = AppraisalRecipe(spectra=options.spectra, stars=options.stars, epochs=4)
    folder = options.json.with_name(options.json.name + ".spectra")
    known = trained(recipe, folder, None)
    result: dict[str, dict[str, list[float]]] = {}
    for kind in ANOMALIES:
        unknown = trained(recipe, folder, kind)
        result[kind] = {"known": caught(known, kind), "unknown": caught(unknown, kind)}
        print(kind, result[kind], flush=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def trained(recipe: AppraisalRecipe, folder: Path, left_out: str | None) -> AppraisalTrainer:
    """An appraisal that was not taught one kind."""
    trainer = AppraisalTrainer(load_checkpoint(), recipe, folder)
    trainer.fit(print)
    lesson = without(trainer.load(range(trainer.shards)), left_out)
    trainer.learn(lesson)
    trainer.tabulate(lesson)
    return trainer


if __name__ == "__main__":
    main()
