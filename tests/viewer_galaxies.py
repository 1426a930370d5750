"""Stores for the tests of the viewer: their numbers tell where they are."""

from pathlib import Path

import numpy as np

from galprote.model.grids import WAVELENGTH
from galprote.pipeline.quality import Status
from galprote.workflows.viewer.stored import StoredGalaxy
from tests import stores

SHAPE = (30, 90)  # three by three inner chunks
ODD = (5, 50, int(Status.UNLIKE_TRAINING))
DARK = (5, 51, int(Status.LOW_SNR))


def always() -> bool:
    return False


def write_galaxy(folder: Path) -> StoredGalaxy:
    """Residual = row + 1000 x column + sample / 1000 in float32; its grid has all light of a spaxel in one cell."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    residual = (y + 1000.0 * x)[None] + np.arange(len(WAVELENGTH))[:, None, None] / 1000
    grid = np.zeros((*SHAPE, 12, 53), dtype=np.float16)
    grid[y, x, y % 12, x % 53] = 1
    maps = stores.simple_maps(SHAPE, flagged=(ODD, DARK))
    stores.write_store(folder / "N1.zarr", maps, cube={"residual": residual.astype(np.float32), "grid": grid})
    return StoredGalaxy(folder / "N1.zarr")


def write_binned(folder: Path) -> StoredGalaxy:
    """Bins of 10 x 10 spaxels, numbered from 100 backwards in the table; no sky, the last rows in no bin."""
    shape = (12, 20)
    maps = stores.simple_maps(shape)
    maps["bin_id"] = np.where(np.arange(12)[:, None] < 10, 100 + np.arange(20)[None] // 10, -1).astype(np.int32)
    bins = {"bin": np.array([101, 100], dtype=np.int32),
            "residual": np.stack([np.full(948, 5.0), np.full(948, 7.0)], axis=1).astype(np.float32)}  # fmt: skip
    stores.write_store(folder / "BINNED.zarr", maps, bins=bins, header=None)
    return StoredGalaxy(folder / "BINNED.zarr")
