"""From a cube's native spectra to what the model sees; plain arrays in, plain arrays out (paper, section 4.3).

In this order: foreground dust removed at observed wavelengths; wavelengths to the rest frame; flux-conserving
rebinning to the model's 948 samples; gaps filled; bright lines and sky residuals replaced by a running median; emission
bands removed; division by the median flux. The noise goes along. Flux densities stay per Angstrom of the observed
frame: multiply by 1 + z for the rest frame.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import bottleneck
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from galprote.model.extinction import ExtinctionLaw, extinction_curve
from galprote.model.grids import EDGES, KEPT
from galprote.pipeline.line_filter import NO_ALLOWANCE, LineFilterConfig, clean_spectra
from galprote.pipeline.quality import Status
from galprote.pipeline.rebin import edges_of, rebin_matrix
from galprote.pipeline.resolution import matched_matrix
from galprote.pipeline.spectral_masks import NO_MASKS, WavelengthMasks, touched

#: Shares above which `status` remarks on filled samples and on channels without a usable variance.
MUCH_FILLED: Final = 0.10
MANY_BAD_VARIANCES: Final = 0.01
#: No instrument writes more than this, in any unit in use: such values are damaged, and count as missing. Their squares
#: are still numbers in single precision.
LARGEST_FLUX: Final = 1e15
#: Smaller variances have lost digits in single precision.
SMALLEST_VARIANCE: Final = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class PreprocessSettings:
    """All that preprocessing depends on besides the spectra.

    Attributes
    ----------
    wavelength : tuple of float
        Observed air wavelengths of the native channels, Angstrom.
    redshift : float
        Barycentric.
    ebv : float
        Foreground E(B-V), mag.
    law : str
    r_v : float
    line_filter : LineFilterConfig
    snr_min : float
        Spectra below it are not fitted.
    max_filled : float
        Spectra with a larger share of samples missing are not fitted.
    allowance : tuple of 948 float
        What the line filter concedes to the stars' own peaks; from `template_allowance`.
    visible : tuple of 948 bool
        Samples that the network uses; the others are bridged like the emission bands.
    masks : WavelengthMasks
        Bands whose flux is not used: native channels that touch one of the observed frame, samples that touch one of
        the rest frame.
    broadening : tuple of float
        Standard deviation by which each channel is broadened to the templates' resolution, Angstrom, observed frame
        (`pipeline/resolution.py`); empty: not at all.
    """

    wavelength: tuple[float, ...]
    redshift: float
    ebv: float
    law: ExtinctionLaw
    r_v: float
    line_filter: LineFilterConfig
    snr_min: float
    max_filled: float
    allowance: tuple[float, ...] = NO_ALLOWANCE
    visible: tuple[bool, ...] = tuple(KEPT.tolist())
    masks: WavelengthMasks = NO_MASKS
    broadening: tuple[float, ...] = ()


@dataclass(frozen=True)
class SpectraBatch:
    """Spectra ready for the model, and what is known of them.

    Attributes
    ----------
    spectra : (k, 876) float32
        Of the k spectra that are to be fitted: rest frame, cleaned, divided by `flux`.
    noise : (k, 876) float32
        Standard deviation, divided by `flux`: positive; infinite where a sample carries no information, because it had
        no data or was masked and was filled, or was replaced by the line filter.
    fitted : (n,) bool
        Which of the n input spectra these are.
    rebinned : (k, 948) float32
        Their flux on the model's samples, dereddened, nothing removed or masked; NaN where there are no data.
    used : (k, 948) bool
        Samples that carry observed flux: neither masked, nor filled, nor replaced, nor in an emission band.
    flux : (n,) float32
        Median flux of the kept samples, the cube's unit.
    snr : (n,) float32
        Median signal-to-noise ratio of the kept samples of 2.48 A, from the cube's variance.
    filled_fraction : (n,) float32
        Share of the kept samples that had no data; masked ones do not count.
    replaced : (n,) int16
        Kept samples that the line filter replaced.
    status : (n,) int32
        Bits of `Status`.
    """

    spectra: NDArray[np.float32]
    noise: NDArray[np.float32]
    fitted: NDArray[np.bool_]
    rebinned: NDArray[np.float32]
    used: NDArray[np.bool_]
    flux: NDArray[np.float32]
    snr: NDArray[np.float32]
    filled_fraction: NDArray[np.float32]
    replaced: NDArray[np.int16]
    status: NDArray[np.int32]


def preprocess(
    flux: NDArray[np.float32],
    variance: NDArray[np.float32],
    settings: PreprocessSettings,
    excluded: NDArray[np.int32] | None = None,
) -> SpectraBatch:
    """Prepare spectra for the model.

    Parameters
    ----------
    flux, variance : (m, n) float32
        Native spectra, wavelength first as in the cube; not finite where there are no data.
    settings : PreprocessSettings
    excluded : (n,) int32, optional
        Bits of `Status` of the spectra to leave out, 0 of the others.

    Returns
    -------
    SpectraBatch
    """
    n = flux.shape[1]
    status = np.zeros(n, dtype=np.int32)
    if excluded is not None:
        status |= excluded
    finite: NDArray[np.bool_] = (flux > -LARGEST_FLUX) & (flux < LARGEST_FLUX)
    status[~finite.any(axis=0)] |= np.int32(Status.NO_DATA)
    rows = np.flatnonzero(status == 0)
    if len(rows) < n:  # np.take keeps the wavelengths' rows contiguous, indexing would not
        flux, variance = (np.take(array, rows, axis=1) for array in (flux, variance))
        finite = np.take(finite, rows, axis=1)
    good = is_variance(variance)
    bad_variance = (finite & ~good).mean(axis=0) > MANY_BAD_VARIANCES
    rebinned, rest, rest_variance = _rebin_and_mask(flux, variance, finite & good, settings)
    visible = np.array(settings.visible)
    present = ~np.isnan(rest)
    status[rows[bad_variance]] |= np.int32(Status.BAD_VARIANCE)
    measures = _measure(rest[:, visible], rest_variance[:, visible], _masked_samples(settings)[visible])

    full = {
        name: _spread(values, rows, n)
        for name, values in (("flux", measures.flux), ("snr", measures.snr), ("filled", measures.filled))
    }
    status[rows[~present[:, visible].any(axis=1)]] |= np.int32(Status.NO_DATA)
    status[rows[measures.filled > settings.max_filled]] |= np.int32(Status.INCOMPLETE)
    status[rows[measures.flux <= 0]] |= np.int32(Status.NOT_POSITIVE)
    status[rows[measures.snr < settings.snr_min]] |= np.int32(Status.LOW_SNR)
    status[rows[measures.filled > MUCH_FILLED]] |= np.int32(Status.FILLED)

    refused = Status.NO_DATA | Status.INCOMPLETE | Status.NOT_POSITIVE | Status.LOW_SNR
    chosen = (status[rows] & np.int32(refused)) == 0
    cleaned, replaced = clean_spectra(
        rest[chosen], settings.redshift, settings.line_filter, settings.allowance, visible
    )
    kept = cleaned[:, KEPT]
    scale = bottleneck.median(kept, axis=1)[:, None]
    fitted = np.zeros(n, dtype=bool)
    fitted[rows[chosen]] = scale[:, 0] > 0
    status[rows[chosen][scale[:, 0] <= 0]] |= np.int32(Status.NOT_POSITIVE)
    positive = scale[:, 0] > 0
    kept, scale, replaced = kept[positive], scale[positive], replaced[positive]
    count = np.zeros(n, dtype=np.int16)
    count[fitted] = replaced[:, KEPT].sum(axis=1)
    status[count > 0.05 * visible.sum()] |= np.int32(Status.LINES_REPLACED)
    full["flux"][fitted] = scale[:, 0]
    used = present[chosen][positive] & ~replaced & visible
    return SpectraBatch(
        spectra=np.ascontiguousarray(kept / scale, dtype=np.float32),
        noise=_relative_noise(rest_variance[chosen][positive], used, scale),
        fitted=fitted,
        rebinned=rebinned[chosen][positive],
        used=used,
        flux=full["flux"],
        snr=full["snr"],
        filled_fraction=full["filled"],
        replaced=count,
        status=status,
    )


def is_variance(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which numbers can be variances: positive, and neither lost to single precision nor absurd."""
    return (values >= SMALLEST_VARIANCE) & (values <= LARGEST_FLUX**2)


