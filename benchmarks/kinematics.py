"""Kinematics measured by galprote and by pPXF on the same spectra with the same templates, and how long both take.

    OMP_NUM_THREADS=1 python benchmarks/kinematics.py [--spectra 30] [--json benchmarks/kinematics.json]

Two sets. `grid`: stars of a mock galaxy's spaxels, with dust, at velocities to 400 km/s and dispersions of 0 to
250 km/s, on MUSE's channels with Gaussian noise. `mock`: spaxels of a mock cube with its rotation, gas, sky residuals
and bad variances, S/N 30 to 40 per channel. Both codes get the same rebinned spectra, noise and masks; pPXF (Cappellari
2023) fits all 636 templates, additive polynomials of degree 8 and two moments, once a spectrum. One core, process time.
`by_dispersion` is galprote alone, on more spectra; `network` compares with what the network finds along the way.
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from astropy.io import fits
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

sys.path.insert(0, str(Path(__file__).parents[1]))

from galprote.model.checkpoint import load_checkpoint
from galprote.model.decoder import FINE_EDGES, Decoder
from galprote.model.grids import STEP
from galprote.model.kinematics import C_KMS
from galprote.model.line_of_sight import KinematicFitter
from galprote.model.line_spectra import GAS_KMS, starlight
from galprote.model.line_templates import LOG_EDGES, MARGIN, SAMPLE_KMS, SAMPLES
from galprote.model.predictor import Predictor
from galprote.pipeline.line_filter import LineFilterConfig
from galprote.pipeline.mock import MockConfig, make_mock, truth_path
from galprote.pipeline.mock_galaxy import CHANNEL, make_galaxy
from galprote.pipeline.mock_spectra import population_grid
from galprote.pipeline.preprocess import PreprocessSettings, preprocess
from tests.moving_spectra import noisy, observed, rebinned

Array = NDArray[np.float64]
SNR = (10.0, 20.0, 35.0, 60.0)
DISPERSIONS = (0.0, 50.0, 100.0, 150.0, 250.0)
MAX_VELOCITY = 400.0
SNR_RANGES = ((3, 6), (6, 12), (12, 25), (25, 40), (40, 100))


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


def summary(found: Array, velocity: Array, dispersion: Array, seconds: float | None) -> dict[str, float]:
    """Means and scatters of what was measured."""
    wanted = len(velocity)
    ok = np.isfinite(found[0])
    off, wide = found[0][ok] - velocity[ok], found[2][ok] - dispersion[ok]
    speed = {} if seconds is None else {"spectra_per_second": wanted / seconds}
    return speed | {
        "spectra": wanted,
        "measured": int(ok.sum()),
        "velocity_bias": float(off.mean()),
        "velocity_rms": float(np.sqrt(np.mean(off**2))),
        "velocity_error": float(np.median(found[1][ok])),
        "velocity_pull": float((off / found[1][ok]).std()),
        "dispersion_bias": float(wide.mean()),
        "dispersion_rms": float(np.sqrt(np.mean(wide**2))),
        "dispersion_error": float(np.median(found[3][ok])),
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
    return {
        "galprote": summary(ours, velocity, dispersion, (between - start) / repeats),
        "ppxf": summary(theirs, velocity, dispersion, end - between),
        "ppxf_where_galprote_measures": summary(theirs[:, both], velocity[both], dispersion[both], end - between),
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
            rows.append({"dispersion": width, "snr": snr} | summary(ours, velocity, dispersion, seconds))
            ok = np.isfinite(found.velocity)
            pull = (found.squared_dispersion - width**2) / found.squared_dispersion_error
            rows[-1]["squared_dispersion_pull"] = [float(pull[ok].mean()), float(pull[ok].std())]
    return rows


class Spaxels(NamedTuple):
    """Spectra of a mock cube, (n, m), with true velocities in km/s and signal-to-noise ratios per channel, (n,)."""

    config: MockConfig
    flux: Array
    variance: Array
    velocity: Array
    snr: Array

    def rebinned(self, fitter: KinematicFitter) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """On a fitter's samples."""
        config = self.config
        return rebinned(fitter, self.flux, self.variance, redshift=config.redshift, channels=config.wavelength)


