"""From a cube's native spectra to what the model sees; plain arrays in, plain arrays out (paper, section 4.3).

In this order: foreground dust removed at observed wavelengths; wavelengths to the rest frame; flux-conserving
rebinning to the model's 948 samples; gaps filled; bright lines and sky residuals replaced by a running median; emission
bands removed; division by the median flux. The noise goes along. Flux densities stay per Angstrom of the observed
frame: multiply by 1 + z for the rest frame.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from galprote.model.grids import KEPT, N_KEPT, N_WAVELENGTH
from galprote.model.medians import pick, row_median
from galprote.pipeline.line_filter import clean_spectra
from galprote.pipeline.quality import Status
from galprote.pipeline.rest_frame import (
    LARGEST_FLUX,
    PreprocessSettings,
    RestFrame,
    is_variance,
    rest_frame,
)

#: Shares above which `status` remarks on filled samples and on channels without a usable variance.
MUCH_FILLED: Final = 0.10
MANY_BAD_VARIANCES: Final = 0.01

#: Spectra that are prepared at a time: what is made of them on the way stays in the processor's cache.
TILE: Final = 128
#: Why a spectrum is not fitted.
REFUSED: Final = Status.NO_DATA | Status.INCOMPLETE | Status.NOT_POSITIVE | Status.LOW_SNR
#: Fields of a batch with a row for each fitted spectrum; the others have one for each spectrum.
OF_FITTED: Final = ("spectra", "noise", "rebinned", "used")


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
    flux, variance = np.ascontiguousarray(flux), np.ascontiguousarray(variance)
    status = np.zeros(n, dtype=np.int32) if excluded is None else excluded.astype(np.int32)
    status[~_with_data(flux)] |= np.int32(Status.NO_DATA)
    rows = np.flatnonzero(status == 0)
    whole = _nothing(n, len(rows), status)
    fitted, frame = 0, rest_frame(settings)
    for start in range(0, len(rows), TILE):
        mine = rows[start : start + TILE]
        part = _prepare(_spectra(flux, mine), _spectra(variance, mine), settings, frame)
        for item in fields(SpectraBatch):
            if item.name in OF_FITTED:
                getattr(whole, item.name)[fitted : fitted + len(part.spectra)] = getattr(part, item.name)
            else:
                getattr(whole, item.name)[mine] = getattr(part, item.name)
        fitted += len(part.spectra)
    return replace(whole, **{name: getattr(whole, name)[:fitted] for name in OF_FITTED})


def _with_data(flux: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which spectra (m, n) have any data: mostly the first channels tell."""
    seen = np.zeros(flux.shape[1], dtype=bool)
    for first in range(0, len(flux), 32):
        if seen.all():
            break
        seen |= (np.abs(flux[first : first + 32]) < LARGEST_FLUX).any(axis=0)
    return seen


