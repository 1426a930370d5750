"""The model's spectra on a cube's own channels, as observed, and their error: what is subtracted for emission lines."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from galprote.model.predictor import Predictions, Predictor
from galprote.model.reconstruction import LOG_EDGES, Reconstruction
from galprote.pipeline.continuum_error import spread_parts
from galprote.pipeline.rebin import edges_of, rebin_matrix
from galprote.pipeline.rest_frame import PreprocessSettings, foreground_extinction


def native_continuum(
    found: Predictions,
    scale: NDArray[np.float32],
    redshift: NDArray[np.float64],
    settings: PreprocessSettings,
    predictor: Predictor,
) -> NDArray[np.float32]:
    """Model spectra on a cube's native channels, as observed: redshifted and behind the foreground dust.

    Parameters
    ----------
    found : Predictions
        Of k spectra.
    scale : (k,) float32
        What their model spectra are multiplied by.
    redshift : (k,) float64
        Theirs.
    settings : PreprocessSettings
    predictor : Predictor

    Returns
    -------
    (m, k) float32
        The cube's unit; NaN in channels beyond the templates' range.
    """
    dim = (10 ** (-0.4 * foreground_extinction(settings))).astype(np.float32)
    continuum = np.full((len(dim), len(scale)), np.nan, dtype=np.float32)
    answer = (found.grid, found.av, found.dispersion, found.velocity)
    for rows, spectra, median in _reconstruction(predictor).columns(*answer):
        factor = scale[rows] / median
        for common in np.unique(redshift[rows]):
            mine = np.flatnonzero(redshift[rows] == common)
            inside, matrix = _native_matrix(settings.wavelength, float(common))
            whole = len(mine) == len(median)
            native = matrix @ (spectra if whole else np.ascontiguousarray(spectra[:, mine]))
            native *= dim[inside, None]
            native *= factor[mine]
            continuum[inside, rows if whole else rows.start + mine] = native
    return continuum


@lru_cache(maxsize=128)
def _native_matrix(wavelength: tuple[float, ...], redshift: float) -> tuple[slice, csr_array]:
    """Channels that the templates reach at a redshift, and the matrix that makes them of the templates' samples."""
    edges = edges_of(np.array(wavelength))
    fine = LOG_EDGES * (1 + redshift)
    inside = np.flatnonzero((edges[:-1] >= fine[0]) & (edges[1:] <= fine[-1]))
    return slice(inside[0], inside[-1] + 1), rebin_matrix(fine, edges[inside[0] : inside[-1] + 2])


def native_continuum_error(
    model_error: NDArray[np.float32], scale: NDArray[np.float32], settings: PreprocessSettings
) -> NDArray[np.float32]:
    """Error of `native_continuum`, (m, k) float32: the model spectrum's, by parts of the spectrum (k, PARTS).

    Zero from weights without appraisal: what is subtracted with them has the noise's error alone.
    """
    wavelength = np.array(settings.wavelength)
    dim = (10 ** (-0.4 * foreground_extinction(settings))).astype(np.float32)
    parts = spread_parts(wavelength / (1 + settings.redshift)) * dim[:, None]
    return np.asarray(parts @ np.ascontiguousarray((np.nan_to_num(model_error) * scale[:, None]).T), dtype=np.float32)


@lru_cache(maxsize=2)
def _reconstruction(predictor: Predictor) -> Reconstruction:
    """Made when it is first wanted: most surveys do without."""
    return Reconstruction(predictor.checkpoint.decoder, predictor.model.config.visible)
