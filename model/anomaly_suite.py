"""How many spectra that are no galaxy's stars the network's `trust` tells: the suite `anomalies`."""

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from galprote.model.anomalies import ANOMALIES, TESTED, Anomalies
from galprote.model.appraisal import KINDS
from galprote.model.bench import CASE, OBSERVATION_SEED, Bench, observed, parameters, predict
from galprote.model.errors import ConfigError
from galprote.model.stars import rough_stars
from galprote.model.statistics import SuiteResult
from galprote.model.stream import StreamConfig, TrainingStream
from galprote.model.suites import SURVEY_CALIBRATION, SURVEY_TEMPLATES
from galprote.model.synthesis import NoiseConfig, SyntheticSpectra

ANOMALY_SNR: Final = (10, 20, 35, 100)
#: Shares of ordinary spectra that may be flagged.
FALSE_ALARMS: Final = (0.01, 0.05)
#: Anomalies of each kind at each signal-to-noise ratio.
NUMBER: Final = 1000
#: Seed of the rough stars; no training has it.
STAR_SEED: Final = 20_250_398


def anomalies_suite(bench: Bench) -> SuiteResult:
    """Shares of anomalies with less trust than 1 or 5 % of ordinary spectra of the same signal-to-noise ratio have.

    Ordinary spectra are those of the suite `survey`. `ordinary` has the share of them that the tables in the weights
    flag at those levels. `reason`: the share of the anomalies caught at 1 % whose most probable kind is the right one.
    Stars are those of `--stars`, or rough ones made here. `noise` has next to no light, at any stated signal-to-noise
    ratio: it stands in one row.
    """
    if bench.predictor.model.appraisal is None:
        raise ConfigError("--suite anomalies: these weights give no trust (no appraisal); train one with `appraisal`")
    result = SuiteResult()
    stars = rough_stars(1000, STAR_SEED) if bench.stars is None else bench.stars
    if bench.stars is None:
        result.remarks.append("anomalies: rough stars made by galprote; add --stars FOLDER for a library's")
    stream = TrainingStream(bench.decoder, StreamConfig(paper=0.0), NoiseConfig(), OBSERVATION_SEED, bench.templates)
    maker = Anomalies(stream, stars, TESTED)
    limits: NDArray[np.float64] = np.zeros(2)
    for snr in ANOMALY_SNR:
        wanted = parameters(stream, bench.number(CASE))
        trust, _ = _trust(bench, observed(stream, wanted, snr))
        limits = np.quantile(trust, FALSE_ALARMS)
        result.cases[f"snr_{snr}_ordinary"] = {
            "spectra": len(trust),
            "caught": {f"{100 * level:g}": float(np.mean(trust < level)) for level in FALSE_ALARMS},
        }
        result.trust[f"snr_{snr}_ordinary"] = trust
        for kind in ANOMALIES:
            if kind == "noise" and snr != ANOMALY_SNR[0]:
                continue
            stream.generator.manual_seed(OBSERVATION_SEED + KINDS.index(kind))
            number = bench.number(NUMBER)
            spectra = maker.make(kind, number, torch.full((number,), float(snr)))
            result.cases[f"snr_{snr}_{kind}"], result.trust[f"snr_{snr}_{kind}"] = _caught(bench, spectra, kind, limits)
    return result


def _caught(
    bench: Bench, spectra: SyntheticSpectra, kind: str, limits: NDArray[np.float64]
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    trust, kinds = _trust(bench, [spectra])
    shares = {
        f"{100 * level:g}": float(np.mean(trust <= limit)) for level, limit in zip(FALSE_ALARMS, limits, strict=True)
    }
    caught = trust <= limits[0]
    right = float(np.mean(kinds[caught] == KINDS.index(kind))) if caught.any() else None
    return {"spectra": len(trust), "caught": shares, "reason": right}, trust


def _trust(bench: Bench, batches: Any) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Trust of every spectrum, and its most probable kind but ordinary."""
    answers = [predict(bench.predictor, batch, SURVEY_CALIBRATION, SURVEY_TEMPLATES) for batch in batches]
    trust = np.concatenate([answer.trust for answer in answers]).astype(np.float64)
    return trust, 1 + np.concatenate([answer.kinds[:, 1:].argmax(axis=1) for answer in answers])
