"""Kinematics of a block's spectra, measured before they are fitted: each is then taken to its own rest frame."""

from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from galprote.model.line_of_sight import KinematicFitter, Kinematics, positive_root
from galprote.model.predictor import Predictor
from galprote.pipeline.moving import preprocess_moving
from galprote.pipeline.preprocess import SpectraBatch
from galprote.pipeline.rebin import edges_of, rebin_matrix
from galprote.pipeline.resolution import broadened_matrix
from galprote.pipeline.rest_frame import LARGEST_FLUX, PreprocessSettings, is_variance
from galprote.pipeline.spectral_masks import touched

#: Edges that the rebinning's polynomials go through: lines stay narrower than with the customary four.
NODES: Final = 8

#: What a batch knows of spectra that are not to be fitted, too.
_OF_ALL: Final = ("flux", "snr", "filled_fraction", "replaced")


def measure_motion(
    flux: NDArray[np.float32],
    variance: NDArray[np.float32],
    settings: PreprocessSettings,
    fitter: KinematicFitter,
) -> Kinematics:
    """Measure velocities and dispersions.

    Parameters
    ----------
    flux, variance : (m, n) float32
        Native spectra.
    settings : PreprocessSettings
        Their wavelengths, the galaxy's redshift, masks and the broadening to the templates' resolution are heeded.
    fitter : KinematicFitter

    Returns
    -------
    Kinematics
        Of the n spectra, relative to the galaxy's redshift.
    """
    rebin, covered = _matrix(settings, fitter)
    channels = touched(edges_of(np.array(settings.wavelength)), settings.masks.observed)
    good = (np.abs(flux) < LARGEST_FLUX) & is_variance(variance) & ~channels[:, None]
    whole = bool(good.all())
    values, noise = (part if whole else np.where(good, part, np.float32(0)) for part in (flux, variance))
    weight = covered[:, None] if whole else rebin @ good.astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, squared = (rebin @ values) / weight, (rebin.multiply(rebin) @ noise) / weight**2
    missing = np.broadcast_to(weight < 0.5, mean.shape)
    mean[missing] = np.nan
    mean[touched(fitter.edges, settings.masks.rest)] = np.nan
    return fitter(*(np.ascontiguousarray(part.T, dtype=np.float32) for part in (mean, squared)))


def settle(
    batch: SpectraBatch,
    flux: NDArray[np.float32],
    variance: NDArray[np.float32],
    settings: PreprocessSettings,
    fitter: KinematicFitter,
    excess_square: float = 0.0,
) -> tuple[SpectraBatch, NDArray[np.float64], dict[str, NDArray[np.float32]]]:
    """Measure the spectra of a batch that are to be fitted, and prepare them anew, each at its own redshift.

    Parameters
    ----------
    batch : SpectraBatch
        Prepared at the galaxy's redshift.
    flux, variance : (m, n) float32
        What it was prepared of.
    settings : PreprocessSettings
    fitter : KinematicFitter
    excess_square : float
        Squared dispersion, (km/s)^2, that the instrument adds to the stars': it is taken out.

    Returns
    -------
    batch : SpectraBatch
    redshift : (k,) float64
        Of the spectra that are to be fitted.
    motion : dict of (k,) float32
        Velocities, dispersions and their errors by the maps' names, km/s.
    """
    mine = np.flatnonzero(batch.fitted)
    found = measure_motion(np.take(flux, mine, axis=1), np.take(variance, mine, axis=1), settings, fitter)
    velocity = np.full(len(batch.status), np.nan, dtype=np.float32)
    velocity[mine] = found.velocity
    settled = np.where(batch.fitted, 0, batch.status).astype(np.int32)
    moved, redshift = preprocess_moving(flux, variance, settings, velocity, settled)
    known: dict[str, Any] = {
        name: np.where(batch.fitted, getattr(moved, name), getattr(batch, name)) for name in _OF_ALL
    }
    still = moved.fitted[mine]  # at the edge of a threshold another redshift may decide
    dispersion, dispersion_error = found.dispersion, found.dispersion_error
    if excess_square:
        squares = (found.squared_dispersion - np.float32(excess_square), found.squared_dispersion_error)
        roots = positive_root(*(torch.from_numpy(values).double() for values in squares))
        dispersion, dispersion_error = (values.float().numpy() for values in roots)
    motion = {
        "v_stars": found.velocity,
        "v_stars_error": found.velocity_error,
        "sigma_stars": dispersion,
        "sigma_stars_error": dispersion_error,
    }
    return replace(moved, **known), redshift, {name: values[still] for name, values in motion.items()}


@lru_cache(maxsize=8)
def _matrix(settings: PreprocessSettings, fitter: KinematicFitter) -> tuple[csr_array, NDArray[np.float32]]:
    """From native channels to the fitter's samples, and which share of these the channels cover."""
    wavelength = np.array(settings.wavelength)
    if settings.broadening:
        rebin = broadened_matrix(wavelength, settings.redshift, np.array(settings.broadening), fitter.edges)
    else:
        rebin = rebin_matrix(edges_of(wavelength), fitter.edges * (1 + settings.redshift), nodes=NODES)
    return rebin, np.asarray(rebin.sum(axis=1), dtype=np.float32)


@lru_cache(maxsize=4)
def shared_fitter(predictor: Predictor, max_velocity_kms: float) -> KinematicFitter:
    """The fitter of a predictor's templates, on its device; made once."""
    return KinematicFitter(predictor.checkpoint.decoder, predictor.device, max_velocity_kms=max_velocity_kms)
