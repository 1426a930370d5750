"""What is known of a selection: numbers, residual, grid, and the fit of its spectrum."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from galprote.workflows.viewer.chunked import ChunkedMean, read_mean
from galprote.workflows.viewer.refitting import Refit
from galprote.workflows.viewer.selection import Selection
from galprote.workflows.viewer.stored import StoredGalaxy
from galprote.workflows.viewer.values import Numbers, numbers_of

Stop = Callable[[], bool]


@dataclass(frozen=True)
class Look:
    """What the store says of a selection.

    Attributes
    ----------
    numbers, others : list of Numbers
        Of the galaxy's maps, and of those of the run that it is compared to.
    residual, grid : ChunkedMean, optional
        (948,), and (n_metallicity, n_age); None if the run did not keep them, or nothing is there.
    """

    numbers: list[Numbers]
    others: list[Numbers]
    residual: ChunkedMean | None
    grid: ChunkedMean | None


def look_at(galaxy: StoredGalaxy, other: StoredGalaxy | None, selection: Selection, hidden: int, stop: Stop) -> Look:
    """Read what the store says of a selection: spectra and grids of a region are the mean of what is not hidden."""
    numbers = numbers_of(galaxy, selection, hidden, stop)
    others = [] if other is None else numbers_of(other, selection, hidden, stop)
    y, x = selection.y, selection.x
    if not selection.single:
        shown = (galaxy.map("status")[y, x] & np.int32(hidden)) == 0
        y, x = y[shown], x[shown]
    places = galaxy.places(y, x)
    means: list[ChunkedMean | None] = []
    for name, axes in (("residual", (-2, -1)), ("grid", (0, 1))):
        array = galaxy.cube(name)
        if array is None or not len(places[0]):
            means.append(None)
            continue
        on = axes if not galaxy.binned else (axes[-1],) if name == "residual" else (0,)
        means.append(read_mean(array, tuple(axis % array.ndim for axis in on), places, stop=stop))
    return Look(numbers, others, *means)


@dataclass(frozen=True)
class Lines:
    """What the spectrum's panels draw, at `wavelength`.

    Attributes
    ----------
    flux, model, residual, low, high : (948,) float64
        `low` and `high` are one sigma around zero: the noise of a spectrum, or the scatter of a region's residuals
        around their mean. NaN where there is nothing.
    bands, masked, replaced : (948,) bool
        What did not decide the fit.
    """

    flux: NDArray[np.float64]
    model: NDArray[np.float64]
    residual: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    bands: NDArray[np.bool_]
    masked: NDArray[np.bool_]
    replaced: NDArray[np.bool_]

    @property
    def used(self) -> NDArray[np.bool_]:
        """Samples that decided the fit."""
        return ~(self.bands | self.masked | self.replaced)


def lines_of(galaxy: StoredGalaxy, look: Look, refit: Refit | None, length: int) -> Lines:
    """Put store and fit together."""
    nothing, no = np.full(length, np.nan), np.zeros(length, dtype=bool)
    flux = model = residual = low = high = nothing
    bands, masked, replaced = galaxy.unused, no, no
    if refit is not None:
        fit = refit.fit
        flux, model = fit.flux[0].astype(float), fit.model[0].astype(float)
        residual, high = flux - model, fit.error[0].astype(float)
        low, bands, masked, replaced = -high, fit.bands, fit.masked[0], fit.replaced[0]
    stored = look.residual
    if stored is not None and refit is not None and (stored.asked > 1 or not np.isfinite(stored.mean).any()):
        stored = None  # a region's is that of its mean spectrum; what the run did not fit has none
    if stored is not None:
        residual = stored.mean
    if stored is not None and stored.asked > 1:
        low, high = residual - stored.scatter, residual + stored.scatter
    return Lines(flux, model, residual, low, high, bands, masked, replaced)
