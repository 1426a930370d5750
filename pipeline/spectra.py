"""Fit spectra from a notebook: the same code path that the cubes take."""

from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from galprote.model.extinction import EXTINCTION_LAWS, ExtinctionLaw
from galprote.model.grids import STEP, covered
from galprote.model.line_spread import TemplateResolution
from galprote.model.populations import Populations
from galprote.model.predictor import Predictor, resolve_device, shared_predictor
from galprote.pipeline.block import BlockSettings, FittedBlock, populations_of, predict_block, prepare_block
from galprote.pipeline.line_filter import template_allowance
from galprote.pipeline.line_filter_config import LineFilterConfig
from galprote.pipeline.readers.axis import vacuum_to_air
from galprote.pipeline.readers.noise import der_snr_variance
from galprote.pipeline.rebin import edges_of
from galprote.pipeline.resolution import match_resolution
from galprote.pipeline.rest_frame import PreprocessSettings

#: Spectra that are fitted together: memory does not grow with their number.
BLOCK: Final = 2048


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
    max_filled: float = 0.15,
    flux_calibration_error: float = 0.01,
    template_error: float = 0.01,
    line_filter: LineFilterConfig | None = None,
    device: str = "cpu",
    fwhm: ArrayLike | None = None,
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
    flux_calibration_error : float
        Expected scatter of a smooth error of the flux calibration along the spectra, relative, 0 (perfect) to 0.03.
    template_error : float
        Expected difference of the stars' spectra from the templates, relative, 0 (spectra made of them) to 0.01: the
        errors allow for it.
    line_filter : LineFilterConfig, optional
    device : {"cpu", "cuda", "auto"}
    fwhm : float or (m,) float, optional
        FWHM of the instrument's line spread function, Angstrom, observed; without it the templates' is assumed. Spectra
        that are sharper are broadened (`pipeline/resolution.py`).

    Returns
    -------
    Populations
        Of n spectra.

    Raises
    ------
    CubeError
        If the instrument is too blunt for the weights.
    ValueError
        If shapes do not match, wavelengths do not increase, a choice makes no sense, or the window of the weights (the
        shipped ones': 4748-7102 A in the rest frame) is not covered.

    Examples
    --------
    >>> result = fit_spectra(wavelength, flux, variance, redshift=0.008, ebv=0.03)  # doctest: +SKIP
    >>> result.log_age, result.metallicity, result.av  # doctest: +SKIP
    """
    axis = np.asarray(wavelength, dtype=np.float64)
    if axis.ndim != 1 or len(axis) < 5 or not np.all(np.diff(axis) > 0):
        raise ValueError(f"wavelength: shape {axis.shape}; expected one increasing axis of bin centres in Angstrom")
    spectra = np.atleast_2d(np.asarray(flux, dtype=np.float64))
    if spectra.ndim != 2 or spectra.shape[1] != len(axis):
        raise ValueError(
            f"flux: shape {spectra.shape}; expected (n, {len(axis)}) as wavelength has {len(axis)} samples"
        )
    noise = None if variance is None else np.atleast_2d(np.asarray(variance, dtype=np.float64))
    if noise is not None and noise.shape != spectra.shape:
        raise ValueError(f"variance: shape {noise.shape}; expected that of flux, {spectra.shape}")
    _check_choices(redshift, ebv, r_v, law, device, flux_calibration_error, template_error)
    if vacuum:
        axis = vacuum_to_air(axis)
    settings, predictor = fit_settings(
        axis,
        redshift=redshift,
        ebv=ebv,
        checkpoint=checkpoint,
        law=law,
        r_v=r_v,
        snr_min=snr_min,
        max_filled=max_filled,
        flux_calibration_error=flux_calibration_error,
        template_error=template_error,
        line_filter=line_filter,
        device=device,
        fwhm=fwhm,
    )
    _check_coverage(axis, redshift, covered(predictor.model.config.visible))
    parts = []
    for rows in (slice(start, start + BLOCK) for start in range(0, max(len(spectra), 1), BLOCK)):
        fitted, scale = fit_block(spectra[rows], None if noise is None else noise[rows], settings, predictor)
        part = populations_of(fitted)
        parts.append(replace(part, model_flux=part.model_flux * scale))
    return Populations(
        *(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Populations))
    )


def _broadening(axis: NDArray[np.float64], fwhm: ArrayLike, redshift: float, predictor: Predictor) -> tuple[float, ...]:
    width = np.asarray(fwhm, dtype=np.float64)
    if width.shape not in ((), axis.shape) or not (width > 0).all():
        raise ValueError(f"fwhm: expected one positive width in Angstrom, or one for each of {len(axis)} wavelengths")
    templates = TemplateResolution.of_metadata(predictor.checkpoint.metadata)
    return match_resolution(axis, np.broadcast_to(width, axis.shape), redshift, templates, "fwhm").broadening


def fit_settings(
    axis: NDArray[np.float64],
    *,
    redshift: float,
    ebv: float,
    checkpoint: str | Path | None,
    law: ExtinctionLaw,
    r_v: float,
    snr_min: float,
    max_filled: float,
    flux_calibration_error: float,
    template_error: float,
    line_filter: LineFilterConfig | None,
    device: str,
    fwhm: ArrayLike | None = None,
) -> tuple[BlockSettings, Predictor]:
    """Check and collect all that a fit depends on besides the spectra; parameters as in `fit_spectra`.

    Parameters
    ----------
    axis : (m,) float64
        Observed air wavelengths, Angstrom, increasing; whether they cover the window is not checked.

    Raises
    ------
    ValueError
        If a choice makes no sense.
    """
    _check_choices(redshift, ebv, r_v, law, device, flux_calibration_error, template_error)
    predictor = shared_predictor(None if checkpoint is None else Path(checkpoint), None, resolve_device(device))
    visible = predictor.model.config.visible
    chosen = line_filter or LineFilterConfig()
    allowance = _allowance(predictor, chosen)
    preprocess = PreprocessSettings(
        tuple(axis.tolist()), redshift, ebv, law, r_v, chosen, snr_min, max_filled, allowance, tuple(visible.tolist())
    )
    if fwhm is not None:
        preprocess = replace(preprocess, broadening=_broadening(axis, fwhm, redshift, predictor))
    return BlockSettings(preprocess, False, False, True, flux_calibration_error, template_error), predictor


def fit_block(
    flux: NDArray[np.float64], variance: NDArray[np.float64] | None, settings: BlockSettings, predictor: Predictor
) -> tuple[FittedBlock, np.float64]:
    """Fit (n, m) spectra in a unit of their own, in which single precision neither over- nor underflows.

    Returns
    -------
    FittedBlock
        In that unit.
    float64
        What leads from it to the input's.
    """
    finite = np.abs(flux[np.isfinite(flux) & (flux != 0)])
    # A power of two changes no bits; in double precision, as single precision times it may overflow.
    scale = np.float64(2.0 ** np.round(np.log2(np.median(finite)))) if finite.size else np.float64(1)
    with np.errstate(over="ignore"):  # damaged values become infinite, and count as missing
        spectra = (flux / scale).astype(np.float32)
        noise = der_snr_variance(spectra.T).T if variance is None else (variance / scale**2).astype(np.float32)
    columns, squared = (np.ascontiguousarray(values.T)[:, None, :] for values in (spectra, noise))
    return predict_block(prepare_block(columns, squared, None, settings), settings, predictor), scale


@lru_cache(maxsize=8)
def _allowance(predictor: Predictor, line_filter: LineFilterConfig) -> tuple[float, ...]:
    return template_allowance(predictor.checkpoint.decoder, line_filter)


def _check_choices(
    redshift: float, ebv: float, r_v: float, law: str, device: str, calibration: float, templates: float
) -> None:
    if not -0.01 < redshift <= 0.5:
        raise ValueError(f"redshift = {redshift}: expected a barycentric redshift from -0.01 to 0.5")
    if not 0 <= ebv <= 5:
        raise ValueError(f"ebv = {ebv}: expected a foreground E(B-V) from 0 to 5 mag")
    if not 2.3 <= r_v <= 5.6:
        raise ValueError(f"r_v = {r_v}: expected 2.3 to 5.6")
    if not 0 <= calibration <= 0.03:
        raise ValueError(
            f"flux_calibration_error = {calibration}: expected a relative error from 0 to 0.03, as in training"
        )
    if not 0 <= templates <= 0.01:
        raise ValueError(f"template_error = {templates}: expected a relative difference from 0 to 0.01, as in training")
    if law not in EXTINCTION_LAWS:
        raise ValueError(f"law = {law!r}: expected one of {', '.join(EXTINCTION_LAWS)}")
    if device not in {"cpu", "cuda", "auto"}:
        raise ValueError(f"device = {device!r}: expected cpu, cuda or auto")


def _check_coverage(axis: NDArray[np.float64], redshift: float, window: tuple[float, float]) -> None:
    edges = edges_of(axis)
    first, last = (edge * (1 + redshift) for edge in window)
    slack = 0.5 * STEP * (1 + redshift)  # half a sample may be missing at either end
    if edges[0] > first + slack or edges[-1] < last - slack:
        raise ValueError(
            f"wavelength: covers {edges[0]:.1f}-{edges[-1]:.1f} A; at redshift {redshift} the model needs "
            f"{first:.1f}-{last:.1f} A"
        )
