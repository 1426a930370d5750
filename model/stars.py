"""Spectra of single stars, for telling them from galaxies: from a library, or rough ones made here.

Shapes: S stars, M samples of `STAR_WAVELENGTH`.
"""

from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
import torch
from astropy.io import fits
from numpy.typing import NDArray
from torch import Tensor

from galprote.model.errors import LibraryError
from galprote.model.grids import STEP, WAVELENGTH

#: Where stars are kept: wide enough for galaxies up to a redshift of 0.03, air Angstrom.
STAR_STEP: Final = STEP / 4
STAR_WAVELENGTH: Final[NDArray[np.float64]] = np.arange(4690.0, 7330.0, STAR_STEP)

#: Absorption lines of hot and of cool stars: wavelength, equivalent width scale, Gaussian width, Angstrom.
BALMER: Final = (4861.33, 6562.80)
HELIUM: Final = (4713.1, 4921.9, 5015.7, 5875.6, 6678.2)
METALS: Final = (
    4957.5, 5015.0, 5167.3, 5172.7, 5183.6, 5227.2, 5269.8, 5328.3, 5371.5, 5406.0, 5446.9, 5528.4, 5615.6, 5709.4,
    5782.2, 5890.0, 5895.9, 6065.5, 6102.7, 6122.2, 6162.2, 6191.6, 6230.7, 6336.1, 6393.6, 6439.1, 6494.9, 6717.7,
)  # fmt: skip
#: Heads of TiO bands, Angstrom, and their relative depth (Kirkpatrick et al. 1991, ApJS 77, 417).
TITANIUM_OXIDE: Final = ((4761.0, 0.5), (4954.0, 0.7), (5167.0, 0.8), (5448.0, 0.5), (5847.0, 0.5), (6158.0, 0.9),
                         (6651.0, 0.7), (7053.0, 1.0))  # fmt: skip


def read_stars(path: Path) -> Tensor:
    """Read a library of stars at about the resolution of MUSE: MILES or STELIB, for instance.

    Parameters
    ----------
    path : Path
        A folder of FITS spectra (`CRVAL1`, `CDELT1`; air wavelengths), or an `.npz` of `wave` (m,) and `flux` (S, m).

    Returns
    -------
    (S, M) float32
        On `STAR_WAVELENGTH`, median one; those that do not cover it are left out.

    Raises
    ------
    LibraryError
        If there is none.
    """
    try:
        spectra = _read_all(path)
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise LibraryError(f"{path}: cannot be read as stars: {error}") from error
    stars = [_on_grid(*pair) for pair in spectra]
    usable = [star for star in stars if star is not None]
    if not usable:
        raise LibraryError(
            f"{path}: no spectrum of a star between {STAR_WAVELENGTH[0]:.0f} and {STAR_WAVELENGTH[-1]:.0f} A; expected "
            "a folder of FITS files with CRVAL1 and CDELT1, or an .npz file of wave and flux"
        )
    return torch.from_numpy(np.stack(usable))


def _read_all(path: Path) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    if path.is_dir():
        return [_read_star(file) for file in sorted(path.glob("*.fits*"))]
    if not path.is_file() or path.suffix != ".npz":
        return []
    with np.load(path, allow_pickle=False) as arrays:
        if not {"wave", "flux"} <= set(arrays) or np.ptp(np.diff(arrays["wave"])) > 1e-3:
            raise LibraryError(f"{path}: expected arrays wave (m,), in equal steps, and flux (n, m)")
        return [(arrays["wave"].astype(np.float64), row) for row in arrays["flux"].astype(np.float64)]


