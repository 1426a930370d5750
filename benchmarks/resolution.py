"""What a line spread function other than the templates' does to the answers.

    python benchmarks/resolution.py [LIBRARY.npz]

Spectra of the shipped weights' own templates, S/N 60 per 2.48 A, drawn wider in the rest frame to a constant FWHM, and
fitted by the network as if they were MUSE's. Sharper ones are made of the library (2.51 A), if it is given. Errors are
root mean squares, and means in brackets; the last columns are how many ages lie within one stated error, the median
trust, and the dispersion that the network finds.

The second table is about sampling: rms difference of templates that were cut into channels and rebinned from their
exact means over the model's samples, in per cent of the flux, by FWHM (rows) and width of the channels (columns).
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from galprote.model.appraisal import sigmas
from galprote.model.bench import Bench, clean_config, observed, parameters, predict
from galprote.model.checkpoint import load_checkpoint
from galprote.model.decoder import FINE_EDGES, Decoder
from galprote.model.grids import EDGES, STEP
from galprote.model.kinematics import C_KMS
from galprote.model.libraries import read_library
from galprote.model.line_spread import MUSE, LineSpread
from galprote.model.masses import MassScale
from galprote.model.populations import APPRAISED, derived
from galprote.model.predictor import Predictor
from galprote.model.stream import TrainingStream
from galprote.model.suites import first_spectra
from galprote.model.synthesis import NoiseConfig
from galprote.model.templates import FWHM_PER_SIGMA, broadening_matrix, verified_decoder
from galprote.pipeline.rebin import rebin_matrix

SPECTRA, SNR = 512, 60.0
FWHM = (3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 16.0, 20.0)
CHANNELS = (1.25, 2.0, 3.0, 4.0, 6.0, 9.9)
DISPERSIONS_KMS = (0, 100, 200)
CENTRES = (FINE_EDGES[1:] + FINE_EDGES[:-1]) / 2


def widened(decoder: Decoder, fwhm: float) -> Decoder:
    """A decoder of the same templates as an instrument of this FWHM (Angstrom, rest frame) draws them."""
    sigma: NDArray[np.float64] = np.sqrt(np.maximum(fwhm**2 - MUSE.fwhm_at(CENTRES) ** 2, 0.0)) / FWHM_PER_SIGMA
    components = (broadening_matrix(FINE_EDGES, sigma) @ decoder.components.double().numpy().T).T
    return replace(decoder, components=torch.from_numpy(np.ascontiguousarray(components)).float())


def row(bench: Bench, decoder: Decoder, dispersion_kms: float) -> str:
    """Fit one case; cells of a Markdown table."""
    stream = TrainingStream(decoder, clean_config(), NoiseConfig(), 0)
    grid, av, zero, _ = parameters(stream, SPECTRA)
    wanted = (grid, av, torch.full_like(av, float(dispersion_kms)), zero)
    batch = first_spectra(next(observed(stream, wanted, SNR)), SPECTRA)
    answer = predict(bench.predictor, batch, 0.0)
    scale = MassScale.of(bench.decoder)
    found = derived(answer.grid, answer.av, answer.norm, scale)
    true = derived(batch.grid.numpy(), batch.av.numpy(), batch.norm.numpy(), scale)
    sigma = dict(zip(APPRAISED, sigmas(answer.widths).T, strict=True))
    error = {name: found[name] - true[name] for name in ("log_age", "metallicity", "av")}
    cells = [f"{np.sqrt(np.mean(e**2)):.3f} ({np.mean(e):+.3f})" for e in error.values()]
    inside = np.mean(np.abs(error["log_age"]) <= sigma["log_age"])
    cells += [f"{inside:.0%}", f"{np.median(answer.trust):.2f}", f"{np.median(answer.dispersion):.0f}"]
    return " | ".join(cells)


def sampling_error(decoder: Decoder, fwhm: float, channel: float) -> float:
    """Rms error of the rebinning, in units of the flux."""
    wide = widened(decoder, fwhm)
    templates = (wide.coefficients[::7] @ wide.components).double().numpy()
    step = FINE_EDGES[1] - FINE_EDGES[0]
    cumulative = np.concatenate([np.zeros((len(templates), 1)), templates.cumsum(axis=1) * step], axis=1)
    spline = CubicSpline(FINE_EDGES, cumulative, axis=1)
    edges = np.arange(4700.37, 7150.0, channel)
    found = (rebin_matrix(edges, EDGES) @ (np.diff(spline(edges), axis=1) / channel).T).T
    return float((found - np.diff(spline(EDGES), axis=1) / STEP)[:, 5:-5].std())


def main(library: Path | None) -> None:
    """Print a table in Markdown."""
    bench = Bench(Predictor(load_checkpoint(None)))
    cases = {"the templates'": bench.decoder}
    if library is not None:
        cases["2.51"] = verified_decoder(read_library(library, fwhm=2.51), LineSpread(fwhm=2.51))
    cases |= {f"{fwhm:g}": widened(bench.decoder, fwhm) for fwhm in FWHM}
    print("| FWHM (A) | wider by (km/s at 5000 A) | stars (km/s) | log age | [M/H] | A_V ", end="")
    print("| age in 1 sigma | trust | found |\n|---|---|---|---|---|---|---|---|---|")
    for name, decoder in cases.items():
        squared = 0.0 if not name[0].isdigit() else float(name) ** 2 - float(MUSE.fwhm_at(np.array(5000.0))) ** 2
        extra = np.sign(squared) * np.sqrt(abs(squared)) / FWHM_PER_SIGMA / 5000.0 * C_KMS
        for dispersion in DISPERSIONS_KMS:
            print(f"| {name} | {extra:.0f} | {dispersion} | {row(bench, decoder, dispersion)} |", flush=True)
    print("\n| FWHM (A) | " + " | ".join(f"{channel:g} A" for channel in CHANNELS) + " |")
    print("|---" * (len(CHANNELS) + 1) + "|")
    for fwhm in (2.9, 4.0, 6.0, 8.0, 12.0):
        errors = " | ".join(f"{sampling_error(bench.decoder, fwhm, channel):.2%}" for channel in CHANNELS)
        print(f"| {fwhm:g} | {errors} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
