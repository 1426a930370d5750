"""A finished store, or the FITS maps beside it -> a lazy xarray Dataset with the accessor `galprote`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from galprote.model.errors import GalproteError
from galprote.pipeline import accessor  # noqa: F401 - registers `Dataset.galprote`
from galprote.pipeline.store import BINS


class MapsError(GalproteError):
    """What was given is not galprote's maps, or not complete."""


def open_maps(path: str | Path) -> xr.Dataset:
    """Open a galaxy's products.

    Parameters
    ----------
    path : str or Path
        A finished `<name>.zarr`.

    Returns
    -------
    xarray.Dataset
        Maps (y, x) and cubes, lazy (Dask arrays in the store's own chunks). Coordinates are `y` and `x`, the spaxels'
        numbers from 0 in the cube, which slices keep and from which `ds.galprote.wcs` is worked out, and `ra` and `dec`
        (y, x), ICRS degrees, if the cube has a celestial WCS.

    Raises
    ------
    MapsError
        If it is not there, not galprote's, or not finished.
    """
    path = Path(path)
    about = _attributes(path)
    if "provenance" not in about:
        raise MapsError(f"{path}: a Zarr store, but not of galprote: expected NAME.zarr of `galprote-pipeline run`")
    maps: xr.Dataset = xr.open_zarr(path, chunks={}, consolidated=True, mask_and_scale=False)
    if "status" not in maps:
        raise MapsError(f"{path}: this store has no maps yet; run the survey to its end")
    return maps.assign_coords(_pixels(maps))


def open_bins(path: str | Path) -> xr.Dataset:
    """Open the bins of a galaxy whose spaxels were binned.

    Parameters
    ----------
    path : str or Path
        A finished `<name>.zarr`.

    Returns
    -------
    xarray.Dataset
        Values (bin,) and spectra (..., bin), lazy. Bin `k` is where the map `bin_id` is `k`.

    Raises
    ------
    MapsError
        If the store has none, or is not a finished one.
    """
    path = Path(path)
    _attributes(path)
    if not (path / BINS).is_dir():
        raise MapsError(f"{path}: the spaxels of this galaxy were not binned")
    bins: xr.Dataset = xr.open_zarr(path, group=BINS, chunks={}, consolidated=False, mask_and_scale=False)
    return bins


def _attributes(path: Path) -> dict[str, Any]:
    """Attributes of a store."""
    if path.name.endswith(".partial") or path.parent.name.endswith(".partial"):
        raise MapsError(f"{path}: not finished; run the survey to its end")
    try:
        return dict(json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"])
    except FileNotFoundError:
        there = sorted(store.name for store in path.glob("*.zarr")) if path.is_dir() else []
        hint = f"; the stores in this folder are {', '.join(there)}" if there else ""
        partial = path.with_name(path.name.removesuffix(".zarr") + ".partial")
        hint = "; it is not finished: run the survey to its end" if partial.is_dir() else hint
        raise MapsError(f"{path}: no store of galprote (looked from {Path.cwd()}){hint}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MapsError(f"{path}: its zarr.json cannot be read: {error}") from error


def _pixels(maps: xr.Dataset) -> dict[str, Any]:
    """Numbers of rows and columns in the cube."""
    return {
        dim: (dim, np.arange(maps.sizes[dim]), {"long_name": f"{what} of the cube, from 0"})
        for dim, what in (("y", "row"), ("x", "column"))
    }
