"""Do errors hold where a spectrum does not reach the ends of the model's window?

    OMP_NUM_THREADS=1 python benchmarks/cut_spectra.py

The same 512 spectra (one to five populations, A_V from 0 to 1.5, S/N 40 per sample of 1.25 A) whole, and without a
tenth or an eighth of the window at the blue or red end: rms error, and the share of true values within one error.
"""

import numpy as np
import torch

from galprote.model.checkpoint import load_checkpoint
from galprote.model.decoder import FINE_EDGES
from galprote.model.populations import grid_means
from galprote.model.synthesis import NoiseConfig, Synthesizer
from galprote.pipeline import fit_spectra
from galprote.pipeline.rebin import edges_of, rebin_matrix

N, SNR, AV = 512, 40.0, 1.5
QUANTITIES = ("log_age", "metallicity", "av")


def main() -> None:
    """Make, cut, fit, print."""
    torch.set_num_threads(1)
    decoder = load_checkpoint().decoder
    grid = Synthesizer(decoder, NoiseConfig(), 20_261_125).draw(N)[0]
    rng = np.random.default_rng(1)
    av = torch.from_numpy(rng.uniform(0, AV, len(grid)).astype(np.float32))
    axis = np.arange(4740.0, 7110.0, 1.25)
    flux = (rebin_matrix(FINE_EDGES, edges_of(axis)) @ decoder.fine_spectra(grid, av).double().numpy().T).T
    sigma = flux / SNR
    flux = flux + sigma * rng.normal(size=flux.shape)
    truth = (*grid_means(grid.numpy(), decoder.log_ages, decoder.metallicities), av.numpy())
    low, high = 4748.0, 7102.0
    print("| missing | log age | [M/H] | A_V |\n|---|---|---|---|")
    for name, first, last in (
        ("nothing", low, high),
        ("blue tenth", low + 0.1 * (high - low), high),
        ("red tenth", low, high - 0.1 * (high - low)),
        ("blue eighth", low + (high - low) / 8, high),
        ("red eighth", low, high - (high - low) / 8),
    ):
        cut = np.where((axis > first) & (axis < last), flux, np.nan)
        if name == "nothing":
            cut = flux
        result = fit_spectra(axis, cut, sigma**2, flux_calibration_error=0.0, template_error=0.0)
        cells = []
        for quantity, true in zip(QUANTITIES, truth, strict=True):
            off = getattr(result, quantity) - true
            within = np.abs(off) < getattr(result, f"{quantity}_error")
            cells.append(f"{np.sqrt(np.mean(off**2)):.3f}, {100 * within.mean():.0f} %")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
