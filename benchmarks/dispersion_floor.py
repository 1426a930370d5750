"""How much a velocity dispersion costs a fit that knows it: what no fit of the same spectra can avoid.

    python benchmarks/dispersion_floor.py [CHECKPOINT]

The suite `dispersion` of `galprote-pipeline evaluate`, fitted by non-negative least squares with templates of the very
dispersion that the stars have, and by the network, which has to find it out. Errors relative to those at 0 km/s.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from galprote.model.bench import Bench, clean_config, compare, observed, parameters
from galprote.model.checkpoint import load_checkpoint
from galprote.model.decoder import FINE_EDGES, Decoder
from galprote.model.fits import fitted
from galprote.model.kinematics import C_KMS
from galprote.model.predictor import Predictor
from galprote.model.rivals import Nnls
from galprote.model.statistics import QUANTITIES
from galprote.model.suites import TYPICAL_SNR, first_spectra
from galprote.model.templates import broadening_matrix

SPECTRA = 512


def broadened(decoder: Decoder, dispersion_kms: float) -> Decoder:
    """A decoder of stars that move."""
    centres = (FINE_EDGES[1:] + FINE_EDGES[:-1]) / 2
    matrix = broadening_matrix(FINE_EDGES, centres * dispersion_kms / C_KMS)
    components = (matrix @ decoder.components.double().numpy().T).T
    return replace(decoder, components=torch.from_numpy(np.ascontiguousarray(components)).float())


def main(checkpoint: Path | None) -> None:
    """Print a table in Markdown."""
    bench = Bench(Predictor(load_checkpoint(checkpoint)))
    stream = bench.stream(clean_config())
    grid, av, zero, _ = parameters(stream, 3000)
    base: dict[str, list[float]] = {}
    print("| km/s | NNLS that knows it | the network |\n|---|---|---|")
    for sigma in (0, 100, 200, 300):
        wanted = (grid[:SPECTRA], av[:SPECTRA], torch.full_like(av, float(sigma))[:SPECTRA], zero[:SPECTRA])
        spectra = first_spectra(next(observed(stream, wanted, TYPICAL_SNR)), SPECTRA)
        known, _ = fitted(Nnls(broadened(bench.decoder, sigma)), spectra, SPECTRA, bench.decoder)
        cells = []
        for name, comparison in (("nnls", known), ("network", compare(bench.predictor, spectra, bench.decoder))):
            rms = [float(np.sqrt(np.mean(comparison.error(quantity) ** 2))) for quantity in QUANTITIES]
            base.setdefault(name, rms)
            growth = (value / first for value, first in zip(rms, base[name], strict=True))
            cells.append(
                " / ".join(f"{value:.3f}" for value in rms) + " (x " + " / ".join(f"{g:.2f}" for g in growth) + ")"
            )
        print(f"| {sigma} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
