"""How often the truth lies within the errors that the network gives: the suite `coverage`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from galprote.model.appraisal import sigmas
from galprote.model.artefacts import ArtefactConfig
from galprote.model.bench import CASE, POPULATION_SEED, Bench, clean_config, observed, parameters, predict
from galprote.model.decoder import Decoder
from galprote.model.errors import ConfigError
from galprote.model.masses import MassScale
from galprote.model.other_library import transfer
from galprote.model.populations import APPRAISED, derived
from galprote.model.statistics import PARTS, QUANTITIES, SuiteResult
from galprote.model.stream import StreamConfig, TrainingStream
from galprote.model.suites import (
    DISPERSIONS_KMS,
    LIBRARY_SNR,
    SURVEY_CALIBRATION,
    SURVEY_SNR,
    SURVEY_TEMPLATES,
    TILT,
    TYPICAL_SNR,
    VELOCITIES_KMS,
    tilted,
)
from galprote.model.synthesis import NoiseConfig, SyntheticSpectra

#: What is asked of one and two standard deviations: at every signal-to-noise ratio, and in circumstances unlike them.
WANTED: Final = ((0.65, 0.71), (0.93, 0.97))
HONEST: Final = 0.60

#: Factor by which the stated noise is wrong, and correlation of the noise in neighbouring samples.
MISSTATED: Final = (1 / 3, 3.0)
CORRELATED: Final = 0.3


@dataclass(frozen=True)
class Judged:
    """Errors of n fits beside what the network said of them, by the names of `APPRAISED`, each (n,) float64.

    Attributes
    ----------
    true, found, sigma : dict
    """

    true: dict[str, NDArray[np.float64]]
    found: dict[str, NDArray[np.float64]]
    sigma: dict[str, NDArray[np.float64]]

    def chosen(self, rows: NDArray[np.int64]) -> "Judged":
        """Some of the spectra."""
        return Judged(*({name: values[rows] for name, values in part.items()} for part in vars(self).values()))


def coverage_suite(bench: Bench) -> SuiteResult:
    """Shares of the true values within one and two of the errors that the network gives.

    `survey`: the spectra of the suite `survey`; `found`, `true`: all of them together, in fifths of the found and of
    the true values. An interval is right on average over what the network was trained on; where the truth lies at the
    end of its range it is less often inside, because answers tend to the middle. `library`, `sigma`, `velocity` and
    the artefacts are the spectra of those suites. `noise_x`: the stated noise is wrong by that factor; `correlated`:
    the noise of neighbouring samples is correlated by 0.3; `calibration`: the network is told the pipeline's default.

    The spectra are made of the network's own templates, and it is told so (`template_error` 0), but in `library`: there
    it is told the pipeline's default, of its own library's spectra too.
    """
    if bench.predictor.model.appraisal is None:
        raise ConfigError("--suite coverage: these weights give no errors (no appraisal); train one with `appraisal`")
    result = SuiteResult()
    survey = {f"survey_snr_{snr}": _survey(bench, snr) for snr in SURVEY_SNR}
    for name, judged in (*survey.items(), *_fifths(list(survey.values())), *_moved(bench), *_spoiled(bench)):
        result.cases[name] = _table(judged)
        result.judged[name] = judged
    for name, judged in _libraries(bench):
        result.cases[name], result.judged[name] = _table(judged), judged
    if bench.other is None:
        result.remarks.append("coverage: no other template library was tried: add --library FILE.npz or a folder")
    return result


def judge(
    bench: Bench,
    batches: Iterable[SyntheticSpectra],
    decoder: Decoder | None = None,
    *,
    told: float,
    template_error: float = 0.0,
) -> Judged:
    """Fit spectra made from a decoder's templates (by default the checkpoint's)."""
    own, scale = MassScale.of(bench.decoder), MassScale.of(decoder or bench.decoder)
    parts = []
    for batch in batches:
        answer = predict(bench.predictor, batch, told, template_error)
        found = derived(answer.grid, answer.av, answer.norm, own)
        true = derived(batch.grid.numpy(), batch.av.numpy(), batch.norm.numpy(), scale)
        sigma = dict(zip(APPRAISED, sigmas(answer.widths).T, strict=True))
        parts.append((true, found, sigma))
    joined = (
        {name: np.concatenate([part[k][name] for part in parts]).astype(np.float64) for name in APPRAISED}
        for k in range(3)
    )
    return Judged(*joined)


def _table(judged: Judged) -> dict[str, Any]:
    table: dict[str, Any] = {"spectra": len(judged.true["av"])}
    for name in APPRAISED:
        error = np.abs(judged.found[name] - judged.true[name])
        table[name] = {
            "within_1": float(np.mean(error <= judged.sigma[name])),
            "within_2": float(np.mean(error <= 2 * judged.sigma[name])),
            "median_error": float(np.median(judged.sigma[name])),
            "rms": float(np.sqrt(np.mean(error**2))),
        }
    return table


def _survey(bench: Bench, snr: float) -> Judged:
    stream = bench.stream(StreamConfig(paper=0.0))
    spectra = observed(stream, parameters(stream, bench.number(CASE)), snr)
    return judge(bench, spectra, told=SURVEY_CALIBRATION)


def _fifths(parts: list[Judged]) -> Iterator[tuple[str, Judged]]:
    """All signal-to-noise ratios together, sorted by the found and by the true values."""
    whole = Judged(
        *(
            {name: np.concatenate([getattr(part, field)[name] for part in parts]) for name in APPRAISED}
            for field in ("true", "found", "sigma")
        )
    )
    for kind in ("found", "true"):
        for name in QUANTITIES:
            order = np.argsort(getattr(whole, kind)[name], kind="stable")
            for number, rows in enumerate(np.array_split(order, PARTS), 1):
                yield f"{kind}_{name}_{number}", whole.chosen(rows)


def _moved(bench: Bench) -> Iterator[tuple[str, Judged]]:
    """Dispersions and velocities."""
    stream = bench.stream(clean_config())
    grid, av, zero, _ = parameters(stream, bench.number(CASE))
    for sigma in DISPERSIONS_KMS:
        spectra = observed(stream, (grid, av, torch.full_like(av, float(sigma)), zero), TYPICAL_SNR)
        yield f"sigma_{sigma}", judge(bench, spectra, told=0.0)
    for velocity in VELOCITIES_KMS:
        if velocity:
            spectra = observed(stream, (grid, av, zero, torch.full_like(av, float(velocity))), TYPICAL_SNR)
            yield f"velocity_{velocity:+d}", judge(bench, spectra, told=0.0)


def _spoiled(bench: Bench) -> Iterator[tuple[str, Judged]]:
    """Artefacts, noise that is not what was stated, and a default where nothing is known of the calibration."""
    clean = bench.stream(clean_config())
    wanted = parameters(clean, bench.number(CASE))
    for name, ingredient in (("ao_notch", "notch"), ("emission", "emission"), ("sky", "sky")):
        stream = bench.stream(clean_config(ingredient, artefacts=ArtefactConfig(notch_fraction=1.0)))
        stream.artefacts.shares = {"emission": 1.0, "sky": 1.0}
        yield name, judge(bench, observed(stream, wanted, TYPICAL_SNR), told=0.0)
    for side, slope in (("red", TILT), ("blue", -TILT)):
        spectra = (tilted(batch, slope) for batch in observed(clean, wanted, TYPICAL_SNR))
        yield f"tilt_{side}", judge(bench, spectra, told=SURVEY_CALIBRATION)
    for factor in MISSTATED:
        spectra = (replace(batch, noise=batch.noise * float(factor)) for batch in observed(clean, wanted, TYPICAL_SNR))
        yield f"noise_x_{factor:.2g}", judge(bench, spectra, told=0.0)
    stream = bench.stream(clean_config(artefacts=ArtefactConfig(noise_correlation=CORRELATED)))
    yield "correlated", judge(bench, observed(stream, wanted, TYPICAL_SNR), told=0.0)
    yield "calibration", judge(bench, observed(clean, wanted, TYPICAL_SNR), told=SURVEY_CALIBRATION)


def _libraries(bench: Bench) -> Iterator[tuple[str, Judged]]:
    """Spectra of another library beside the same populations of the checkpoint's own, as in the suite `library`."""
    if bench.other is None:
        return
    other = bench.other.decoder
    theirs = TrainingStream(other, clean_config(), NoiseConfig(), POPULATION_SEED)
    ours = bench.stream(clean_config())
    grid, av, zero, _ = parameters(theirs, bench.number(CASE))
    same = torch.einsum("nza,zy,ab->nyb", grid, *transfer(other, bench.decoder))
    for snr in LIBRARY_SNR:
        spectra = observed(ours, (same, av, zero, zero), snr)
        yield f"library_own_snr_{snr}", judge(bench, spectra, told=SURVEY_CALIBRATION, template_error=SURVEY_TEMPLATES)
        spectra = observed(theirs, (grid, av, zero, zero), snr)
        yield (
            f"library_other_snr_{snr}",
            judge(bench, spectra, other, told=SURVEY_CALIBRATION, template_error=SURVEY_TEMPLATES),
        )
