"""A finished store, or the FITS maps beside it -> a lazy xarray Dataset with the accessor `galprote`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from galprote.model.errors import GalproteError
from galprote.pipeline import accessor  # noqa: F401 - registers `Dataset.galprote`
from galprote.pipeline.store import BINS

#: Attribute of a Dataset: the path that it was opened from.
OPENED_FROM = "opened_from"


class MapsError(GalproteError):
    """What was given is not galprote's maps, or not complete."""


def open_maps(path: str | Path) -> xr.Dataset:
    """Open a galaxy's products.

    Parameters
    ----------
    path : str or Path
        A finished `<name>.zarr`; a folder with one such store; or `<name>_MAPS.fits`, which has the maps alone. `~` is
        the home folder.

    Returns
    -------
    xarray.Dataset
        Maps (y, x) and cubes, lazy (Dask arrays in the store's own chunks; of FITS in memory). Coordinates are `y` and
        `x`, the spaxels' numbers from 0 in the cube, which slices keep and from which `ds.galprote.wcs` is worked out,
        and `ra` and `dec` (y, x), ICRS degrees, if the cube has a celestial WCS. The attribute `opened_from` is
        the path. `ds.galprote` is `galprote.pipeline.accessor.MapsAccessor`.

    Raises
    ------
    MapsError
        If it is not there, not galprote's, or not finished.
    """
    path = find_maps(path)
    if path.is_file():
        from galprote.pipeline.map_files import read_maps  # a second, for its readers of FITS

        return _with_source(read_maps(path), path)
    about = _attributes(path)
    if "provenance" not in about:
        raise MapsError(f"{path}: a Zarr store, but not of galprote: expected NAME.zarr of `galprote-pipeline run`")
    maps: xr.Dataset = xr.open_zarr(path, chunks={}, consolidated=True, mask_and_scale=False)
    if "status" not in maps:
        raise MapsError(f"{path}: this store has no maps yet; run the survey to its end")
    return _with_source(maps.assign_coords(_pixels(maps)), path)


def open_bins(path: str | Path) -> xr.Dataset:
    """Open the bins of a galaxy whose spaxels were binned.

    Parameters
    ----------
    path : str or Path
        A finished `<name>.zarr`, or a folder with one such store.

    Returns
    -------
    xarray.Dataset
        Values (bin,) and spectra (..., bin), lazy. Bin `k` is where the map `bin_id` is `k`.

    Raises
    ------
    MapsError
        If the store has none, or is not a finished one.
    """
    path = find_maps(path)
    if path.is_file():
        raise MapsError(f"{path}: the bins' table is in the store beside it, NAME.zarr, and in NAME_BINS.fits")
    _attributes(path)
    if not (path / BINS).is_dir():
        raise MapsError(f"{path}: the spaxels of this galaxy were not binned")
    bins: xr.Dataset = xr.open_zarr(path, group=BINS, chunks={}, consolidated=False, mask_and_scale=False)
    return bins


def find_maps(path: str | Path) -> Path:
    """Find what is meant by a path: of a folder, the one finished store in it.

    Raises
    ------
    MapsError
        If a folder has several stores, or none.
    """
    path = Path(path).expanduser()
    if not path.is_dir() or (path / "zarr.json").exists() or path.name.endswith((".zarr", ".partial")):
        return path
    stores = sorted(path.glob("*.zarr"))
    if len(stores) != 1:
        there = f"several stores, {', '.join(store.name for store in stores)}: name one" if stores else "no store"
        raise MapsError(f"{path}: a folder with {there}; expected NAME.zarr of `galprote-pipeline run`")
    return stores[0]


def _with_source(maps: xr.Dataset, path: Path) -> xr.Dataset:
    """Note where maps come from, where slices and `where` keep it; FITS files do not."""
    return maps.assign_attrs({OPENED_FROM: str(path.absolute())})


def _attributes(path: Path) -> dict[str, Any]:
    """Attributes of a store."""
    if path.name.endswith(".partial") or path.parent.name.endswith(".partial"):
        raise MapsError(f"{path}: not finished; run the survey to its end")
    try:
        return dict(json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"])
    except FileNotFoundError:
        raise MapsError(f"{path}: no store of galprote (looked from {Path.cwd()}){_hint(path)}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MapsError(f"{path}: its zarr.json cannot be read: {error}") from error


def _hint(path: Path) -> str:
    name = path.name.removesuffix(".zarr")
    if path.with_name(f"{name}.partial").is_dir():
        return "; it is not finished: run the survey to its end"
    near = sorted(store.name for store in path.parent.glob("*.zarr")) if path.parent.is_dir() else []
    return f"; there is {', '.join(near[:10])}" + (", ..." if len(near) > 10 else "") if near else ""


def _pixels(maps: xr.Dataset) -> dict[str, Any]:
    """Numbers of rows and columns in the cube."""
    return {
        dim: (dim, np.arange(maps.sizes[dim]), {"long_name": f"{what} of the cube, from 0"})
        for dim, what in (("y", "row"), ("x", "column"))
    }
