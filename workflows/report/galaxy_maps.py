"""A finished store's maps, read one at a time, and a galaxy's numbers."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from galprote.pipeline.maps import open_maps
from galprote.pipeline.quality import NOT_FITTED, UNRELIABLE, Kinds, Status
from galprote.pipeline.store import GAPS

#: Maps whose medians and errors head the page: name, words, unit.
HEADLINES: Final = (
    ("age_lw", "log₁₀ (age / yr)", ""), ("metallicity_lw", "[M/H]", "dex"), ("av", "Aᵥ", "mag"),
)  # fmt: skip


@dataclass(frozen=True)
class Median:
    """The median of a map over the good spaxels, its 16th and 84th percentile, and the median of its error.

    NaN without values; `error` also without errors.
    """

    label: str
    unit: str
    value: float
    low: float
    high: float
    error: float


@dataclass(frozen=True)
class FlagCount:
    """How many spaxels have a status bit; `lost` if those have no values, or none that count."""

    name: str
    bit: int
    spaxels: int
    lost: bool


class GalaxyMaps:
    """Maps of a finished store.

    Parameters
    ----------
    store : Path
        A finished `<name>.zarr`.

    Attributes
    ----------
    dataset : xarray.Dataset
        Lazy.
    status : (y, x) int32
    good : (y, x) bool
        Fitted and trusted.

    Raises
    ------
    MapsError
        If it is not there, or not finished.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self.dataset: xr.Dataset = open_maps(store)
        self.about: dict[str, Any] = dict(self.dataset.attrs)
        self.record: dict[str, Any] = json.loads(self.about["provenance"])
        self.status: NDArray[np.int32] = np.asarray(self.dataset["status"].values, dtype=np.int32)
        self.good: NDArray[np.bool_] = (self.status & int(UNRELIABLE)) == 0

    @cached_property
    def kinds(self) -> Kinds:
        """Which spaxels lack a value, or have one that is not good."""
        return Kinds.of(self.status)

    @property
    def name(self) -> str:
        """The galaxy's name."""
        return str(self.about["galaxy"])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.status.shape[0]), int(self.status.shape[1])

    @property
    def bins(self) -> int | None:
        """Number of bins of a binned galaxy."""
        return int(self.about["bins"]) if "bins" in self.about else None

    @property
    def gaps(self) -> list[list[int]]:
        """First and last image row of chunks that could not be computed."""
        return [[int(end) for end in gap] for gap in self.about.get(GAPS, [])]

    def read(self, name: str) -> NDArray[np.float32] | None:
        """A map (y, x), or None if there is none, or nothing in it."""
        if name not in self.dataset:
            return None
        values = np.asarray(self.dataset[name].values, dtype=np.float32)
        return values if np.isfinite(values).any() else None

    def good_values(self, name: str) -> NDArray[np.float32]:
        """Finite values of a map in good spaxels, (n,)."""
        values = self.read(name)
        if values is None:
            return np.empty(0, dtype=np.float32)
        return values[self.good & np.isfinite(values)]

    def counts(self) -> dict[str, int]:
        """Spaxels of the image, with data, fitted, good, and with each kind of flag."""
        kinds = self.kinds
        return {
            "spaxels": int(self.status.size),
            "with_data": int(((self.status & Status.NO_DATA) == 0).sum()),
            "fitted": int(((self.status & int(NOT_FITTED)) == 0).sum()),
            "good": int(self.good.sum()),
            "unfitted": int(kinds.unfitted.sum()),
            "masked": int(kinds.masked.sum()),
            "untrusted": int(kinds.untrusted.sum()),
            "doubtful": int(kinds.doubtful.sum()),
        }

    def medians(self) -> list[Median]:
        """Of the maps of `HEADLINES`."""
        found = []
        for name, label, unit in HEADLINES:
            low, value, high = percentiles(self.good_values(name))
            error = percentiles(self.good_values(f"{name}_error"))[1]
            found.append(Median(label, unit, value, low, high, error))
        return found

    def flags(self) -> list[FlagCount]:
        """Status bits that some spaxels have, in their order."""
        counted = ((bit, int(((self.status & bit) > 0).sum())) for bit in Status)
        return [
            FlagCount(str(bit.name).lower(), int(bit), count, bool(bit & UNRELIABLE)) for bit, count in counted if count
        ]


def percentiles(values: NDArray[np.floating[Any]]) -> tuple[float, float, float]:
    """16th, 50th and 84th percentile; NaN of nothing."""
    if not values.size:
        return np.nan, np.nan, np.nan
    low, middle, high = np.percentile(values.astype(np.float64), (16, 50, 84))
    return float(low), float(middle), float(high)