def rebin_to_rest(
    flux: NDArray[np.float32], variance: NDArray[np.float32], valid: NDArray[np.bool_], settings: PreprocessSettings
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Deredden, go to the rest frame and rebin.

    An output sample is the mean of the valid channels in it; it is missing when less than half of it is covered.
    The variance follows for independent channels: that of neighbouring output samples is slightly correlated.

    Parameters
    ----------
    flux, variance : (m, n) float32
    valid : (m, n) bool
    settings : PreprocessSettings

    Returns
    -------
    flux, variance : (n, 948) float32
        NaN where missing.
    """
    matrix, squared, weights, covered = _matrices(settings)
    complete: NDArray[np.bool_] = np.all(valid, axis=0)
    if complete.all():
        weight = np.broadcast_to(covered[:, None], (len(covered), valid.shape[1]))
    else:
        flux, variance = np.where(valid, flux, np.float32(0)), np.where(valid, variance, np.float32(0))
        weight = weights @ valid.astype(np.float32)
        # Not the same sum, but to rounding: a spectrum's bits must not depend on gaps in its neighbours.
        weight[:, complete] = covered[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (matrix @ flux) / weight
        noise = (squared @ variance) / weight**2
    missing = weight < 0.5
    mean[missing] = np.nan
    noise[missing] = np.nan
    return np.ascontiguousarray(mean.T), np.ascontiguousarray(noise.T)


def _rebin_and_mask(
    flux: NDArray[np.float32], variance: NDArray[np.float32], valid: NDArray[np.bool_], settings: PreprocessSettings
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Flux on the model's samples (n, 948); the same without what is masked, and its variance."""
    rebinned, noise = rebin_to_rest(flux, variance, valid, settings)
    rest = rebinned
    if settings.masks.observed:
        channels = touched(edges_of(np.array(settings.wavelength)), settings.masks.observed)
        rest, noise = rebin_to_rest(flux, variance, valid & ~channels[:, None], settings)
    if settings.masks.rest:
        samples = touched(EDGES, settings.masks.rest)
        rest, noise = (np.where(samples, np.float32(np.nan), values) for values in (rest, noise))
    return rebinned, rest, noise


@lru_cache(maxsize=128)
def _masked_samples(settings: PreprocessSettings) -> NDArray[np.bool_]:
    """Samples that are missing in a spectrum without gaps because they are masked: (948,)."""
    _, _, weights, covered = _matrices(settings)
    channels = touched(edges_of(np.array(settings.wavelength)), settings.masks.observed)
    left = np.asarray(weights @ (~channels).astype(np.float32))
    return touched(EDGES, settings.masks.rest) | ((left < 0.5) & (covered >= 0.5))


@lru_cache(maxsize=128)  # spectra that move have one for every ten km/s
def _matrices(settings: PreprocessSettings) -> tuple[csr_array, csr_array, csr_array, NDArray[np.float32]]:
    """Dereddening, broadening and rebinning in one matrix; the same with factors squared, for variances; it without the
    dereddening, and the share of each output sample that the channels cover.
    """
    wavelength = np.array(settings.wavelength)
    if settings.broadening:
        rebin = matched_matrix(wavelength, settings.redshift, np.array(settings.broadening))
    else:
        rebin = rebin_matrix(edges_of(wavelength), EDGES * (1 + settings.redshift))
    deredden = 10 ** (0.4 * foreground_extinction(settings))
    matrix = csr_array(rebin * deredden.astype(np.float32)[None, :])
    return matrix, csr_array(matrix * matrix), rebin, np.asarray(rebin.sum(axis=1), dtype=np.float32)


def foreground_extinction(settings: PreprocessSettings) -> NDArray[np.float64]:
    """Foreground extinction in magnitudes at the native channels, observed frame: (m,) float64."""
    curve = extinction_curve(np.array(settings.wavelength), settings.law, settings.r_v)
    return settings.ebv * settings.r_v * curve


def _relative_noise(
    variance: NDArray[np.float32], used: NDArray[np.bool_], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Standard deviation of the kept samples in units of `scale` (k, 1): (k, 876) float32, infinite where not used."""
    noise = np.sqrt(variance[:, KEPT]) / scale
    # A variance that single precision rounds to zero says nothing either.
    return np.where(used[:, KEPT] & (noise > 0), noise, np.float32(np.inf))


@dataclass(frozen=True)
class _Measures:
    flux: NDArray[np.float32]
    snr: NDArray[np.float32]
    filled: NDArray[np.float32]


def _measure(rest: NDArray[np.float32], variance: NDArray[np.float32], masked: NDArray[np.bool_]) -> _Measures:
    """Median flux, median signal-to-noise and share of missing samples, masked ones apart, over the visible samples."""
    filled = (np.isnan(rest) & ~masked).mean(axis=1, dtype=np.float32)
    return _Measures(_nanmedian(rest), _nanmedian(np.divide(rest, np.sqrt(variance), dtype=np.float32)), filled)


def _nanmedian(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Median of each row, NaN for a row without a value."""
    result: NDArray[np.float32] = bottleneck.nanmedian(values, axis=1)
    return result.astype(np.float32)


def _spread(values: NDArray[np.float32], rows: NDArray[np.int64], n: int) -> NDArray[np.float32]:
    """Values of some rows among n, NaN elsewhere."""
    full = np.full(n, np.nan, dtype=np.float32)
    full[rows] = values
    return full
