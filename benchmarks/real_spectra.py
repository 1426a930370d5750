"""Real spectra that anyone can get from PyPI, fitted by the network and by pPXF with the same templates.

    python benchmarks/real_spectra.py [MaNGA_test_spectra.fits.gz] [--figures docs/images]

NGC 3522 and NGC 3073 (SDSS DR18) come with the package `ppxf`; the MaNGA spectra with `sdss-mangadap` (`make spectra`).
Both fits see the same samples of 4750-7101 A in the rest frame, with the same foreground removed, emission bands and
replaced samples left out, and the file's errors. pPXF gets the checkpoint's own templates at 0.62 A (light-normalised,
at MUSE's resolution), V and sigma free, A_V free from 0 to 3 with the curve that dims the network's templates.

- `regul 0`: the plain fit. Its errors are the scatter of 10 fits to its best fit with fresh noise (a parametric
  bootstrap, seeded), the noise scaled so that the plain fit has chi^2 / N = 1.
- `regul 100`: weights smoothed over age and [M/H], with the noise scaled likewise.
- `polynomials`: multiplicative ones to degree 10 in place of dust, for spectra whose calibration is not to be trusted.

Seconds are the processor's, of one core when OMP_NUM_THREADS is 1.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ppxf
import torch
from numpy.typing import NDArray
from ppxf.ppxf import ppxf as fit_ppxf

from galprote.model.checkpoint import load_checkpoint
from galprote.model.decoder import FINE_EDGES, Decoder
from galprote.model.extinction import extinction_curve
from galprote.model.grids import EDGES, STEP, WAVELENGTH
from galprote.model.kinematics import C_KMS
from galprote.model.populations import grid_means
from galprote.pipeline.readers.spectrum import Spectrum, read_spectrum
from galprote.pipeline.rebin import edges_of, rebin_matrix
from galprote.pipeline.single import SpectrumFit, fit_spectrum
from galprote.workflows.fit_figure import draw_fit

VELSCALE = 69.0  # SDSS' and MaNGA's, km/s
NOISE_DRAWS = 10
POLYNOMIALS = 10
#: E(B-V) of Schlafly & Finkbeiner, from the median reddening of the SDSS plate (header, REDDEN).
GALAXIES = {"NGC3522_SDSS_DR18": 0.0124, "NGC3073_SDSS_DR18": 0.0072}

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Answer:
    """Mean log age, [M/H], A_V, velocity, dispersion; chi^2 per sample; the fit itself."""

    values: Array
    chi2: float
    best: Array


class Templates:
    """The checkpoint's templates on a logarithmic axis, some samples longer than the spectra on both sides."""

    def __init__(self, decoder: Decoder) -> None:
        self.shape = decoder.shape
        step = VELSCALE / C_KMS
        n = int(np.log(EDGES[-1] / EDGES[0]) / step)
        pad = 24
        edges = EDGES[0] * np.exp(step * np.arange(-pad, n + pad + 1))
        fine = (decoder.coefficients @ decoder.components).double().numpy()
        self.flux = np.asarray(rebin_matrix(FINE_EDGES, edges) @ fine.T)
        self.wavelength = np.sqrt(edges[1:] * edges[:-1])
        self.edges = edges[pad : n + pad + 1]
        self.lam = np.sqrt(self.edges[1:] * self.edges[:-1])
        self.means = decoder.log_ages, decoder.metallicities


class Rival:
    """pPXF on one spectrum."""

    def __init__(self, templates: Templates, spectrum: Spectrum, fit: SpectrumFit) -> None:
        self.templates = templates
        rest = spectrum.wavelength / (1 + fit.redshift)
        dim = 10 ** (0.4 * fit.ebv * 3.1 * extinction_curve(spectrum.wavelength))
        good = np.isfinite(spectrum.flux) & (spectrum.variance > 0)
        matrix = rebin_matrix(edges_of(rest), templates.edges)
        self.flux = matrix @ np.where(good, spectrum.flux * dim, 0.0)
        self.noise = np.sqrt(matrix.power(2) @ np.where(good, spectrum.variance * dim**2, 0.0))
        whole = matrix @ good.astype(float)
        scale = np.median(self.flux)
        self.flux, self.noise = self.flux / scale, np.maximum(self.noise / scale, 1e-6)
        left_out = ~fit.used  # a sample of 2.48 A that is left out takes all that touch it along
        touches = np.zeros(len(self.flux), dtype=bool)
        for centre in WAVELENGTH[left_out]:
            touches |= (templates.edges[1:] > centre - STEP / 2) & (templates.edges[:-1] < centre + STEP / 2)
        self.good = np.flatnonzero((whole > 1 - 1e-3) & ~touches)

    def __call__(self, regul: float, noise: Array, flux: Array | None = None, mdegree: int = -1) -> Answer:
        """Fit; with multiplicative polynomials (`mdegree`) there is no dust, and the continuum's shape says nothing."""
        templates = self.templates
        dust = {
            "start": [0.3],
            "bounds": [[0.0, 3.0]],
            "component": np.ones(templates.flux.shape[1], dtype=bool),
            "func": lambda lam, av: 10 ** (-0.4 * av * extinction_curve(lam)),
        }
        found = fit_ppxf(
            templates.flux.reshape(-1, *templates.shape), self.flux if flux is None else flux, noise, VELSCALE,
            [0.0, 100.0], moments=2, degree=-1, mdegree=mdegree, dust=None if mdegree > 0 else [dust],
            goodpixels=self.good, lam=templates.lam, lam_temp=templates.wavelength,
            bounds=[[-500.0, 500.0], [5.0, 500.0]], regul=regul, quiet=True,
        )  # fmt: skip
        grid = (found.weights / found.weights.sum()).reshape(1, *templates.shape)
        log_age, metallicity = grid_means(grid, *templates.means)
        av = np.nan if mdegree > 0 else float(found.dust[0]["sol"][0])
        return Answer(np.array([log_age[0], metallicity[0], av, *found.sol[:2]]), float(found.chi2), found.bestfit)


