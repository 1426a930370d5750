"""From the values of bins to products: the same on the image, and the bins' own table in the store's group `bins`."""

from typing import Any, Final

import numpy as np
import zarr
from numpy.typing import NDArray

from galprote.pipeline.bin_files import BinFiles
from galprote.pipeline.bin_making import bins_of, read_all_measures
from galprote.pipeline.binning import Bins
from galprote.pipeline.layout import StoreLayout
from galprote.pipeline.map_wcs import sky_positions
from galprote.pipeline.plan import ChunkPlan
from galprote.pipeline.products import BIN_MAPS, EVERY_MAP
from galprote.pipeline.quality import Status
from galprote.pipeline.spaxel_measures import SpaxelMeasures
from galprote.pipeline.store import BINS, GalaxyStore, write_array

#: What is told of each bin besides its maps' values: name -> unit and meaning.
COLUMNS: Final = {
    "bin": ("", "number of the bin, as in the map bin_id"),
    "x": ("pixel", "centre, weighted by light: column, from 0"),
    "y": ("pixel", "centre, weighted by light: row, from 0"),
    "ra": ("degree", "right ascension of the centre (ICRS)"),
    "dec": ("degree", "declination of the centre (ICRS)"),
    "bin_spaxels": ("", "number of spaxels in the bin"),
    "bin_snr": ("", "signal-to-noise ratio per channel, corrected for covariance"),
}


def assemble_bins(
    store: GalaxyStore,
    plan: ChunkPlan,
    cube_plan: ChunkPlan,
    files: BinFiles,
    layout: StoreLayout,
    missing: frozenset[int] = frozenset(),
) -> None:
    """Put the chunks' values together: in the group `bins` for each bin, and painted on the image.

    Parameters
    ----------
    store : GalaxyStore
    plan, cube_plan : ChunkPlan
        Of the bins, and of the image.
    files : BinFiles
    layout : StoreLayout
    missing : frozenset of int
        Chunks of bins that could not be computed: their spaxels are flagged.
    """
    bins, covariance = bins_of(files)
    measures = read_all_measures(files, cube_plan)
    of_bins = {product.name for product in BIN_MAPS}
    values = store.gather(plan, [name for name in layout.maps if name not in of_bins], missing)
    values["status"][_not_summed(files, bins, cube_plan)] = Status.FAILED | Status.NOT_COMPUTED
    group = zarr.open_group(store.store, mode="r+")
    group.attrs.update(
        {
            "bins": len(bins),
            "covariance": bins.covariance,
            "covariance_spaxels": list(covariance.spaxels),
            "covariance_excess": list(covariance.excess),
            "covariance_note": covariance.note,
        }
    )
    table = group.require_group(BINS)
    for name, column in bin_columns(bins, layout.attributes["wcs_header"]).items():
        units, meaning = COLUMNS[name]
        write_array(table, name, ("bin",), column, {"units": units, "long_name": meaning})
    for name, (dims, axis, attributes) in layout.coordinates.items():
        write_array(table, name, dims, axis, attributes)
    for name, column in values.items():
        write_array(table, name, ("bin",), column, layout.maps[name])
    for name, image in painted(values, bins, measures).items():
        write_array(group, name, cube_plan.dims, image, layout.maps[name])
    bits = measures.status | bins.paint(values["status"])
    store.note_gaps(_row_ranges(((bits & Status.NOT_COMPUTED) > 0).any(axis=1)))


def bin_columns(bins: Bins, wcs_header: str) -> dict[str, NDArray[Any]]:
    """What is known of bins before they are fitted; without a WCS no places on the sky."""
    sky = sky_positions(wcs_header, bins.x, bins.y)
    found = {"bin": bins.ids, "x": bins.x, "y": bins.y, "bin_spaxels": bins.spaxels, "bin_snr": bins.snr}
    return found | ({} if sky is None else {"ra": sky[0], "dec": sky[1]})


def painted(values: dict[str, NDArray[Any]], bins: Bins, measures: SpaxelMeasures) -> dict[str, NDArray[Any]]:
    """Maps on the image, in the order of all maps: every spaxel has its bin's values.

    Parameters
    ----------
    values : dict of (n,) array
        Of the bins.
    bins : Bins
    measures : SpaxelMeasures
        Of the spaxels: their own flux and signal-to-noise ratio, and why they are in no bin.

    Returns
    -------
    dict of (ny, nx) array
    """
    found = {name: bins.paint(column) for name, column in values.items()}
    outside = bins.index < 0
    reason = np.where(measures.status == 0, np.int32(Status.NOT_BINNED), measures.status)
    found["status"] = np.where(outside, reason, found["status"]).astype(np.int32)
    found |= {
        "bin_id": np.where(outside, np.int32(-1), bins.paint(bins.ids)).astype(np.int32),
        "bin_spaxels": bins.paint(bins.spaxels),
        "bin_snr": bins.paint(bins.snr),
        "spaxel_flux": measures.signal,
        "spaxel_snr": measures.snr.astype(np.float32),
    }
    return {product.name: found[product.name] for product in EVERY_MAP if product.name in found}


def _not_summed(files: BinFiles, bins: Bins, cube_plan: ChunkPlan) -> NDArray[np.int32]:
    """Bins with spaxels in chunks that could not be summed."""
    done = files.summed(cube_plan)
    lost = [bins.index[rows].ravel() for index, rows in enumerate(cube_plan.chunks) if index not in done]
    touched = np.unique(np.concatenate(lost)) if lost else np.empty(0, dtype=np.int32)
    return touched[touched >= 0]


def _row_ranges(rows: NDArray[np.bool_]) -> list[list[int]]:
    """First and last row of every run of rows."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], rows, [False]]).astype(np.int8)))
    return [[int(first), int(stop) - 1] for first, stop in edges.reshape(-1, 2)]
