"""A galaxy's maps beside a reference's: read both, pair them, and work out everything that is reported."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from astropy.wcs import WCS
from numpy.typing import NDArray

from galprote.model.errors import ConfigError
from galprote.pipeline.compared_quantities import Quantity
from galprote.pipeline.comparison import Array, Pairs, Running, Statistics, compare_pairs, running
from galprote.pipeline.comparison_bins import pairs_in_bins
from galprote.pipeline.map_wcs import has_wcs, slice_wcs
from galprote.pipeline.maps import open_maps
from galprote.pipeline.outliers import Outliers, find_outliers
from galprote.pipeline.quality import NOT_FITTED
from galprote.pipeline.reference_maps import Reference, ReferenceMap, ReferenceOptions, read_reference


@dataclass(frozen=True)
class ComparedMap:
    """One quantity.

    Attributes
    ----------
    quantity : Quantity
    source, conversion : str
        The reference's extension, and what was done to it.
    ours, theirs, error : (y, x) float64
        In the compared numbers; NaN where they are not compared. The error is that expected of the difference.
    ours_only, theirs_only : (y, x) float64
        All there is of either, for the maps side by side.
    statistics : tuple of Statistics
        Spaxels, all and by S/N; then bins, if there are any.
    running : Running
    outliers : Outliers
    """

    quantity: Quantity
    source: str
    conversion: str
    ours: Array
    theirs: Array
    error: Array
    ours_only: Array
    theirs_only: Array
    statistics: tuple[Statistics, ...]
    running: Running
    outliers: Outliers

    @property
    def pairs(self) -> Pairs:
        """The spaxels that are compared, without S/N."""
        there = np.isfinite(self.ours)
        return Pairs(self.ours[there], self.theirs[there], self.error[there], np.full(int(there.sum()), np.nan))


@dataclass(frozen=True)
class MapComparison:
    """All quantities of a galaxy.

    Attributes
    ----------
    galaxy : str
    store : Path
    reference : Reference
    maps : dict of str to (y, x)
        Of ours: `status`, and where there are any `snr`, `trust`, `flux`, `ra`, `dec`, `bin_id`.
    wcs : WCS or None
    compared : tuple of ComparedMap
    left_out : dict of str to int
        Our fitted spaxels that are not compared, by reason.
    """

    galaxy: str
    store: Path
    reference: Reference
    maps: dict[str, NDArray[Any]]
    wcs: WCS | None
    compared: tuple[ComparedMap, ...]
    left_out: dict[str, int]


def compare_maps(store: Path, reference: Path, options: ReferenceOptions) -> MapComparison:
    """Compare a galaxy's maps with a reference's.

    Raises
    ------
    ConfigError
        If the reference cannot be read or has nothing in common with the maps.
    MapsError
        If the store is not a finished one.
    """
    ours = open_maps(store)
    read = read_reference(reference, ours, options)
    status = ours["status"].values
    good = (status & int(ours["status"].attrs["unreliable_bits"])) == 0
    names = ("status", "snr", "trust", "flux", "ra", "dec", "bin_id")
    maps = {name: ours[name].values for name in names if name in ours or name in ours.coords}
    bins = read.bins if read.bins is not None else maps.get("bin_id")
    compared = tuple(_compared(ours, item, good & read.good, maps, bins) for item in read.maps)
    if not any(item.statistics[0].n for item in compared):
        raise ConfigError(
            f"reference {reference}: no spaxel has values in both: ours has {int(good.sum()):,} that are fitted and "
            f"trusted, the reference {int(np.isfinite(read.maps[0].values).sum()):,} on our spaxels"
        )
    wcs = slice_wcs(ours) if has_wcs(ours) else None
    left_out = _left_out(status, good, read)
    return MapComparison(str(ours.attrs.get("galaxy", store.stem)), store, read, maps, wcs, compared, left_out)


def _compared(
    ours: xr.Dataset,
    item: ReferenceMap,
    good: NDArray[np.bool_],
    maps: dict[str, NDArray[Any]],
    bins: NDArray[np.int32] | None,
) -> ComparedMap:
    name = item.quantity.name
    shape = good.shape
    error = ours[f"{name}_error"].values if f"{name}_error" in ours else np.full(shape, np.nan)
    values, error = item.quantity.comparable(ours[name].values, error)
    both = good & np.isfinite(values) & np.isfinite(item.values)
    expected = np.hypot(error, np.where(np.isfinite(item.error), item.error, 0.0))
    mine, theirs, sigma = (np.where(both, image, np.nan) for image in (values, item.values, expected))
    snr = np.asarray(maps.get("snr", np.full(shape, np.nan)), dtype=np.float64)
    pairs = Pairs(mine[both], theirs[both], sigma[both], snr[both])
    rows = compare_pairs(pairs, "spaxels")
    if bins is not None:
        light = np.asarray(maps.get("flux", np.ones(shape)))
        rows += compare_pairs(pairs_in_bins(pairs, error[both], item.error[both], bins[both], light[both]), "bins")
    about = {key: value for key, value in maps.items() if key != "flux"} | ({} if bins is None else {"bin_id": bins})
    return ComparedMap(
        item.quantity, item.source, item.conversion, mine, theirs, sigma,
        np.where(good, values, np.nan), item.values,
        rows, running(pairs), find_outliers(mine, theirs, sigma, about),
    )  # fmt: skip


def _left_out(status: NDArray[Any], good: NDArray[np.bool_], reference: Reference) -> dict[str, int]:
    """Why fitted spaxels are not compared."""
    fitted = (status & int(NOT_FITTED)) == 0
    there = np.isfinite(reference.maps[0].values)
    found = Counter(
        {
            "not trusted by us": int((fitted & ~good).sum()),
            "flagged by the reference": int((good & ~reference.good).sum()),
            "without a value in the reference": int((good & reference.good & ~there).sum()),
        }
    )
    return {reason: count for reason, count in found.items() if count}