def compare(spectrum: Spectrum, ebv: float, templates: Templates) -> list[str]:
    """Rows of the table."""
    begun = time.process_time()
    ours = fit_spectrum(spectrum, redshift=float(spectrum.redshift), ebv=ebv)
    seconds = time.process_time() - begun
    rival = Rival(templates, spectrum, ours)
    begun = time.process_time()
    plain = rival(0, rival.noise)
    seconds_plain = time.process_time() - begun
    noise = rival.noise * np.sqrt(plain.chi2)
    rng = np.random.default_rng(1)
    drawn = [rival(0, noise, plain.best + noise * rng.normal(size=len(noise))).values for _ in range(NOISE_DRAWS)]
    spread = np.std(drawn, axis=0)
    begun = time.process_time()
    smooth = rival(100, noise)
    seconds_smooth = time.process_time() - begun
    begun = time.process_time()
    lines = rival(0, rival.noise, mdegree=POLYNOMIALS)
    seconds_lines = time.process_time() - begun
    p = ours.populations
    pulls = (ours.flux - ours.model)[ours.used] / ours.error[ours.used]
    mine = np.array([p.log_age[0], p.metallicity[0], p.av[0], p.velocity[0], p.dispersion[0]])
    errors = np.array([p.log_age_error[0], p.metallicity_error[0], p.av_error[0], np.nan, np.nan])
    name = f"{spectrum.name} (S/N {ours.snr:.0f})"
    return [
        row(name, "galprote", mine, errors, float(np.mean(pulls**2)), seconds),
        row("", "pPXF, regul 0", plain.values, spread, plain.chi2, seconds_plain),
        row("", "pPXF, regul 100", smooth.values, np.full(5, np.nan), smooth.chi2 * plain.chi2, seconds_smooth),
        row("", "pPXF, polynomials", lines.values, np.full(5, np.nan), lines.chi2, seconds_lines),
    ]


def row(name: str, what: str, values: Array, errors: Array, chi2: float, seconds: float) -> str:
    """One row of the table."""
    digits = (2, 2, 2, 0, 0)
    cells = [
        (f"{value:.{n}f}" if np.isfinite(value) else "") + (f" ± {error:.{n}f}" if np.isfinite(error) else "")
        for value, error, n in zip(values, errors, digits, strict=True)
    ]
    return f"| {name} | {what} | " + " | ".join(cells) + f" | {chi2:.2f} | {seconds:.2f} |"


def main() -> None:
    """Fit, print, draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("manga", nargs="?", type=Path)
    parser.add_argument("--figures", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    templates = Templates(load_checkpoint().decoder)
    folder = Path(ppxf.__file__).parent / "spectra"
    spectra = [(read_spectrum(folder / f"{name}.fits"), ebv) for name, ebv in GALAXIES.items()]
    if options.manga:
        spectra += [(read_spectrum(options.manga, row=n), 0.0) for n in (0, 1, 2, 3, 4, 7)]
    fit_spectrum(spectra[0][0], redshift=float(spectra[0][0].redshift), ebv=0.0)  # the first one loads the weights
    print("| spectrum | fit | log age | [M/H] | A_V | V | σ | χ²/N | seconds |\n|---|---|---|---|---|---|---|---|---|")
    for spectrum, ebv in spectra:
        for line in compare(spectrum, ebv, templates):
            print(line, flush=True)
    if options.figures:
        for name, (spectrum, ebv) in zip(GALAXIES, spectra, strict=False):
            path = options.figures / f"fit-{name.split('_')[0].lower()}.png"
            draw_fit(fit_spectrum(spectrum, redshift=float(spectrum.redshift), ebv=ebv), path, "png")
            shrink(path)


def shrink(path: Path) -> None:
    """Keep 192 colours: half of the size."""
    from PIL import Image

    with Image.open(path) as image:
        small = image.convert("RGB").quantize(192, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


if __name__ == "__main__":
    main()
