"""Fit spectra from a notebook: the same code path that the cubes take."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from galprote.model.extinction import ExtinctionLaw
from galprote.model.grids import EDGES, STEP
from galprote.model.populations import Populations
from galprote.model.predictor import resolve_device, shared_predictor
from galprote.pipeline.block import BlockSettings, populations_of, predict_block, prepare_block
from galprote.pipeline.preprocess import LineFilterConfig, PreprocessSettings
from galprote.pipeline.readers.axis import vacuum_to_air
from galprote.pipeline.readers.noise import der_snr_variance
from galprote.pipeline.rebin import edges_of


def fit_spectra(
    wavelength: ArrayLike,
    flux: ArrayLike,
    variance: ArrayLike | None = None,
    *,
    redshift: float = 0.0,
    ebv: float = 0.0,
    vacuum: bool = False,
    checkpoint: str | Path | None = None,
    law: ExtinctionLaw = "O94",
    r_v: float = 3.1,
    snr_min: float = 0.0,
    max_filled: float = 0.25,
    line_filter: LineFilterConfig | None = None,
    device: str = "cpu",
) -> Populations:
    """Fit stellar populations to observed spectra.

    Parameters
    ----------
    wavelength : (m,) float
        Observed wavelengths (bin centres), Angstrom, increasing.
    flux : (n, m) or (m,) float
        Flux per unit wavelength, any unit; NaN where there are no data.
    variance : (n, m) or (m,) float, optional
        In the flux unit squared. Without it the noise is estimated from the spectrum (DER_SNR, Stoehr et al. 2008).
    redshift : float
        Barycentric, of all the spectra.
    ebv : float
        Foreground E(B-V) to remove, mag.
    vacuum : bool
        Whether `wavelength` is in vacuum.
    checkpoint : str or Path, optional
        The shipped one by default.
    law : {"O94", "CCM89", "F99", "G23"}
        Law of the foreground dust.
    r_v : float
        Its R_V.
    snr_min : float
        Spectra with a lower signal-to-noise ratio per 2.48 A are not fitted.
    max_filled : float
        Spectra with a larger share of the model's samples missing are not fitted.
    line_filter : LineFilterConfig, optional
    device : {"cpu", "cuda", "auto"}

    Returns
    -------
    Populations
        Of n spectra.

    Raises
    ------
    ValueError
        If shapes do not match, wavelengths do not increase, or the model's window (4748-7102 A in the rest frame) is
        not covered.

    Examples
    --------
    >>> result = fit_spectra(wavelength, flux, variance, redshift=0.008, ebv=0.03)  # doctest: +SKIP
    >>> result.log_age, result.metallicity, result.av  # doctest: +SKIP
    """
    axis = np.asarray(wavelength, dtype=np.float64)
    if axis.ndim != 1 or len(axis) < 5 or not np.all(np.diff(axis) > 0):
        raise ValueError(f"wavelength: shape {axis.shape}; expected one increasing axis of bin centres in Angstrom")
    spectra = np.atleast_2d(np.asarray(flux, dtype=np.float32))
    if spectra.ndim != 2 or spectra.shape[1] != len(axis):
        raise ValueError(
            f"flux: shape {spectra.shape}; expected (n, {len(axis)}) as wavelength has {len(axis)} samples"
        )
    if vacuum:
        axis = vacuum_to_air(axis)
    _check_coverage(axis, redshift)
    if variance is None:
        noise = der_snr_variance(spectra.T)
    else:
        noise = np.atleast_2d(np.asarray(variance, dtype=np.float32)).T
        if noise.shape != spectra.T.shape:
            raise ValueError(f"variance: shape {noise.T.shape}; expected that of flux, {spectra.shape}")
    settings = BlockSettings(
        PreprocessSettings(
            tuple(axis), redshift, ebv, law, r_v, line_filter or LineFilterConfig(), snr_min, max_filled
        ),
        residual=False,
        continuum_subtracted=False,
        light_grid=True,
    )
    predictor = shared_predictor(None if checkpoint is None else Path(checkpoint), None, resolve_device(device))
    columns: Any = np.ascontiguousarray(spectra.T)[:, None, :]
    prepared = prepare_block(columns, np.ascontiguousarray(noise)[:, None, :], None, settings)
    return populations_of(predict_block(prepared, settings, predictor))


def _check_coverage(axis: np.ndarray, redshift: float) -> None:
    edges = edges_of(axis)
    first, last = EDGES[0] * (1 + redshift), EDGES[-1] * (1 + redshift)
    slack = 0.5 * STEP * (1 + redshift)  # half a sample may be missing at either end
    if edges[0] > first + slack or edges[-1] < last - slack:
        raise ValueError(
            f"wavelength: covers {edges[0]:.1f}-{edges[-1]:.1f} A; at redshift {redshift} the model needs "
            f"{first:.1f}-{last:.1f} A"
        )