def _spectra(array: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Some spectra (m, n) in an array of their own, wavelength first as they were."""
    if rows[-1] - rows[0] == len(rows) - 1:
        return np.ascontiguousarray(array[:, rows[0] : rows[-1] + 1])
    return np.take(array, rows, axis=1)


def _nothing(n: int, k: int, status: NDArray[np.int32]) -> SpectraBatch:
    """Room for n spectra, of which up to k are fitted."""
    unknown = (np.full(n, np.nan, dtype=np.float32) for _ in range(3))
    return SpectraBatch(
        spectra=np.empty((k, N_KEPT), dtype=np.float32),
        noise=np.empty((k, N_KEPT), dtype=np.float32),
        fitted=np.zeros(n, dtype=bool),
        rebinned=np.empty((k, N_WAVELENGTH), dtype=np.float32),
        used=np.empty((k, N_WAVELENGTH), dtype=bool),
        flux=next(unknown),
        snr=next(unknown),
        filled_fraction=next(unknown),
        replaced=np.zeros(n, dtype=np.int16),
        status=status,
    )


def _prepare(
    flux: NDArray[np.float32], variance: NDArray[np.float32], settings: PreprocessSettings, frame: RestFrame
) -> SpectraBatch:
    """Prepare a few spectra (m, n), all of which have data."""
    status = np.zeros(flux.shape[1], dtype=np.int32)
    finite, good = np.abs(flux) < LARGEST_FLUX, is_variance(variance)
    valid = finite & good
    if not valid.all():
        bad_variance = (finite & ~good).mean(axis=0) > MANY_BAD_VARIANCES
        status[bad_variance] |= np.int32(Status.BAD_VARIANCE)
    rebinned, rest, rest_variance = frame.rebin_and_mask(flux, variance, valid)
    visible = frame.visible
    measures = _measure(pick(rest, visible), pick(rest_variance, visible), frame.masked[visible])
    for condition, bit in (
        (measures.empty, Status.NO_DATA),
        (measures.filled > settings.max_filled, Status.INCOMPLETE),
        (measures.flux <= 0, Status.NOT_POSITIVE),
        (measures.snr < settings.snr_min, Status.LOW_SNR),
    ):
        status[condition] |= np.int32(bit)
    chosen = (status & np.int32(REFUSED)) == 0
    status[measures.filled > MUCH_FILLED] |= np.int32(Status.FILLED)
    rebinned, rest, rest_variance = (_some(values, chosen) for values in (rebinned, rest, rest_variance))
    cleaned, replaced = clean_spectra(rest, settings.redshift, settings.line_filter, settings.allowance, visible)
    kept = pick(cleaned, KEPT)
    scale = row_median(kept)[:, None]
    positive = scale[:, 0] > 0
    fitted = chosen.copy()
    fitted[chosen] = positive
    status[chosen & ~fitted] |= np.int32(Status.NOT_POSITIVE)
    kept, scale, rebinned, rest, rest_variance = (
        _some(values, positive) for values in (kept, scale, rebinned, rest, rest_variance)
    )
    replaced = _some(replaced, positive)
    count = np.zeros(len(status), dtype=np.int16)
    count[fitted] = pick(replaced, KEPT).sum(axis=1, dtype=np.int16)
    status[count > 0.05 * visible.sum()] |= np.int32(Status.LINES_REPLACED)
    measures.flux[fitted] = scale[:, 0]
    used = ~(np.isnan(rest) | replaced) & visible
    return SpectraBatch(
        spectra=np.divide(kept, scale, dtype=np.float32),
        noise=_relative_noise(pick(rest_variance, KEPT), pick(used, KEPT), scale),
        fitted=fitted,
        rebinned=rebinned,
        used=used,
        flux=measures.flux,
        snr=measures.snr,
        filled_fraction=measures.filled,
        replaced=count,
        status=status,
    )


def _some(values: NDArray[Any], rows: NDArray[np.bool_]) -> NDArray[Any]:
    """Some rows; no copy where they are all."""
    return values if rows.all() else values[rows]


def _relative_noise(
    variance: NDArray[np.float32], used: NDArray[np.bool_], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Standard deviation in units of `scale` (k, 1): (k, 876) float32, infinite where not used."""
    noise = np.sqrt(variance) / scale
    # A variance that single precision rounds to zero says nothing either.
    return np.where(used & (noise > 0), noise, np.float32(np.inf))


class _Measures(NamedTuple):
    """Median flux, median signal-to-noise, share of missing samples, and whether all are missing, of n spectra."""

    flux: NDArray[np.float32]
    snr: NDArray[np.float32]
    filled: NDArray[np.float32]
    empty: NDArray[np.bool_]


def _measure(rest: NDArray[np.float32], variance: NDArray[np.float32], masked: NDArray[np.bool_]) -> _Measures:
    """Measure spectra on their visible samples; masked ones are not counted as missing."""
    missing = np.isnan(rest)
    filled = (missing & ~masked).mean(axis=1, dtype=np.float32) if missing.any() else np.zeros(len(rest), np.float32)
    snr = row_median(np.divide(rest, np.sqrt(variance), dtype=np.float32))
    return _Measures(row_median(rest), snr, filled, np.asarray(missing.all(axis=1)))
