"""Replace bright emission lines and sky residuals by a running median, and leave the stars' own features alone."""

from functools import lru_cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from galprote.model.artefacts import SKY_LINES
from galprote.model.decoder import Decoder
from galprote.model.gaps import fill_gaps
from galprote.model.grids import KEPT, N_WAVELENGTH, WAVELENGTH
from galprote.model.medians import pick, row_median
from galprote.pipeline.line_filter_config import LineFilterConfig
from galprote.pipeline.running_median import running_median

#: Half-width around a sky line within which residuals of either sign are replaced, Angstrom.
SKY_HALF_WIDTH: Final = 6.0

#: Attenuations at which the templates' own peaks are measured, mag.
ALLOWANCE_AV: Final = (0.0, 1.5)

#: Allowance of a filter that knows no templates.
NO_ALLOWANCE: Final = (0.0,) * N_WAVELENGTH


def clean_spectra(
    rest: NDArray[np.float32],
    redshift: float,
    config: LineFilterConfig,
    allowance: tuple[float, ...] = NO_ALLOWANCE,
    visible: NDArray[np.bool_] = KEPT,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Fill gaps, then replace bright lines and sky residuals by the running median.

    A sample is replaced when it stands more than `threshold` robust standard deviations, and what the templates
    themselves do there, above the running median; within 6 A of a night-sky line also when it is as far below. Its two
    neighbours go with it. The emission bands, which the model does not see, are bridged before anything is measured.

    Parameters
    ----------
    rest : (k, 948) float32
        NaN where missing.
    redshift : float
    config : LineFilterConfig
    allowance : tuple of 948 float
        From `template_allowance`.
    visible : (948,) bool
        Samples that the model uses: by default all but the emission bands.

    Returns
    -------
    cleaned : (k, 948) float32
        What is not visible is bridged.
    replaced : (k, 948) bool
    """
    valid = ~np.isnan(rest) & visible
    filled = fill_gaps(torch.from_numpy(rest), torch.from_numpy(valid)).numpy()
    smooth = running_median(filled, config.window)
    deviation = filled - smooth
    absolute, known = (pick(values, visible) for values in (np.abs(deviation), valid))
    sigma = 1.4826 * row_median(absolute if known.all() else np.where(known, absolute, np.float32(np.nan)))
    limit = config.threshold * sigma[:, None]
    outlier = deviation > limit + np.array(allowance, dtype=np.float32) * smooth
    outlier |= (deviation < -limit) & near_sky_line(redshift)
    grown = outlier.copy()
    grown[:, 1:] |= outlier[:, :-1]
    grown[:, :-1] |= outlier[:, 1:]
    grown &= valid
    return np.where(grown, smooth, filled), grown


def template_allowance(decoder: Decoder, config: LineFilterConfig) -> tuple[float, ...]:
    """How far the templates' own peaks stand above their running median, relative to it.

    Between deep absorption lines the continuum peaks by up to 15 %: at high signal-to-noise that would pass for
    emission.

    Parameters
    ----------
    decoder : Decoder
    config : LineFilterConfig

    Returns
    -------
    tuple of 948 float
        The largest over all templates, without dust and with much; at least zero.
    """
    spectra = decoder.templates()
    dim = torch.stack([10 ** (-0.4 * av * decoder.attenuation()) for av in ALLOWANCE_AV])
    reddened = (spectra * dim[:, None, :]).reshape(-1, spectra.shape[1])
    kept = torch.from_numpy(KEPT).expand_as(reddened)
    filled = fill_gaps(reddened, kept).numpy()
    smooth = running_median(filled, config.window)
    largest = np.maximum((filled / smooth - 1).max(axis=0), 0.0)
    return tuple(largest.tolist())


@lru_cache(maxsize=128)
def near_sky_line(redshift: float) -> NDArray[np.bool_]:
    """Model samples within 6 A of a bright night-sky line, bool (948,)."""
    observed = WAVELENGTH * (1 + redshift)
    near: NDArray[np.bool_] = np.abs(observed[:, None] - np.array(SKY_LINES)).min(axis=1) <= SKY_HALF_WIDTH
    return near
