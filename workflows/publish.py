"""The last step of a galaxy: maps put together, FITS and figure made beside the store, then everything renamed."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr

from galprote.model.errors import CubeError
from galprote.pipeline.bin_files import BinFiles
from galprote.pipeline.bin_products import assemble_bins
from galprote.pipeline.bin_table import export_bins, write_csv
from galprote.pipeline.config import ProductsConfig
from galprote.pipeline.fingerprint import fingerprint_of
from galprote.pipeline.fits_export import export_fits
from galprote.pipeline.layout import StoreLayout, all_product_files, sky_coordinates
from galprote.pipeline.plan import ChunkPlan
from galprote.pipeline.store import BINS, GalaxyStore, write_array
from galprote.pipeline.zarr_path import input_state


def publish_products(
    store: GalaxyStore,
    plan: ChunkPlan,
    layout: StoreLayout,
    products: ProductsConfig,
    cube_path: Path,
    missing: frozenset[int] = frozenset(),
) -> int:
    """Finish a galaxy all of whose chunks are done or given up.

    The Zarr store gets its final name last: that it exists means that everything else does. If it has it already, an
    earlier attempt came so far before its worker was lost.

    Parameters
    ----------
    store : GalaxyStore
    plan : ChunkPlan
    layout : StoreLayout
    products : ProductsConfig
    cube_path : Path
        The input, which must still be the file that was read.
    missing : frozenset of int
        Chunks that were given up.

    Returns
    -------
    int
        Number of fitted spaxels.

    Raises
    ------
    CubeError
        If the cube changed while it was read.
    """

    def assemble() -> None:
        sky = sky_coordinates(layout.attributes["wcs_header"], plan.ny, plan.nx)
        store.assemble(plan, layout.maps, layout.coordinates | sky, missing)

    return _publish(store, layout, products, cube_path, assemble, complete=not missing)


def publish_bins(
    store: GalaxyStore,
    plan: ChunkPlan,
    cube_plan: ChunkPlan,
    files: BinFiles,
    layout: StoreLayout,
    products: ProductsConfig,
    cube_path: Path,
    missing: frozenset[int] = frozenset(),
) -> int:
    """Finish a galaxy with bins, as `publish_products` does.

    Parameters
    ----------
    store : GalaxyStore
    plan, cube_plan : ChunkPlan
        Of the bins, and of the cube.
    files : BinFiles
    layout : StoreLayout
    products : ProductsConfig
    cube_path : Path
    missing : frozenset of int
        Chunks of bins that were given up.

    Returns
    -------
    int
        Number of spaxels with values.
    """

    def assemble() -> None:
        assemble_bins(store, plan, cube_plan, files, layout, missing)
        sky = sky_coordinates(layout.attributes["wcs_header"], cube_plan.ny, cube_plan.nx)
        group = zarr.open_group(store.store, mode="r+")
        for name, (dims, values, attributes) in sky.items():
            write_array(group, name, dims, values, attributes)

    whole = len(files.measured(cube_plan)) == len(files.summed(cube_plan)) == len(cube_plan.chunks)
    return _publish(store, layout, products, cube_path, assemble, complete=whole and not missing)


def _publish(
    store: GalaxyStore,
    layout: StoreLayout,
    products: ProductsConfig,
    cube_path: Path,
    assemble: Callable[[], None],
    *,
    complete: bool,
) -> int:
    made_before = fingerprint_of(store.finished_provenance()) == layout.fingerprint
    if not (made_before and not store.store.is_dir()):
        _require_same_input(cube_path, layout)
        assemble()
        _make_products(store, products, complete=complete)
    elif complete:
        store.sweep()
    ages = zarr.open_group(store.final, mode="r")["age_lw"]
    assert isinstance(ages, zarr.Array)
    return int(np.isfinite(np.asarray(ages[...])).sum())


def _make_products(store: GalaxyStore, products: ProductsConfig, *, complete: bool) -> None:
    binned = (store.store / BINS).is_dir()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(store.store, zarr_format=3)
    files: list[Path] = []
    try:
        if products.fits:
            files += export_fits(store.store, store.partial)
            files += [export_bins(store.store, store.partial)] if binned else []
        files += [write_csv(store.store, store.partial)] if binned else []
        if products.figure:
            from galprote.workflows.figure import draw_maps  # matplotlib: not for the process that drives the run

            files.append(store.partial / f"{store.name}_maps.png")
            draw_maps(store.store, files[-1])
    except OSError:
        for half in [path for end in ("fits", "png", "csv") for path in store.partial.glob(f"*.{end}*")]:
            half.unlink(missing_ok=True)  # the disk may be full
        raise
    made = {store.final.name, *(file.name for file in files)}
    obsolete = [name for name in all_product_files(store.name) if name not in made]
    store.publish(files, obsolete, keep_ledger=not complete)


def _require_same_input(cube_path: Path, layout: StoreLayout) -> None:
    """Raise CubeError if the cube is not what it was when the galaxy began."""
    before = layout.provenance["input"]
    try:
        size, modified = input_state(cube_path)
    except OSError as error:
        raise CubeError(f"{cube_path}: gone while it was read: {error.strerror}") from error
    changed = before["modified"] is not None and modified != before["modified"]
    if size != before["bytes"] or changed:
        raise CubeError(f"{cube_path}: changed while it was read; run the survey again, with --overwrite")
