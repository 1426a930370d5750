"""The last step of a galaxy: maps put together, FITS and figure made beside the store, then everything renamed."""

import warnings
from pathlib import Path

import numpy as np
import zarr

from galprote.pipeline.config import ProductsConfig
from galprote.pipeline.fits_export import export_fits
from galprote.pipeline.layout import StoreLayout, all_product_files, sky_coordinates
from galprote.pipeline.plan import ChunkPlan
from galprote.pipeline.store import GalaxyStore
from galprote.workflows.figure import draw_maps


def publish_products(store: GalaxyStore, plan: ChunkPlan, layout: StoreLayout, products: ProductsConfig) -> int:
    """Finish a galaxy all of whose chunks are done.

    The Zarr store gets its final name last: that it exists means that everything else does.

    Returns
    -------
    int
        Number of fitted spaxels.
    """
    sky = sky_coordinates(layout.attributes["wcs_header"], plan.ny, plan.nx)
    store.assemble(plan, layout.maps, layout.coordinates | sky)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(store.store, zarr_format=3)
    files: list[Path] = []
    if products.fits:
        files += export_fits(store.store, store.partial)
    if products.figure:
        files.append(store.partial / f"{store.name}_maps.png")
        draw_maps(store.store, files[-1])
    ages = zarr.open_group(store.store, mode="r")["age_lw"]
    assert isinstance(ages, zarr.Array)
    fitted = int(np.isfinite(np.asarray(ages[...])).sum())
    made = {store.final.name, *(file.name for file in files)}
    store.publish(files, [name for name in all_product_files(store.name) if name not in made])
    return fitted
