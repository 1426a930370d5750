"""Emission lines measured in the continuum-subtracted cube of a mock, against their true fluxes.

    python benchmarks/line_fluxes.py

A mock of 120 x 120 spaxels with the default brightness; fluxes by optimal extraction at the known velocity, as in
tests/test_emission.py, whose code it borrows. Deviations are in units of the noise's error (STAT), and of that and the
model's error together (`continuum_subtracted_error`; the model's is taken to be the same in all channels of a line).
"""

import sys
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import xarray as xr

sys.path.insert(0, str(Path(__file__).parents[1]))

from galprote.model.checkpoint import default_checkpoint, load_checkpoint
from galprote.pipeline.mock import LINE_EXTENSIONS, MockConfig, make_mock
from tests import surveys, test_emission

LINES = ("Hbeta", "[OIII]5007", "Halpha", "[NII]6583")
EDGES = (5.0, 8.0, 10.0, 15.0, 20.0, 30.0, np.inf)


def main() -> None:
    """Make, map, measure, print."""
    config = MockConfig(shape=(120, 120))
    test_emission.configurations = lambda: {"GAS": config}  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cube = make_mock(config, folder / "GAS.fits", load_checkpoint().decoder)
        galaxy = {"name": "GAS", "cube": str(cube), "redshift": config.redshift, "foreground": {"ebv": config.ebv}}
        products = {"continuum_subtracted": True, "residual": False, "fits": False, "figure": False}
        survey = surveys.write_survey(
            folder, [galaxy | {"products": products, "template_error": 0}], default_checkpoint()
        )
        surveys.run_here(survey)
        seen = test_emission.observation(folder, "GAS")
        with xr.open_zarr(folder / "out" / "GAS.zarr") as store:
            error = store["continuum_subtracted_error"].to_numpy().astype(float)
            first = int(np.abs(config.wavelength - float(store["wavelength_observed"][0])).argmin())
    whole = np.full(seen.data.shape, np.nan)
    whole[first : first + len(error)] = error
    model = np.sqrt(np.maximum(whole**2 - seen.variance, 0.0))
    ranges = list(pairwise(EDGES))
    print("| line | error | " + " | ".join(f"{low:g}-{high:g}" for low, high in ranges) + " |")
    print("|---|---|" + "---|" * len(ranges))
    fluxes = {}
    for line in LINES:
        flux, sigma = seen.measure(line)
        # The same sums over the model's error: what is wrong in all channels alike adds up.
        systematic, _ = replace(seen, subtracted=np.where(np.isfinite(seen.subtracted), model, np.nan)).measure(line)
        true = seen.truth[LINE_EXTENSIONS[line]]
        fluxes[line] = flux, sigma, true
        for name, total in (("noise", sigma), ("both", np.hypot(sigma, systematic))):
            cells = []
            for low, high in ranges:
                pull = ((flux - true) / total)[seen.at_snr(low, high) & np.isfinite(flux)]
                cells.append(f"{pull.mean():+.2f} ({pull.std():.2f})")
            print(f"| {line} | {name} | " + " | ".join(cells) + " |")
    cells = []
    for low, high in ranges:
        chosen = seen.at_snr(low, high) & np.isfinite(fluxes["Hbeta"][0])
        (alpha, _, true_alpha), (beta, sigma, true_beta) = fluxes["Halpha"], fluxes["Hbeta"]
        ratio = alpha[chosen].sum() / beta[chosen].sum() / (true_alpha[chosen].sum() / true_beta[chosen].sum())
        error_of_it = np.sqrt((sigma[chosen] ** 2).sum()) / beta[chosen].sum()
        cells.append(f"{100 * (ratio - 1):+.1f} ± {100 * error_of_it:.1f} %")
    print("| Hα/Hβ, summed | measured / true - 1 | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
