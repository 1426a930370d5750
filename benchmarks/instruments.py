"""The same stars through other instruments, from file to maps.

    python benchmarks/instruments.py

Writes one field of 400 populations in the layouts of MUSE, MaNGA (vacuum, logarithmic channels, resolving power
1900) and CALIFA (6 A), maps each with the shipped weights, and prints rms errors (and means) of log age, [M/H] and A_V
of spaxels with S/N 60 per 2.48 A; stars of 80 km/s.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import xarray as xr
from astropy.io import fits
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from galprote.model.bench import Bench, clean_config, parameters
from galprote.model.checkpoint import load_checkpoint
from galprote.model.decoder import FINE_EDGES
from galprote.model.extinction import extinction_curve
from galprote.model.kinematics import C_KMS
from galprote.model.line_spread import FWHM_PER_SIGMA, MUSE, LineSpread
from galprote.model.populations import grid_means
from galprote.model.predictor import Predictor
from galprote.model.templates import broadening_matrix
from galprote.pipeline.config import read_survey
from galprote.pipeline.readers.axis import vacuum_to_air
from galprote.pipeline.rebin import edges_of
from galprote.workflows.progress import make_progress
from galprote.workflows.survey import run_survey
from galprote.workflows.terminal import console

SIDE, REDSHIFT, DISPERSION_KMS, SNR = 20, 0.02, 80.0, 60.0
CENTRES = (FINE_EDGES[1:] + FINE_EDGES[:-1]) / 2

Array = NDArray[np.float64]


def drawn(fine: Array, law: LineSpread, edges: Array) -> Array:
    """Mean flux between observed air edges of rest-frame spectra (n, 3952), through an instrument: (n, m).

    What is sharper than the templates stays as sharp as they are.
    """
    wanted = law.fwhm_at(CENTRES * (1 + REDSHIFT)) / (1 + REDSHIFT)
    sigma = np.sqrt(np.maximum(wanted**2 - MUSE.fwhm_at(CENTRES) ** 2, 0.0)) / FWHM_PER_SIGMA
    wide = (broadening_matrix(FINE_EDGES, np.hypot(sigma, CENTRES * DISPERSION_KMS / C_KMS)) @ fine.T).T
    step = FINE_EDGES[1] - FINE_EDGES[0]
    cumulative = np.concatenate([np.zeros((len(wide), 1)), wide.cumsum(axis=1) * step], axis=1)
    rest = edges / (1 + REDSHIFT)
    found: Array = np.diff(CubicSpline(FINE_EDGES, cumulative, axis=1)(rest), axis=1) / np.diff(rest)
    return found


def observe(fine: Array, law: LineSpread, wavelength: Array) -> tuple[Array, Array]:
    """Flux and variance (m, SIDE, SIDE) with noise, in 1e-17 erg/s/cm2/A."""
    flux = drawn(fine, law, edges_of(wavelength)).T
    flux /= np.median(flux, axis=0)
    channel = np.gradient(wavelength)[:, None] / (1 + REDSHIFT)
    sigma = np.broadcast_to(np.sqrt(2.48 / channel) / SNR, flux.shape)
    noisy = flux + sigma * np.random.default_rng(7).standard_normal(flux.shape)
    shape = (len(wavelength), SIDE, SIDE)
    return noisy.reshape(shape), (sigma**2).reshape(shape)


def image(values: Array, name: str, **cards: str | float) -> fits.ImageHDU:
    """An image extension."""
    hdu = fits.ImageHDU(values.astype(">f4" if name != "WAVE" else ">f8"), name=name)
    hdu.header.update(cards)
    return hdu


def write_all(folder: Path, fine: Array) -> None:
    """Write the three files."""
    unit, axis = "1e-17 erg/s/cm2/Angstrom", {"CTYPE3": "AWAV", "CUNIT3": "Angstrom", "CRPIX3": 1.0}
    wave = np.arange(4790.0, 7290.0, 1.25)
    flux, variance = observe(fine, MUSE, wave)
    cards = axis | {"CRVAL3": wave[0], "CD3_3": 1.25, "BUNIT": unit}
    fits.HDUList([fits.PrimaryHDU(), image(flux, "DATA", **cards), image(variance, "STAT")]).writeto(
        folder / "MUSE.fits"
    )
    vacuum = 10 ** np.arange(np.log10(4790.0), np.log10(7290.0), 1e-4)
    law = LineSpread(resolving_power=1900.0)
    air = vacuum_to_air(vacuum)
    flux, variance = observe(fine, law, air)
    sigma = np.broadcast_to((law.fwhm_at(air) / FWHM_PER_SIGMA)[:, None, None], flux.shape)
    primary = fits.PrimaryHDU()
    primary.header["MANGAID"] = "1-1"
    fits.HDUList([
        primary, image(flux, "FLUX", BUNIT="1E-17 erg/s/cm^2/Ang/spaxel"), image(1 / variance, "IVAR"),
        fits.ImageHDU(np.zeros(flux.shape, np.int32), name="MASK"), image(sigma, "LSFPRE"), image(vacuum, "WAVE"),
    ]).writeto(folder / "MaNGA.fits")  # fmt: skip
    wave = np.arange(4701.0, 7301.0, 2.0) + 80
    flux, variance = observe(fine, LineSpread(fwhm=6.0), wave)
    primary = fits.PrimaryHDU((flux / 10).astype(">f4"))
    primary.header.update({"CRVAL3": wave[0], "CRPIX3": 1.0, "CDELT3": 2.0})
    extensions = [image(np.sqrt(variance) / 10, "ERROR"), image(np.ones(flux.shape), "ERRWEIGHT")]
    bad = fits.ImageHDU(np.zeros(flux.shape, np.uint8), name="BADPIX")
    fits.HDUList([primary, *extensions, bad]).writeto(folder / "CALIFA.fits")


def main() -> None:
    """Print a table in Markdown."""
    checkpoint = load_checkpoint()
    decoder = checkpoint.decoder
    grid, av, _, _ = parameters(Bench(Predictor(checkpoint)).stream(clean_config()), SIDE**2)
    dust = 10 ** (-0.4 * av.numpy()[:, None] * extinction_curve(CENTRES))
    fine = (grid.flatten(1) @ decoder.coefficients @ decoder.components).double().numpy() * dust
    age, metallicity = grid_means(grid.numpy(), decoder.log_ages, decoder.metallicities)
    truth = {"age_lw": age, "metallicity_lw": metallicity, "av": av.numpy()}
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_all(folder, fine)
        names = ("MUSE", "MaNGA", "CALIFA")
        one = f"cube: '{{name}}.fits', redshift: {REDSHIFT}, foreground: {{ebv: 0}}"
        entries = "".join(f"  - {{name: {n}, {one}}}\n" for n in names)
        (folder / "s.yaml").write_text(f"output: out\ncluster: {{workers: 1, dashboard: null}}\ngalaxies:\n{entries}")
        with make_progress(console) as progress:
            run_survey(read_survey(folder / "s.yaml"), progress)
        print("| | log age | [M/H] | A_V | trust |\n|---|---|---|---|---|")
        for n in names:
            with xr.open_zarr(folder / "out" / f"{n}.zarr") as maps:
                errors = [maps[key].values.ravel() - value for key, value in truth.items()]
                cells = [f"{np.sqrt(np.nanmean(e**2)):.3f} ({np.nanmean(e):+.3f})" for e in errors]
                print(f"| {n} | " + " | ".join(cells) + f" | {np.nanmedian(maps.trust.values):.2f} |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
