"""How much room a survey's products take."""

import shutil
from pathlib import Path
from typing import Final

from dask.utils import format_bytes

from galprote.model.grids import N_WAVELENGTH
from galprote.pipeline.products import MAPS
from galprote.workflows.galaxy import GalaxyJob

#: Bytes of headers, metadata and the figure.
BASE_BYTES: Final = 2 * 1024**2

#: Bytes of one spaxel's grid.
GRID_BYTES: Final = 2 * 636


def product_bytes(job: GalaxyJob) -> int:
    """Room that a galaxy's products take if nothing can be compressed, their working copies included."""
    wanted, plan = job.galaxy.products, job.plan
    cubes = (
        wanted.residual * N_WAVELENGTH * 4 + wanted.continuum_subtracted * plan.channels * 8 + wanted.grid * GRID_BYTES
    )
    maps = 4 * len(MAPS) + 16
    return BASE_BYTES + plan.ny * plan.nx * ((cubes + maps) * (2 if wanted.fits else 1) + maps)


def used_bytes(folder: Path) -> int:
    """Room that the files under a folder take."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def disk_words(output: Path, jobs: list[GalaxyJob]) -> str:
    """Say how much room is missing on a full disk."""
    open_jobs = [job for job in jobs if not job.store.final.exists()]
    needed = sum(max(product_bytes(job) - used_bytes(job.store.partial), 0) for job in open_jobs)
    free = shutil.disk_usage(output).free
    return (
        f"no space left on the disk of {output}: {format_bytes(free)} are free, what is missing may take up "
        f"to {format_bytes(needed)}. What is finished is kept. Make room, then run the same command again"
    )
