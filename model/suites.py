"""The suites on synthetic spectra of one library or two: what is fitted, and against what it is held.

All spectra are made from the checkpoint's own templates (`library`: from another library's too). Unless a suite says
otherwise they are clean: populations of the survey stream (smooth and bursty histories and the paper's combinations,
flat in mean age and [M/H] as far as they reach), A_V uniform from 0 to 1.5, constant Gaussian noise that is told
truthfully, nothing lost, no error of the calibration, stars at rest and without dispersion.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from galprote.model.artefacts import ArtefactConfig
from galprote.model.bench import (
    CASE,
    FLAGGED_SEED,
    POPULATION_SEED,
    TEST_SEED,
    Bench,
    clean_config,
    observed,
    parameters,
    predict,
)
from galprote.model.grids import AV_CLASSES, KEPT, WAVELENGTH
from galprote.model.other_library import transfer
from galprote.model.populations import grid_means
from galprote.model.statistics import QUANTITIES, Comparison, Example, SuiteResult
from galprote.model.stream import StreamConfig, TrainingStream
from galprote.model.synthesis import PAPER_MIX, NoiseConfig, Synthesizer, SyntheticSpectra

#: Spectra in the paper's second block.
FLAGGED: Final = 12_288

SURVEY_SNR: Final = (10, 20, 35, 60, 100)
SMOOTH_SNR: Final = 60
#: Where a suite has one signal-to-noise ratio: what the spaxels of PHANGS-MUSE are binned to.
TYPICAL_SNR: Final = 35
LIBRARY_SNR: Final = (35, 100)
DISPERSIONS_KMS: Final = (0, 100, 200, 300)
VELOCITIES_KMS: Final = (-150, -100, -50, 0, 50, 100, 150)
#: Tilt from edge to edge, and the scatter that the network is told.
TILT: Final = 0.03
TILT_TOLD: Final = 0.015
#: What the network is told of the survey stream's calibration: the pipeline's default, and the stream's mean.
SURVEY_CALIBRATION: Final = 0.01
#: What the appraisal is told of real stars: the pipeline's default.
SURVEY_TEMPLATES: Final = 0.01


# --- (a) the paper's protocol ---


def paper_suite(bench: Bench) -> SuiteResult:
    """The paper's 111,936 spectra (section 4.1): noise of 0, 2 or 4 %, and 15 to 25 spoiled patches in each.

    `blind`: the network is told the noise that the spectrum itself shows, and of no patch. `flagged`: a smaller block
    of the same kind, in which it is known which patches were replaced by their median. `spectral_mse_percent` is 100
    times the mean squared difference of the spectrum as seen and the fitted one (section 4.2.1), `clean_mse_percent`
    against the spectrum before noise and patches, `point_to_point_percent` that of all single samples (4.2.2).
    """
    result = SuiteResult()
    whole = len(AV_CLASSES) * sum(count for _, count in PAPER_MIX) * len(bench.decoder.coefficients)
    for name, noise, seed, wanted in (
        ("blind", NoiseConfig(), TEST_SEED, whole),
        ("flagged", NoiseConfig(flagged=1.0), FLAGGED_SEED, FLAGGED),
    ):
        number = bench.number(wanted)
        spectra = first_batches(Synthesizer(bench.decoder, noise, seed).paper_set(), number)
        comparison = bench.compare(spectra)
        result.add(name, comparison).update(spectral_errors(comparison))
    result.examples.extend(paper_examples(bench))
    return result


def first_batches(batches: Iterator[SyntheticSpectra], number: int) -> Iterator[SyntheticSpectra]:
    """The first so many spectra, or all there are."""
    for batch in batches:
        yield first_spectra(batch, number)
        number -= len(batch)
        if number <= 0:
            return


def first_spectra(batch: SyntheticSpectra, number: int) -> SyntheticSpectra:
    """At most so many spectra of a batch."""
    return SyntheticSpectra(**{name: values[:number] for name, values in vars(batch).items()})


def paper_examples(bench: Bench) -> list[Example]:
    """One spectrum of each noise level (the paper's figures 5 to 7): the first three of the set."""
    noise = NoiseConfig()
    batch = next(Synthesizer(bench.decoder, noise, TEST_SEED).paper_set())
    batch = first_spectra(batch, len(noise.levels))  # levels take turns
    answer = predict(bench.predictor, batch, 0.0)
    truth, found = (
        (*grid_means(grid, bench.decoder.log_ages, bench.decoder.metallicities), av)
        for grid, av in ((batch.grid.numpy(), batch.av.numpy()), (answer.grid, answer.av))
    )
    return [
        Example(
            f"{level:.0%} noise",
            batch.spectra[k].numpy(),
            answer.model[k] * answer.gain[k],
            batch.grid[k].numpy(),
            answer.grid[k],
            bench.decoder.log_ages,
            bench.decoder.metallicities,
            {name: float(values[k]) for name, values in zip(QUANTITIES, truth, strict=True)},
            {name: float(values[k]) for name, values in zip(QUANTITIES, found, strict=True)},
        )
        for k, level in enumerate(noise.levels)
    ]


def spectral_errors(comparison: Comparison) -> dict[str, dict[str, float]]:
    """Errors of the fitted spectra, per cent."""
    table = {
        name: {"mean": float(100 * values.mean()), "sigma": float(100 * values.std())}
        for name, values in (("spectral_mse_percent", comparison.mse), ("clean_mse_percent", comparison.clean_mse))
    }
    mean = float(comparison.residual.mean())
    spread = float(np.sqrt(comparison.mse.mean() - mean**2))
    return table | {"point_to_point_percent": {"mean": 100 * mean, "sigma": 100 * spread}}


# --- (b) the survey stream ---


def survey_suite(bench: Bench) -> SuiteResult:
    """The survey stream with all its circumstances, without the paper's spectra, at five signal-to-noise ratios.

    `smooth`: smooth histories only, no bursts and none of the paper's combinations. The network is told one number for
    the calibration, not each spectrum's own.
    """
    result = SuiteResult()
    for snr in SURVEY_SNR:
        _survey_case(bench, result, f"snr_{snr}", StreamConfig(paper=0.0), snr)
    smooth = StreamConfig(paper=0.0, smooth=1.0, without=frozenset({"bursts"}))
    _survey_case(bench, result, "smooth", smooth, SMOOTH_SNR)
    return result


def _survey_case(bench: Bench, result: SuiteResult, name: str, config: StreamConfig, snr: float) -> None:
    stream = bench.stream(config)
    spectra = observed(stream, parameters(stream, bench.number(CASE)), snr)
    result.add(name, bench.compare(spectra, calibration=SURVEY_CALIBRATION), kinematics=True)


# --- (c) another library ---


def library_suite(bench: Bench) -> SuiteResult:
    """Spectra from a library that the network was not trained on, beside its own.

    Populations are drawn on the other library's grid, within the checkpoint's ages and metallicities; `own` has the
    same populations in the checkpoint's templates: each weight is shared between the neighbours on the checkpoint's
    grid, which keeps the mean log age and [M/H] of every spectrum. Noise and A_V are the same. The network is told the
    pipeline's default for the calibration, as it would be for a real spectrum.
    """
    assert bench.other is not None
    other = bench.other.decoder
    result = SuiteResult(remarks=list(bench.other.remarks))
    theirs = TrainingStream(other, clean_config(), NoiseConfig(), POPULATION_SEED)
    ours = bench.stream(clean_config())
    grid, av, zero, _ = parameters(theirs, bench.number(CASE))
    same = torch.einsum("nza,zy,ab->nyb", grid, *transfer(other, bench.decoder))
    for snr in LIBRARY_SNR:
        spectra = observed(ours, (same, av, zero, zero), snr)
        result.add(f"own_snr_{snr}", bench.compare(spectra, calibration=SURVEY_CALIBRATION))
        case = bench.compare(
            observed(theirs, (grid, av, zero, zero), snr), decoder=other, calibration=SURVEY_CALIBRATION
        )
        result.add(f"other_snr_{snr}", case, against=f"own_snr_{snr}")
    return result


# --- (d), (e) moving stars ---


def dispersion_suite(bench: Bench) -> SuiteResult:
    """The same clean spectra with stars of 0 to 300 km/s of dispersion."""
    result = SuiteResult()
    stream = bench.stream(clean_config())
    grid, av, zero, _ = parameters(stream, bench.number(CASE))
    for sigma in DISPERSIONS_KMS:
        spectra = observed(stream, (grid, av, torch.full_like(av, float(sigma)), zero), TYPICAL_SNR)
        result.add(f"sigma_{sigma}", bench.compare(spectra), kinematics=True, against="sigma_0" if sigma else None)
    return result


def velocity_suite(bench: Bench) -> SuiteResult:
    """The same clean spectra, off the assumed redshift by up to 150 km/s to either side."""
    result = SuiteResult()
    stream = bench.stream(clean_config())
    grid, av, zero, _ = parameters(stream, bench.number(CASE))
    for velocity in (0, *(value for value in VELOCITIES_KMS if value)):
        spectra = observed(stream, (grid, av, zero, torch.full_like(av, float(velocity))), TYPICAL_SNR)
        against = "velocity_+0" if velocity else None
        result.add(f"velocity_{velocity:+d}", bench.compare(spectra), kinematics=True, against=against)
    ordered = {f"velocity_{value:+d}": result.cases[f"velocity_{value:+d}"] for value in VELOCITIES_KMS}
    return replace(result, cases=ordered)


# --- (f) what is done to a spectrum ---


def artefacts_suite(bench: Bench) -> SuiteResult:
    """The same clean spectra, each artefact alone in all of them.

    `ao_notch`: the adaptive optics' gap, filled and flagged as the pipeline does. `emission`, `sky`: residuals as in
    the stream, nine in ten of those that stand out flagged. `tilt`: the flux calibration is off by 3 % from edge to
    edge, to the red or to the blue, and the network expects 1.5 % of scatter (`told`) or none (`untold`).
    """
    result = SuiteResult()
    clean = bench.stream(clean_config())
    wanted = parameters(clean, bench.number(CASE))
    result.add("none", bench.compare(observed(clean, wanted, TYPICAL_SNR)))
    for name, ingredient in (("ao_notch", "notch"), ("emission", "emission"), ("sky", "sky")):
        stream = bench.stream(clean_config(ingredient, artefacts=ArtefactConfig(notch_fraction=1.0)))
        stream.artefacts.shares = {"emission": 1.0, "sky": 1.0}
        result.add(name, bench.compare(observed(stream, wanted, TYPICAL_SNR)), against="none")
    for side, slope in (("red", TILT), ("blue", -TILT)):
        for told, calibration in (("told", TILT_TOLD), ("untold", 0.0)):
            spectra = (tilted(batch, slope) for batch in observed(clean, wanted, TYPICAL_SNR))
            case = bench.compare(spectra, calibration=calibration)
            result.add(f"tilt_{side}_{told}", case, against="none")
    return result


def tilted(batch: SyntheticSpectra, slope: float) -> SyntheticSpectra:
    """Multiply spectra and their noise by a straight line that rises by `slope` from the blue to the red end."""
    factor = torch.from_numpy(straight_line(slope, WAVELENGTH[KEPT]))
    flux = batch.spectra * factor
    whole = torch.from_numpy(straight_line(slope, WAVELENGTH))
    moved = replace(batch, noise=batch.noise * factor, continuum=batch.continuum * whole)
    return moved.rescaled(flux, flux.median(dim=1, keepdim=True).values)


def straight_line(slope: float, wavelength: NDArray[np.float64]) -> NDArray[np.float32]:
    """One at the middle of the spectrum, rising by `slope` from the blue to the red end: (n,) float32."""
    middle = (WAVELENGTH[0] + WAVELENGTH[-1]) / 2
    line = 1 + slope * (wavelength - middle) / (WAVELENGTH[-1] - WAVELENGTH[0])
    return np.asarray(line, dtype=np.float32)
