"""How maps compare with the truth of a mock cube."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import xarray as xr
from astropy.io import fits
from numpy.typing import NDArray

from galprote.model.errors import CubeError

#: Variable of the maps -> extension of the truth.
QUANTITIES: Final = {
    "age_lw": "AGE_LW", "metallicity_lw": "Z_LW", "av": "AV_STARS", "age_mw": "AGE_MW", "metallicity_mw": "Z_MW",
}  # fmt: skip

#: Signal-to-noise ratios at which spaxels are split.
SNR_EDGES: Final = (10.0, 20.0)

#: Standard deviation of a Gaussian over its median absolute deviation.
_SIGMA_PER_MAD: Final = 1.4826


@dataclass(frozen=True)
class TruthRow:
    """How one quantity was recovered in a range of signal-to-noise ratios; statistics of map minus truth.

    Attributes
    ----------
    quantity : str
        A name of `QUANTITIES`; dex, mag for `av`.
    snr_range : tuple of float
        Lower end (included) and upper end (excluded); (0, inf) for all fitted spaxels.
    n : int
        Fitted spaxels with a truth.
    bias : float
        Mean difference; NaN without spaxels, as all that follow.
    rms : float
        Root mean square difference.
    sigma : float
        Robust standard deviation about the median: 1.4826 times the median absolute deviation.
    correlation : float
        Pearson's coefficient of map and truth; NaN where either is constant.
    within_1, within_2 : float
        Shares of the spaxels whose truth lies within one and two errors of the map; NaN without errors.
    """

    quantity: str
    snr_range: tuple[float, float]
    n: int
    bias: float
    rms: float
    sigma: float
    correlation: float
    within_1: float
    within_2: float


def compare_with_truth(maps: xr.Dataset, truth: Path, snr_edges: Sequence[float] = SNR_EDGES) -> list[TruthRow]:
    """Compare maps with the truth of the mock cube that they were made from.

    Parameters
    ----------
    maps : xr.Dataset
        Those of `QUANTITIES`, their errors (`age_lw_error`, ...) and `snr`, each (y, x) float; NaN where not
        fitted.
    truth : Path
        The file at `galprote.pipeline.mock.truth_path(cube)`.
    snr_edges : sequence of float
        Increasing signal-to-noise ratios at which the spaxels are split, in the unit of the maps' `snr`.

    Returns
    -------
    list of TruthRow
        For each quantity all fitted spaxels, then each range in turn.

    Raises
    ------
    CubeError
        If the truth cannot be read, or is of a cube of another shape than the maps.
    """
    true = _read_truth(truth)
    snr = _map(maps, "snr", truth, next(iter(true.values())).shape)
    edges = (0.0, *snr_edges, np.inf)
    ranges = [(0.0, np.inf), *(pairwise(edges) if snr_edges else ())]
    rows = []
    for quantity, values in true.items():
        fitted, error = (_map(maps, name, truth, values.shape) for name in (quantity, f"{quantity}_error"))
        both = np.isfinite(fitted) & np.isfinite(values)
        for low, high in ranges:
            # Not every fitted spaxel needs to have a signal-to-noise ratio: the row of all spaxels counts each.
            chosen = both if (low, high) == ranges[0] else both & (snr >= low) & (snr < high)
            rows.append(_statistics(quantity, (low, high), fitted[chosen], values[chosen], error[chosen]))
    return rows


def _read_truth(path: Path) -> dict[str, NDArray[np.float64]]:
    try:
        with fits.open(path) as hdus:
            return {name: hdus[extension].data.astype(np.float64) for name, extension in QUANTITIES.items()}
    except (OSError, KeyError) as error:
        wanted = f"a FITS file with extensions {', '.join(QUANTITIES.values())}"
        raise CubeError(f"{path}: not the truth of a mock cube, {wanted}: {error}") from error


def _map(maps: xr.Dataset, name: str, truth: Path, shape: tuple[int, ...]) -> NDArray[np.float64]:
    values = maps[name].transpose("y", "x").to_numpy().astype(np.float64)
    if values.shape != shape:
        raise CubeError(
            f"{truth}: the truth has {shape[0]} x {shape[1]} spaxels (rows x columns), the map {name} has "
            f"{values.shape[0]} x {values.shape[1]}: they are not of the same cube; make the mock and its maps again"
        )
    return values


def _statistics(
    quantity: str,
    snr_range: tuple[float, float],
    fitted: NDArray[np.float64],
    true: NDArray[np.float64],
    error: NDArray[np.float64],
) -> TruthRow:
    n = len(fitted)
    if n == 0:
        return TruthRow(quantity, snr_range, 0, *[np.nan] * 6)
    difference = fitted - true
    varies = bool(np.ptp(fitted) > 0 and np.ptp(true) > 0)
    known = bool(np.isfinite(error).all())
    within = [float(np.mean(np.abs(difference) <= k * error)) if known else np.nan for k in (1, 2)]
    return TruthRow(
        quantity,
        snr_range,
        n,
        float(difference.mean()),
        float(np.sqrt(np.mean(difference**2))),
        float(_SIGMA_PER_MAD * np.median(np.abs(difference - np.median(difference)))),
        float(np.corrcoef(fitted, true)[0, 1]) if varies else np.nan,
        *within,
    )