def _read_star(file: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    try:
        with fits.open(file) as hdus:
            header, flux = hdus[0].header, np.asarray(hdus[0].data, dtype=np.float64).ravel()
    except (OSError, ValueError, TypeError) as error:
        raise LibraryError(f"{file}: cannot be read: {error}") from error
    step = float(header.get("CDELT1", header.get("CD1_1", 0.0)))
    if "CRVAL1" not in header or step <= 0:
        raise LibraryError(f"{file}: no wavelength axis (CRVAL1 and CDELT1 or CD1_1)")
    first = float(header["CRVAL1"]) + step * (1.0 - float(header.get("CRPIX1", 1.0)))
    return first + step * np.arange(len(flux), dtype=np.float64), flux


def _on_grid(wavelength: NDArray[np.float64], flux: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """Mean flux in samples as wide as the model's, None if there is none of all or half of it is not positive."""
    good = np.isfinite(flux)
    if wavelength[0] > STAR_WAVELENGTH[0] or wavelength[-1] < STAR_WAVELENGTH[-1] or good.mean() < 0.9:
        return None
    cumulative = np.concatenate([[0.0], np.cumsum(np.interp(wavelength, wavelength[good], flux[good]))])
    step = wavelength[1] - wavelength[0]
    edges = wavelength[0] - step / 2 + step * np.arange(len(cumulative))
    upper, lower = (np.interp(STAR_WAVELENGTH + side * STEP / 2, edges, cumulative) for side in (1, -1))
    star = upper - lower
    median = np.median(star)
    return (star / median).astype(np.float32) if median > 0 and (star > 0).mean() > 0.9 else None


def rough_stars(n: int, seed: int) -> Tensor:
    """Rough stars from 2,800 to 40,000 K: black bodies with the lines that such stars have, (n, M) float32.

    Balmer lines are deepest at 9,500 K, helium from 15,000 K, metal lines below 7,500 K, bands of TiO below 4,000 K.
    They stand in for a library where there is none; depths follow Gray & Corbally (2009), chapters 4 to 9, by eye.
    """
    random = np.random.default_rng(seed)
    temperature = np.exp(random.uniform(np.log(2800.0), np.log(40_000.0), n))[:, None]
    wave = STAR_WAVELENGTH
    flux = wave**-5.0 / np.expm1(1.43878e8 / (wave * temperature))
    metals = 10 ** random.normal(0.0, 0.2, (n, 1))
    balmer = 0.65 * np.exp(-((np.log(temperature / 9500.0) / np.where(temperature > 9500, 0.6, 0.35)) ** 2)) + 0.05
    width = 3.0 + 9.0 * balmer * random.uniform(0.6, 1.4, (n, 1))
    iron = 0.4 * metals / (1 + (temperature / 5800.0) ** 8)
    helium = 0.15 / (1 + (15_000.0 / temperature) ** 10)
    depth = balmer * _lines(BALMER, width) + helium * _lines(HELIUM, np.array([[2.5]]))
    depth += iron * _lines(METALS, np.array([[2.0]])) * (1 + 0.3 * random.normal(0.0, 1.0, (n, 1)))
    flux *= np.exp(-np.clip(depth, 0.0, 3.0))
    titanium = 1.6 * metals / (1 + (temperature / 3500.0) ** 14)
    for head, strength in TITANIUM_OXIDE:
        offset = wave - head
        flux *= np.exp(-titanium * strength * (offset > 0) * np.exp(-np.maximum(offset, 0) / 110.0))
    return torch.from_numpy((flux / np.median(flux, axis=1, keepdims=True)).astype(np.float32))


def _lines(centres: tuple[float, ...], width: NDArray[np.float64]) -> NDArray[np.float64]:
    profiles = [np.exp(-0.5 * ((STAR_WAVELENGTH - centre) / width) ** 2) for centre in centres]
    return np.asarray(np.sum(profiles, axis=0))


def at_velocity(stars: Tensor, factor: Tensor) -> Tensor:
    """Stars (B, M) on the model's samples when wavelengths are `factor` (B, 1) times the model's: (B, 948).

    Linear between samples of a quarter of the model's width; the ends are repeated.
    """
    wanted = torch.from_numpy(WAVELENGTH).to(factor) * factor
    place = ((wanted - float(STAR_WAVELENGTH[0])) / STAR_STEP).clamp(0, stars.shape[1] - 1.001)
    below = place.long()
    share = place - below
    return stars.gather(1, below) * (1 - share) + stars.gather(1, below + 1) * share