def mock_spaxels(decoder: Decoder, rotation_kms: float) -> Spaxels:
    """Make a mock cube with all that mocks have."""
    config = MockConfig(shape=(60, 60), peak_snr=90, sky_noise=8.0, rotation_kms=rotation_kms)
    with tempfile.TemporaryDirectory() as folder:
        path = make_mock(config, Path(folder) / "MOCK.fits", decoder)
        with fits.open(path) as cube, fits.open(truth_path(path)) as truth:
            inside = np.isfinite(truth["V_STARS"].data)
            flux, variance = (cube[name].data[:, inside].T.astype(float) for name in ("DATA", "STAT"))
            velocity = truth["V_STARS"].data[inside].astype(float)
            snr = truth["SNR"].data[inside] / np.sqrt(STEP * (1 + config.redshift) / CHANNEL)
    return Spaxels(config, flux, variance, velocity, snr)


def in_a_mock(fitter: KinematicFitter, ppxf: Ppxf, decoder: Decoder, n: int) -> dict[str, Any]:
    """Spaxels of a rotating galaxy; galprote also on all of them."""
    spaxels = mock_spaxels(decoder, 60.0)
    spectra, velocity = spaxels.rebinned(fitter), spaxels.velocity
    chosen = np.flatnonzero((spaxels.snr > 30) & (spaxels.snr < 40))[:n]
    few = (spectra[0][chosen], spectra[1][chosen])
    result = {"snr": "30-40"} | compare(fitter, ppxf, few, velocity[chosen], np.zeros(len(chosen)))
    all_of_it = np.array(fitter(*spectra)[:4], dtype=float)
    result["all_spaxels"] = []
    for low, high in SNR_RANGES:
        rows = (spaxels.snr >= low) & (spaxels.snr < high)
        numbers = summary(all_of_it[:, rows], velocity[rows], np.zeros(rows.sum()), None)
        result["all_spaxels"].append({"snr": f"{low}-{high}"} | numbers)
    return result


def beside_the_network(fitter: KinematicFitter, decoder: Decoder) -> list[dict[str, Any]]:
    """The velocities that the shipped network finds along the way, in a slow and a faster galaxy; rms in km/s."""
    predictor, rows = Predictor(load_checkpoint()), []
    for rotation in (60.0, 180.0):
        spaxels = mock_spaxels(decoder, rotation)
        config = spaxels.config
        settings = PreprocessSettings(
            tuple(config.wavelength.tolist()), config.redshift, config.ebv, "O94", 3.1, LineFilterConfig(), 0.0, 0.25
        )
        batch = preprocess(*(part.T.astype(np.float32) for part in (spaxels.flux, spaxels.variance)), settings)
        network = np.full(len(spaxels.velocity), np.nan)
        network[batch.fitted] = predictor(batch.spectra, batch.noise, 0.01, config.redshift).velocity
        ours = fitter(*spaxels.rebinned(fitter)).velocity
        for low, high in SNR_RANGES:
            both = (spaxels.snr >= low) & (spaxels.snr < high) & np.isfinite(network) & np.isfinite(ours)
            rms = [float(np.sqrt(np.mean((found - spaxels.velocity)[both] ** 2))) for found in (ours, network)]
            row = {"rotation": rotation, "snr": f"{low}-{high}", "spectra": int(both.sum())}
            rows.append(row | dict(zip(("galprote", "network"), rms, strict=True)))
    return rows


def main() -> None:
    """Run all or some parts, print, and write; parts that were not run stay in the file as they are."""
    parts: dict[str, Callable[[], Any]] = {
        "mock": lambda: in_a_mock(fitter, ppxf, decoder, arguments.spectra),
        "by_dispersion": lambda: by_dispersion(fitter, decoder, 320),
        "network": lambda: beside_the_network(fitter, decoder),
        "grid": lambda: on_the_grid(fitter, ppxf, decoder, arguments.spectra),
    }
    parser = argparse.ArgumentParser()
    parser.add_argument("--spectra", type=int, default=30, help="for pPXF, at each signal-to-noise ratio")
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    decoder = load_checkpoint().decoder
    fitter, ppxf = KinematicFitter(decoder), Ppxf(decoder)
    known = json.loads(arguments.json.read_text()) if arguments.json and arguments.json.is_file() else {}
    text = json.dumps(known | {name: parts[name]() for name in arguments.parts}, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
