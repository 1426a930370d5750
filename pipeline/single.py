"""One spectrum from a file to its populations, with all that a figure of the fit needs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from galprote.model.errors import ConfigError, SpectrumError
from galprote.model.extinction import ExtinctionLaw
from galprote.model.grids import WAVELENGTH, covered
from galprote.model.kinematics import C_KMS
from galprote.model.populations import Populations
from galprote.pipeline.block import BlockSettings, FittedBlock, populations_of
from galprote.pipeline.quality import Status
from galprote.pipeline.readers.noise import METHOD, der_snr_variance
from galprote.pipeline.readers.spectrum import Spectrum
from galprote.pipeline.rebin import edges_of
from galprote.pipeline.rest_frame import LARGEST_FLUX, is_variance, rebin_to_rest
from galprote.pipeline.single_notes import end_notes, resolution
from galprote.pipeline.spectra import fit_block, fit_settings

#: Largest share of the model's samples that may be missing: as for cubes.
MAX_FILLED: Final = 0.15
#: Velocities off the redshift within which answers hold (docs/model-card.md), km/s.
VELOCITY_RANGE: Final = 150.0
#: Velocities at which `shift` is searched lie so far apart, km/s.
SHIFT_STEP: Final = 118.0

Samples = NDArray[np.bool_]


@dataclass(frozen=True)
class SpectrumFit:
    """A fit. Spectra are (948,) at rest-frame `galprote.model.grids.WAVELENGTH`, without the foreground's dust.

    Attributes
    ----------
    spectrum : Spectrum
    redshift, ebv : float
        What was assumed.
    populations : Populations
        Of one spectrum.
    flux, error, model : (948,) float64
        Observed, its standard deviation (NaN without data), and the model; in the spectrum's unit per Angstrom of the
        observed frame.
    bands : (948,) bool
        Emission bands, and other samples that the network does not use.
    filled : (948,) bool
        Others that had no data.
    replaced : (948,) bool
        Others that the line filter replaced.
    snr : float
        Median signal-to-noise ratio of a sample of 2.48 A, from the stated noise.
    filled_fraction : float
    shift : float
        Velocity off the redshift at which the lines fit best among a few templates, km/s, within 7500.
    log_ages, metallicities : (n_age,), (n_metallicity,) float64
        Axes of `populations.grid`.
    checkpoint_sha256 : str
    notes : tuple of str
        What was assumed on the way, and what to know.
    """

    spectrum: Spectrum
    redshift: float
    ebv: float
    populations: Populations
    flux: NDArray[np.float64]
    error: NDArray[np.float64]
    model: NDArray[np.float64]
    bands: Samples
    filled: Samples
    replaced: Samples
    snr: float
    filled_fraction: float
    shift: float
    log_ages: NDArray[np.float64]
    metallicities: NDArray[np.float64]
    checkpoint_sha256: str
    notes: tuple[str, ...]

    @property
    def used(self) -> Samples:
        """Samples that decided the fit, (948,) bool."""
        return ~(self.bands | self.filled | self.replaced)

    @property
    def status(self) -> Status:
        """Remarks on the fit."""
        return Status(int(self.populations.status[0]))


def fit_spectrum(
    spectrum: Spectrum,
    *,
    redshift: float,
    ebv: float,
    masks: Sequence[tuple[float, float]] = (),
    fwhm: float | None = None,
    checkpoint: str | Path | None = None,
    law: ExtinctionLaw = "O94",
    r_v: float = 3.1,
    max_filled: float = MAX_FILLED,
    flux_calibration_error: float = 0.01,
    template_error: float = 0.01,
    device: str = "cpu",
) -> SpectrumFit:
    """Fit one spectrum; where it does not reach the ends of the model's window, these are filled like gaps.

    Parameters
    ----------
    spectrum : Spectrum
        From `galprote.pipeline.readers.spectrum.read_spectrum`.
    redshift, ebv : float
        Barycentric; E(B-V) of the foreground, mag.
    masks : sequence of (float, float)
        First and last wavelength of bands to leave out, Angstrom, observed, air.
    fwhm : float, optional
        Of the line spread function, Angstrom, where the file does not have it.
    checkpoint, law, r_v, flux_calibration_error, template_error, device
        As in `galprote.pipeline.fit_spectra`.
    max_filled : float
        Largest share of the model's samples that may be missing.

    Returns
    -------
    SpectrumFit

    Raises
    ------
    ConfigError
        If a choice makes no sense.
    SpectrumError
        If the spectrum misses too much of the window, or is not positive.
    """
    axis, flux, variance = _padded(spectrum, redshift)
    try:
        settings, predictor = fit_settings(
            axis, redshift=redshift, ebv=ebv, checkpoint=checkpoint, law=law, r_v=r_v, snr_min=0.0,
            max_filled=max_filled, flux_calibration_error=flux_calibration_error, template_error=template_error,
            line_filter=None, device=device,
        )  # fmt: skip
    except ValueError as error:
        raise ConfigError(str(error)) from error
    match = resolution(spectrum, axis, fwhm, redshift, predictor.checkpoint)
    settings = replace(settings, preprocess=replace(settings.preprocess, broadening=match.broadening))
    flux[masked(axis, masks)] = np.nan
    _check_coverage(spectrum, redshift, covered(predictor.model.config.visible), max_filled)
    fitted, scale = fit_block(flux[None], None if variance is None else variance[None], settings, predictor)
    populations = populations_of(fitted)
    if not np.isfinite(populations.log_age[0]):
        raise SpectrumError(_refusal(spectrum, populations, fitted, max_filled))
    rest, sigma = _rest_frame(flux, variance, settings)
    batch, decoder = fitted.prepared.batch, predictor.checkpoint.decoder
    bands = ~np.array(settings.preprocess.visible)
    filled = ~bands & np.isnan(batch.rebinned[0])
    notes = (*spectrum.notes, *([match.note] if match.note else []))
    if variance is None:
        notes = (*notes, f"the file has no errors: the noise is {METHOD}, and so are S/N and errors")
    return SpectrumFit(
        spectrum, redshift, ebv, populations, rest, sigma, populations.model_flux[0] * scale,
        bands, filled, ~bands & ~filled & ~batch.used[0],
        snr=float(batch.snr[0]), filled_fraction=float(batch.filled_fraction[0]), shift=float(fitted.shift[0]),
        log_ages=decoder.log_ages, metallicities=decoder.metallicities, checkpoint_sha256=predictor.checkpoint.sha256,
        notes=(*notes, *end_notes(filled, bands)),
    )  # fmt: skip


def masked(axis: NDArray[np.float64], masks: Sequence[tuple[float, float]]) -> Samples:
    """Which samples of an axis (m,) touch one of the bands."""
    edges = edges_of(axis)
    inside = np.zeros(len(axis), dtype=bool)
    for first, last in masks:
        inside |= (edges[1:] > first) & (edges[:-1] < last)
    return inside


def _padded(
    spectrum: Spectrum, redshift: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None]:
    """Wavelength, flux and variance with samples without data up to the ends of the model's own samples."""
    axis = spectrum.wavelength
    low, high = ((1 + redshift) * end for end in (WAVELENGTH[0] - 10.0, WAVELENGTH[-1] + 10.0))
    steps = axis[1] - axis[0], axis[-1] - axis[-2]
    before, after = (max(int(np.ceil(gap / step)), 0) for gap, step in zip((axis[0] - low, high - axis[-1]), steps,
                                                                          strict=True))  # fmt: skip
    axis = np.concatenate([
        axis[0] - steps[0] * np.arange(before, 0, -1), axis, axis[-1] + steps[1] * np.arange(1, after + 1)
    ])  # fmt: skip

    def pad(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.pad(values, (before, after), constant_values=np.nan)

    return axis, pad(spectrum.flux), None if spectrum.variance is None else pad(spectrum.variance)


def _check_coverage(spectrum: Spectrum, redshift: float, window: tuple[float, float], max_filled: float) -> None:
    axis = spectrum.wavelength[np.isfinite(spectrum.flux)]
    first, last = axis[0] / (1 + redshift), axis[-1] / (1 + redshift)
    missing = 1 - max(min(last, window[1]) - max(first, window[0]), 0.0) / (window[1] - window[0])
    if missing > max_filled + 0.01:
        raise SpectrumError(
            f"{spectrum.name}: has data from {axis[0]:.1f} to {axis[-1]:.1f} A (observed, air), which is {first:.1f} "
            f"to {last:.1f} A at redshift {redshift:g}; the model reads {window[0]:.0f} to {window[1]:.0f} A, and may "
            f"miss {100 * max_filled:.0f} % of it, not {100 * missing:.0f} %. Is the redshift right?"
        )


def _refusal(spectrum: Spectrum, populations: Populations, fitted: FittedBlock, max_filled: float) -> str:
    status, filled = Status(int(populations.status[0])), float(fitted.prepared.batch.filled_fraction[0])
    if status & Status.INCOMPLETE:
        why = (
            f"{100 * filled:.0f} % of the model's samples have no data (flags, masks, ends); at most "
            f"{100 * max_filled:.0f} % may be missing"
        )
    elif status & Status.NO_DATA:
        why = "it has no data in the model's window"
    elif status & Status.NOT_POSITIVE:
        why = "its median flux in the model's window is not positive"
    else:
        why = "the model gave no finite answer: are flux and errors plausible?"
    return f"{spectrum.name}: not fitted: {why}"


def _rest_frame(
    flux: NDArray[np.float64], variance: NDArray[np.float64] | None, settings: BlockSettings
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Flux and its standard deviation on the model's samples, (948,) each."""
    scale = 2.0 ** np.round(np.log2(np.nanmedian(np.abs(flux[flux != 0]))))
    with np.errstate(over="ignore"):  # as in `fit_block`
        columns = (flux / scale).astype(np.float32)[:, None]
        squared = der_snr_variance(columns) if variance is None else (variance / scale**2).astype(np.float32)[:, None]
    rest, noise = rebin_to_rest(
        columns, squared, (np.abs(columns) < LARGEST_FLUX) & is_variance(squared), settings.preprocess
    )
    return rest[0] * scale, np.sqrt(noise[0]) * scale


def better_redshift(fit: SpectrumFit) -> float | None:
    """The redshift that the spectrum's own lines suggest, where the given one is further off than answers hold."""
    off = abs(float(fit.populations.velocity[0])) > VELOCITY_RANGE or bool(fit.status & Status.WRONG_REDSHIFT)
    if not off or not abs(fit.shift) > SHIFT_STEP / 2:  # NaN from weights without an appraisal
        return None
    return (1 + fit.redshift) * (1 + fit.shift / C_KMS) - 1
