"""Spectra of stars in motion on the channels of an instrument, made exactly, and rebinned as the pipeline does it."""

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from galprote.model.decoder import FINE_EDGES
from galprote.model.kinematics import C_KMS
from galprote.model.line_of_sight import KinematicFitter
from galprote.model.templates import broadening_matrix
from galprote.pipeline.rebin import edges_of, rebin_matrix

Array = NDArray[np.float64]
FineSpectra = NDArray[np.float64]

#: MUSE's channels, observed air wavelengths, Angstrom.
MUSE_CHANNELS = 4700.0 + 1.25 * np.arange(2080)
REDSHIFT = 0.008
#: As the pipeline should do it for kinematics: lines come out nearly as narrow as they are.
NODES = 8


def observed(
    fine: Array, velocity: Array, dispersion: Array, *, redshift: float = REDSHIFT, channels: Array = MUSE_CHANNELS
) -> Array:
    """Rest-frame spectra (n, 3952) on the decoder's fine grid, in motion, averaged over channels: (n, m).

    NaN where the fine grid does not reach. Dispersions may have few different values only: each has its own matrix.
    """
    step = FINE_EDGES[1] - FINE_EDGES[0]
    centres = (FINE_EDGES[1:] + FINE_EDGES[:-1]) / 2
    broad = fine.copy()
    for width in np.unique(dispersion[dispersion > 0]):
        rows = dispersion == width
        broad[rows] = (broadening_matrix(FINE_EDGES, centres * width / C_KMS) @ fine[rows].T).T
    edges = edges_of(channels)
    spectra = np.empty((len(fine), len(channels)))
    for row, speed in enumerate(velocity):
        cumulative = np.append(0.0, np.cumsum(broad[row] * step))
        rest = edges / ((1 + redshift) * (1 + speed / C_KMS))
        inside = (rest >= FINE_EDGES[0]) & (rest <= FINE_EDGES[-1])
        there = CubicSpline(FINE_EDGES, cumulative)(np.clip(rest, FINE_EDGES[0], FINE_EDGES[-1]))
        spectra[row] = np.where(inside[1:] & inside[:-1], np.diff(there) / np.diff(rest), np.nan)
    return spectra


def rebinned(
    fitter: KinematicFitter,
    flux: Array,
    variance: Array,
    *,
    redshift: float = REDSHIFT,
    channels: Array = MUSE_CHANNELS,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Flux and variance (n, m) on a fitter's samples, (n, L); missing where less than half is covered."""
    valid = np.isfinite(flux) & np.isfinite(variance) & (variance > 0)
    matrix = rebin_matrix(edges_of(channels), fitter.edges * (1 + redshift), nodes=NODES)
    weight = matrix @ valid.T.astype(float)
    weight[weight < 0.5] = np.nan
    mean = (matrix @ np.where(valid, flux, 0.0).T) / weight
    noise = (matrix.power(2) @ np.where(valid, variance, 0.0).T) / weight**2
    return mean.T.astype(np.float32), noise.T.astype(np.float32)


def noisy(spectra: Array, snr: Array | float, seed: int) -> tuple[Array, Array]:
    """Add uniform noise of a median signal-to-noise ratio per channel; flux and variance."""
    sigma = np.nanmedian(spectra, axis=1, keepdims=True) / np.reshape(snr, (-1, 1)) * np.ones_like(spectra)
    return spectra + sigma * np.random.default_rng(seed).standard_normal(spectra.shape), sigma**2
