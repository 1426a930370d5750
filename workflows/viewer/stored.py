"""A finished store as the viewer reads it: maps one at a time, cubes by inner chunks, never a whole cube."""

import json
from collections import OrderedDict
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any, Final

import numpy as np
import zarr
from astropy.wcs import WCS
from numpy.typing import NDArray

from galprote.model.errors import GalproteError
from galprote.model.grids import KEPT
from galprote.pipeline.map_wcs import read_wcs
from galprote.pipeline.maps import find_maps, open_maps
from galprote.pipeline.products import EVERY_MAP
from galprote.pipeline.quality import UNRELIABLE
from galprote.pipeline.spectral_masks import WavelengthMasks, masked_samples, read_bands
from galprote.pipeline.store import BINS

#: Bytes of maps that are kept in memory.
CACHE: Final = 100_000_000


class ViewError(GalproteError):
    """What is to be looked at is not there, or two stores do not go together."""


class StoredGalaxy:
    """The products of a galaxy.

    Parameters
    ----------
    path : Path
        A finished `<name>.zarr`, or a folder with one.

    Raises
    ------
    MapsError, ViewError
        If it is not one.
    """

    def __init__(self, path: Path) -> None:
        self.path = find_maps(path)
        if self.path.is_file():
            raise ViewError(f"{path}: a file, not a store of galprote. {_store_to_view(self.path)}")
        open_maps(self.path).close()  # says what is wrong with it
        group = zarr.open_group(self.path, mode="r")
        self.about: dict[str, Any] = dict(group.attrs)
        self.arrays: dict[str, Any] = dict(group.arrays())
        self.shape: tuple[int, int] = self.arrays["status"].shape
        order = {product.name: number for number, product in enumerate(EVERY_MAP)}
        maps = [name for name, array in self.arrays.items() if array.shape == self.shape and name not in ("ra", "dec")]
        self.maps = sorted((name for name in maps if name != "status"), key=lambda name: (order.get(name, 999), name))
        self._kept: OrderedDict[str, NDArray[Any]] = OrderedDict()
        self._lock = RLock()

    @property
    def name(self) -> str:
        """The galaxy's name."""
        return str(self.about.get("galaxy", self.path.stem))

    @cached_property
    def record(self) -> dict[str, Any]:
        """Provenance."""
        return dict(json.loads(self.about["provenance"]))

    @cached_property
    def wcs(self) -> WCS | None:
        """Celestial WCS of the whole image, if there is one."""
        text = str(self.about.get("wcs_header", ""))
        return read_wcs(text) if text else None

    @property
    def unreliable(self) -> int:
        """Bits of spaxels that have no values, or values that nobody should use."""
        return int(self.arrays["status"].attrs.get("unreliable_bits", int(UNRELIABLE)))

    def attributes(self, name: str) -> dict[str, Any]:
        """Attributes of a map: `long_name`, `units`; none of one that is not there."""
        return dict(self.arrays[name].attrs) if name in self.arrays else {}

    def map(self, name: str) -> NDArray[Any]:
        """A map (y, x), read once and kept while there is room for it. Not to be changed."""
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
            values = np.asarray(self.arrays[name][...])
            self._kept[name] = values
            while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > CACHE:
                self._kept.popitem(last=False)
            return values

    # --- spectra ---

    @property
    def binned(self) -> bool:
        """Whether spectra are those of bins."""
        return "bin_id" in self.arrays

    @cached_property
    def _bins(self) -> dict[str, Any]:
        """Arrays of the group of the bins."""
        if not self.binned or not (self.path / BINS).is_dir():
            return {}
        return dict(zarr.open_group(self.path / BINS, mode="r").arrays())

    def cube(self, name: str) -> Any:
        """A cube's array, of spaxels or of bins; None if the run did not keep it."""
        return (self._bins if self.binned else self.arrays).get(name)

    def axis(self, name: str) -> NDArray[np.float64]:
        """An axis of the cubes: `wavelength`, `metallicity`, `age`."""
        arrays = self._bins if self.binned and name in self._bins else self.arrays
        return np.asarray(arrays[name][...], dtype=np.float64)

    def places(self, y: NDArray[np.intp], x: NDArray[np.intp]) -> tuple[NDArray[np.intp], ...]:
        """Where in the cubes spaxels are: rows and columns; with bins their places in the table, each once."""
        if not self.binned:
            return y, x
        wanted = np.unique(self.map("bin_id")[y, x])
        ids = np.asarray(self._bins["bin"][...])
        order = np.argsort(ids)
        at = np.searchsorted(ids, wanted[wanted >= 0], sorter=order)
        return (order[at],)

    @cached_property
    def unused(self) -> NDArray[np.bool_]:
        """Samples (948,) that no fit used: emission bands and the survey's masks, as far as the store knows."""
        observed, rest = (str(self.about.get(f"masked_{frame}", "")) for frame in ("observed", "rest"))
        masks = WavelengthMasks(read_bands(observed), read_bands(rest))
        return np.asarray(~KEPT | masked_samples(masks, float(self.about["redshift"])))


def _store_to_view(file: Path) -> str:
    """The store of the run that wrote a file, if it lies beside it, or what to name instead."""
    stem = file.stem
    for product in ("_MAPS", "_RESIDUAL", "_CONTSUB"):
        stem = stem.removesuffix(product)
    store = file.with_name(f"{stem}.zarr")
    if store.is_dir():
        return f"View the store beside it: galprote-pipeline view {store}"
    return "Expected the folder NAME.zarr that `galprote-pipeline run` writes"


def check_same_spaxels(one: StoredGalaxy, other: StoredGalaxy) -> None:
    """Refuse two stores whose spaxels are not the same places.

    Raises
    ------
    ViewError
        If their images differ in size, or lie more than half a spaxel apart on the sky.
    """
    if one.shape != other.shape:
        raise ViewError(
            f"{other.path}: {other.shape[0]} x {other.shape[1]} spaxels, but {one.path} has {one.shape[0]} x "
            f"{one.shape[1]}: only runs on the same spaxels can be compared here"
        )
    if one.wcs is None or other.wcs is None:
        return
    corners = np.array([(0, 0, one.shape[1] - 1, one.shape[1] - 1), (0, one.shape[0] - 1, 0, one.shape[0] - 1)])
    apart = np.array(one.wcs.world_to_pixel(other.wcs.pixel_to_world(*corners))) - corners
    if not np.hypot(*apart).max() < 0.5:
        raise ViewError(
            f"{other.path}: its spaxels lie up to {np.hypot(*apart).max():.1f} spaxels from those of {one.path}: "
            "reproject one of them first (galprote.pipeline.open_maps)"
        )
