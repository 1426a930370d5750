"""Kinematics measured by galprote and by pPXF on the same spectra with the same templates, and how long both take.

    OMP_NUM_THREADS=1 python benchmarks/kinematics.py [--spectra 60] [--json benchmarks/kinematics.json]

Two sets. `grid`: stars of a mock galaxy's spaxels, with dust, at velocities to 400 km/s and dispersions of 0 to
250 km/s, on MUSE's channels with Gaussian noise. `mock`: spaxels of a mock cube with its rotation, gas, sky residuals
and bad variances, S/N 30 to 40 per channel. Both codes get the same rebinned spectra, noise and masks; pPXF (Cappellari
2023) fits all 636 templates, additive polynomials of degree 8 and two moments, once a spectrum. One core, process time.
`by_dispersion` is galprote alone, on more spectra.
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from astropy.io import fits
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

sys.path.insert(0, str(Path(__file__).parents[1]))

from galprote.model.checkpoint import load_checkpoint
from galprote.model.decoder import FINE_EDGES, Decoder
from galprote.model.kinematics import C_KMS
from galprote.model.line_of_sight import KinematicFitter
from galprote.model.line_spectra import GAS_KMS, starlight
from galprote.model.line_templates import LOG_EDGES, MARGIN, SAMPLE_KMS, SAMPLES
from galprote.pipeline.mock import MockConfig, make_mock, truth_path
from galprote.pipeline.mock_galaxy import make_galaxy
from galprote.pipeline.mock_spectra import population_grid
from tests.moving_spectra import noisy, observed, rebinned

Array = NDArray[np.float64]
SNR = (10.0, 20.0, 35.0, 60.0)
DISPERSIONS = (0.0, 50.0, 100.0, 150.0, 250.0)
MAX_VELOCITY = 400.0


class Ppxf:
    """pPXF's velocity, error, dispersion, error of one rebinned spectrum after another."""

    def __init__(self, decoder: Decoder) -> None:
        from ppxf.ppxf import ppxf

        self._fit: Callable[..., Any] = ppxf
        edges = LOG_EDGES[0] * np.exp(np.arange(-MARGIN, SAMPLES + MARGIN + 1) * SAMPLE_KMS / C_KMS)
        fine = (decoder.coefficients @ decoder.components).double().numpy()
        cumulative = np.concatenate([np.zeros((len(fine), 1)), np.cumsum(fine * np.diff(FINE_EDGES), axis=1)], axis=1)
        self._templates = (np.diff(CubicSpline(FINE_EDGES, cumulative, axis=1)(edges), axis=1) / np.diff(edges)).T
        self._template_centres = np.sqrt(edges[1:] * edges[:-1])
        self._centres = np.sqrt(LOG_EDGES[1:] * LOG_EDGES[:-1])
        self._stars = starlight(self._centres, GAS_KMS + MAX_VELOCITY)

    def __call__(self, flux: NDArray[np.float32], variance: NDArray[np.float32]) -> Array:
        """Kinematics (4, n) of spectra (n, L)."""
        return np.array([self._one(f, v) for f, v in zip(flux, variance, strict=True)]).T

    def _one(self, flux: NDArray[np.float32], variance: NDArray[np.float32]) -> list[float]:
        good = np.isfinite(flux) & (variance > 0)
        scale = float(np.median(flux[good]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = self._fit(
                self._templates,
                np.where(good, flux, scale).astype(float) / scale,
                np.sqrt(np.where(good, variance, scale**2).astype(float)) / scale,
                SAMPLE_KMS,
                [0.0, 100.0],
                moments=2,
                degree=8,
                goodpixels=np.flatnonzero(good & self._stars),
                lam=self._centres,
                lam_temp=self._template_centres,
                bounds=[[-600.0, 600.0], [1.0, 450.0]],
                quiet=True,
            )
        scatter = float(np.sqrt(found.chi2))
        velocity = C_KMS * float(np.expm1(found.sol[0] / C_KMS))  # pPXF's are c ln(1 + z)
        return [velocity, float(found.error[0]) * scatter, float(found.sol[1]), float(found.error[1]) * scatter]


def summary(found: Array, velocity: Array, dispersion: Array, seconds: float, wanted: int) -> dict[str, float]:
    """Means and scatters of what was measured."""
    ok = np.isfinite(found[0])
    off, wide = found[0][ok] - velocity[ok], found[2][ok] - dispersion[ok]
    return {
        "spectra": wanted,
        "measured": int(ok.sum()),
        "velocity_bias": float(off.mean()),
        "velocity_rms": float(np.sqrt(np.mean(off**2))),
        "velocity_error": float(np.median(found[1][ok])),
        "velocity_pull": float((off / found[1][ok]).std()),
        "dispersion_bias": float(wide.mean()),
        "dispersion_rms": float(np.sqrt(np.mean(wide**2))),
        "dispersion_error": float(np.median(found[3][ok])),
        "spectra_per_second": wanted / seconds,
    }


def compare(
    fitter: KinematicFitter, ppxf: Ppxf, spectra: tuple[NDArray[np.float32], ...], velocity: Array, dispersion: Array
) -> dict[str, Any]:
    """Both on the same spectra, first galprote, with process time."""
    fitter(*(part[: fitter.batch] for part in spectra))
    repeats = max(1, 256 // len(velocity))
    start = time.process_time()
    kinematics = fitter(*(np.tile(part, (repeats, 1)) for part in spectra))
    between = time.process_time()
    theirs = ppxf(*spectra)
    end = time.process_time()
    ours = np.array([part[: len(velocity)] for part in kinematics[:4]], dtype=float)
    both = np.isfinite(ours[0])
    n = len(velocity)
    return {
        "galprote": summary(ours, velocity, dispersion, (between - start) / repeats, n),
        "ppxf": summary(theirs, velocity, dispersion, end - between, n),
        "ppxf_where_galprote_measures": summary(theirs[:, both], velocity[both], dispersion[both], end - between, n),
        "agreement": {
            "velocity_in_errors": float(((ours[0] - theirs[0]) / ours[1])[both].std()),
            "dispersion_in_errors": float(((ours[2] - theirs[2]) / ours[3])[both].std()),
        },
    }


def galaxy_spectra(decoder: Decoder, n: int) -> Array:
    """Fine spectra (n, 3952) of random spaxels of a mock galaxy, with its dust."""
    galaxy = make_galaxy(MockConfig(shape=(64, 64)))
    random = np.random.default_rng(7)
    y, x = (index[random.choice(galaxy.inside.sum(), n)] for index in np.nonzero(galaxy.inside))
    spectra = [
        decoder.fine_spectra(
            torch.from_numpy(population_grid(galaxy, row, np.array([column]), decoder)),
            torch.tensor([galaxy.av[row, column]]).float(),
        )
        for row, column in zip(y, x, strict=True)
    ]
    return torch.cat(spectra).double().numpy()


def on_the_grid(fitter: KinematicFitter, ppxf: Ppxf, decoder: Decoder, n: int) -> list[dict[str, Any]]:
    """Every signal-to-noise ratio, and by dispersion for galprote."""
    fine = galaxy_spectra(decoder, n)
    velocity = np.random.default_rng(8).uniform(-MAX_VELOCITY, MAX_VELOCITY, n)
    dispersion = np.resize(DISPERSIONS, n)
    light = observed(fine, velocity, dispersion)
    rows = []
    for snr in SNR:
        spectra = rebinned(fitter, *noisy(light, snr, int(snr)))
        rows.append({"snr": snr} | compare(fitter, ppxf, spectra, velocity, dispersion))
        print(json.dumps(rows[-1]), flush=True)
    return rows


def by_dispersion(fitter: KinematicFitter, decoder: Decoder, n: int) -> list[dict[str, Any]]:
    """Galprote alone, many spectra at each dispersion."""
    fine = galaxy_spectra(decoder, n)
    velocity = np.random.default_rng(9).uniform(-MAX_VELOCITY, MAX_VELOCITY, n)
    rows: list[dict[str, Any]] = []
    for width in DISPERSIONS:
        dispersion = np.full(n, width)
        light = observed(fine, velocity, dispersion)
        for snr in SNR:
            spectra = rebinned(fitter, *noisy(light, snr, int(snr) + 1))
            start = time.process_time()
            found = fitter(*spectra)
            seconds = time.process_time() - start
            ours = np.array(found[:4], dtype=float)
            rows.append({"dispersion": width, "snr": snr} | summary(ours, velocity, dispersion, seconds, n))
            ok = np.isfinite(found.velocity)
            pull = (found.squared_dispersion - width**2) / found.squared_dispersion_error
            rows[-1]["squared_dispersion_pull"] = [float(pull[ok].mean()), float(pull[ok].std())]
    return rows


def in_a_mock(fitter: KinematicFitter, ppxf: Ppxf, decoder: Decoder, n: int) -> dict[str, Any]:
    """Spaxels of a rotating galaxy; galprote also on all of them."""
    config = MockConfig(shape=(60, 60), peak_snr=90, sky_noise=8.0)
    with tempfile.TemporaryDirectory() as folder:
        path = make_mock(config, Path(folder) / "MOCK.fits", decoder)
        with fits.open(path) as cube, fits.open(truth_path(path)) as truth:
            inside = np.isfinite(truth["V_STARS"].data)
            flux, variance = (cube[name].data[:, inside].T.astype(float) for name in ("DATA", "STAT"))
            velocity = truth["V_STARS"].data[inside].astype(float)
            snr = truth["SNR"].data[inside] / np.sqrt(2.4827 * (1 + config.redshift) / 1.25)
    spectra = rebinned(fitter, flux, variance, redshift=config.redshift, channels=config.wavelength)
    chosen = np.flatnonzero((snr > 30) & (snr < 40))[:n]
    few = (spectra[0][chosen], spectra[1][chosen])
    result = {"snr": "30-40"} | compare(fitter, ppxf, few, velocity[chosen], np.zeros(len(chosen)))
    all_of_it = np.array(fitter(*spectra)[:4], dtype=float)
    result["all_spaxels"] = []
    for low, high in ((3, 6), (6, 12), (12, 25), (25, 40), (40, 100)):
        rows = (snr >= low) & (snr < high)
        numbers = summary(all_of_it[:, rows], velocity[rows], np.zeros(rows.sum()), np.inf, int(rows.sum()))
        result["all_spaxels"].append({"snr": f"{low}-{high}"} | numbers)
    return result


def main() -> None:
    """Run all, print, and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--spectra", type=int, default=60, help="for pPXF, at each signal-to-noise ratio")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    decoder = load_checkpoint().decoder
    fitter, ppxf = KinematicFitter(decoder), Ppxf(decoder)
    result = {
        "mock": in_a_mock(fitter, ppxf, decoder, arguments.spectra),
        "by_dispersion": by_dispersion(fitter, decoder, 320),
        "grid": on_the_grid(fitter, ppxf, decoder, arguments.spectra),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
