"""The last step of a galaxy: maps put together, FITS and figure made beside the store, then everything renamed."""

import warnings
from pathlib import Path

import numpy as np
import zarr

from galprote.model.errors import CubeError
from galprote.pipeline.config import ProductsConfig
from galprote.pipeline.fits_export import export_fits
from galprote.pipeline.layout import StoreLayout, all_product_files, sky_coordinates
from galprote.pipeline.plan import ChunkPlan
from galprote.pipeline.store import GalaxyStore
from galprote.pipeline.zarr_path import input_state
from galprote.workflows.figure import draw_maps


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
    made_before = (store.finished_provenance() or {}).get("fingerprint") == layout.fingerprint
    if not (made_before and not store.store.is_dir()):
        _require_same_input(cube_path, layout)
        _make_products(store, plan, layout, products, missing)
    elif not missing:
        store.sweep()
    ages = zarr.open_group(store.final, mode="r")["age_lw"]
    assert isinstance(ages, zarr.Array)
    return int(np.isfinite(np.asarray(ages[...])).sum())


def _make_products(
    store: GalaxyStore, plan: ChunkPlan, layout: StoreLayout, products: ProductsConfig, missing: frozenset[int]
) -> None:
    sky = sky_coordinates(layout.attributes["wcs_header"], plan.ny, plan.nx)
    store.assemble(plan, layout.maps, layout.coordinates | sky, missing)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(store.store, zarr_format=3)
    files: list[Path] = []
    try:
        if products.fits:
            files += export_fits(store.store, store.partial)
        if products.figure:
            files.append(store.partial / f"{store.name}_maps.png")
            draw_maps(store.store, files[-1])
    except OSError:
        for half in [*store.partial.glob("*.fits*"), *store.partial.glob("*.png*")]:
            half.unlink(missing_ok=True)  # the disk may be full
        raise
    made = {store.final.name, *(file.name for file in files)}
    obsolete = [name for name in all_product_files(store.name) if name not in made]
    store.publish(files, obsolete, keep_ledger=bool(missing))


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
