"""Native spectra dereddened, taken to the rest frame and rebinned to the model's samples; what that depends on."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from galprote.model.extinction import ExtinctionLaw, extinction_curve
from galprote.model.grids import EDGES, KEPT
from galprote.pipeline.line_filter import NO_ALLOWANCE
from galprote.pipeline.line_filter_config import LineFilterConfig
from galprote.pipeline.rebin import edges_of, rebin_matrix
from galprote.pipeline.resolution import matched_matrix
from galprote.pipeline.spectral_masks import NO_MASKS, WavelengthMasks, touched

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
    return rest_frame(settings).rebin(flux, variance, valid)


@dataclass(frozen=True, eq=False)
class RestFrame:
    """What leads from native channels (m) to the model's samples (948).

    Attributes
    ----------
    matrix, squared : (948, m) csr_array
        Dereddening, broadening and rebinning; the same with factors squared, for variances.
    weights : (948, m) csr_array
        The matrix without dereddening.
    covered : (948,) float32
        Share of each sample that the channels cover.
    channels : (m,) bool
        Those that are masked.
    samples, masked : (948,) bool
        Those that are masked in the rest frame, and all that are missing in a spectrum without gaps because of masks.
    visible : (948,) bool
    """

    matrix: csr_array
    squared: csr_array
    weights: csr_array
    covered: NDArray[np.float32]
    channels: NDArray[np.bool_]
    samples: NDArray[np.bool_]
    masked: NDArray[np.bool_]
    visible: NDArray[np.bool_]

    def rebin(
        self, flux: NDArray[np.float32], variance: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As `rebin_to_rest`."""
        complete: NDArray[np.bool_] = np.all(valid, axis=0)
        if complete.all():
            weight = np.broadcast_to(self.covered[:, None], (len(self.covered), valid.shape[1]))
        else:
            flux, variance = np.where(valid, flux, np.float32(0)), np.where(valid, variance, np.float32(0))
            weight = self.weights @ valid.astype(np.float32)
            # Not the same sum, but to rounding: a spectrum's bits must not depend on gaps in its neighbours.
            weight[:, complete] = self.covered[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = (self.matrix @ flux) / weight
            noise = (self.squared @ variance) / weight**2
        missing = weight < 0.5
        if missing.any():
            mean[missing] = np.nan
            noise[missing] = np.nan
        return np.ascontiguousarray(mean.T), np.ascontiguousarray(noise.T)

    def rebin_and_mask(
        self, flux: NDArray[np.float32], variance: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Flux on the model's samples (n, 948); the same without what is masked, and its variance."""
        rebinned, noise = self.rebin(flux, variance, valid)
        rest = rebinned
        if self.channels.any():
            rest, noise = self.rebin(flux, variance, valid & ~self.channels[:, None])
        if self.samples.any():
            rest, noise = (np.where(self.samples, np.float32(np.nan), values) for values in (rest, noise))
        return rebinned, rest, noise


@lru_cache(maxsize=128)  # spectra that move have one for every ten km/s
def rest_frame(settings: PreprocessSettings) -> RestFrame:
    """Make it once; to look it up takes a while, too, for the settings are thousands of numbers."""
    wavelength = np.array(settings.wavelength)
    if settings.broadening:
        rebin = matched_matrix(wavelength, settings.redshift, np.array(settings.broadening))
    else:
        rebin = rebin_matrix(edges_of(wavelength), EDGES * (1 + settings.redshift))
    deredden = 10 ** (0.4 * foreground_extinction(settings))
    matrix = csr_array(rebin * deredden.astype(np.float32)[None, :])
    covered = np.asarray(rebin.sum(axis=1), dtype=np.float32)
    channels = touched(edges_of(wavelength), settings.masks.observed)
    samples = touched(EDGES, settings.masks.rest)
    left = np.asarray(rebin @ (~channels).astype(np.float32))
    masked = samples | ((left < 0.5) & (covered >= 0.5))
    visible = np.array(settings.visible)
    return RestFrame(matrix, csr_array(matrix * matrix), rebin, covered, channels, samples, masked, visible)


def foreground_extinction(settings: PreprocessSettings) -> NDArray[np.float64]:
    """Foreground extinction in magnitudes at the native channels, observed frame: (m,) float64."""
    curve = extinction_curve(np.array(settings.wavelength), settings.law, settings.r_v)
    return settings.ebv * settings.r_v * curve
