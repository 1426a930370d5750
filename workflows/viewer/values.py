"""The numbers of a selection: values with errors of a spaxel; mean, median and scatter of a region; flags counted."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galprote.pipeline.quality import Status
from galprote.workflows.viewer.selection import Selection
from galprote.workflows.viewer.stored import StoredGalaxy


@dataclass(frozen=True)
class Numbers:
    """What a map says of a selection.

    Attributes
    ----------
    name : str
        The map.
    value : float
        Of a single spaxel or bin; the mean of a region, and of a bin's spaxels in maps of these themselves.
    error : float
        One sigma, as the map's error says; NaN for a mean.
    median, scatter : float
        Of a region: of the spaxels that count.
    used : int
        Spaxels that count: with a value, and not hidden.
    """

    name: str
    value: float
    error: float
    median: float
    scatter: float
    used: int


def numbers_of(
    galaxy: StoredGalaxy, selection: Selection, hidden: int, stop: Callable[[], bool] = lambda: False
) -> list[Numbers]:
    """Read what all maps say of a selection.

    Parameters
    ----------
    galaxy : StoredGalaxy
    selection : Selection
    hidden : int
        Bits of `status`: spaxels of a region that have one of them do not count.
    stop : callable
        Asked before each map whether to go on.
    """
    shown = (galaxy.map("status")[selection.y, selection.x] & hidden) == 0
    found = []
    for name in galaxy.maps:
        if stop():
            break
        if name.endswith("_error"):
            continue
        values = galaxy.map(name)[selection.y, selection.x].astype(np.float64)
        if selection.single:
            found.append(_single(galaxy, name, selection, values))
        elif name != "bin_id":
            found.append(_region(name, values[shown & np.isfinite(values)]))
    return found


def _single(galaxy: StoredGalaxy, name: str, selection: Selection, values: NDArray[np.float64]) -> Numbers:
    """Of a spaxel or a bin; spaxels of a bin have one value, but in `spaxel_flux` and the like."""
    known = values[np.isfinite(values)]
    if len(known) and known.min() < known.max():
        return Numbers(name, float(known.mean()), np.nan, np.nan, np.nan, len(known))
    error = f"{name}_error"
    sigma = float(galaxy.map(error)[selection.y[0], selection.x[0]]) if error in galaxy.arrays else np.nan
    return Numbers(name, float(values[0]), sigma, np.nan, np.nan, int(np.isfinite(values[0])))


def _region(name: str, values: NDArray[np.float64]) -> Numbers:
    if not len(values):
        return Numbers(name, np.nan, np.nan, np.nan, np.nan, 0)
    scatter = float(values.std(ddof=1)) if len(values) > 1 else np.nan
    return Numbers(name, float(values.mean()), np.nan, float(np.median(values)), scatter, len(values))


def flag_counts(status: NDArray[Any]) -> dict[Status, int]:
    """Spaxels with each status bit, those that none has left out."""
    counts = {bit: int(np.count_nonzero(status & np.int32(bit))) for bit in Status}
    return {bit: count for bit, count in counts.items() if count}
