"""Lazy cube + plan -> Dask tasks, for each chunk a chain of three: prepare, predict, write. Runs nothing.

The tasks' names start with what they do and the galaxy's name, so that the dashboard reads well. The model is never in
the graph: `predict` asks its own process for it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from dask.base import annotate
from dask.delayed import Delayed, delayed
from numpy.typing import NDArray

from galprote.model.grids import covered
from galprote.model.predictor import shared_predictor
from galprote.pipeline.block import (
    BlockSettings,
    FittedBlock,
    PreparedBlock,
    finish_block,
    predict_block,
    prepare_block,
)
from galprote.pipeline.plan import ChunkPlan
from galprote.pipeline.store import GalaxyStore


@dataclass(frozen=True)
class ModelReference:
    """Which model the workers are to load.

    Attributes
    ----------
    checkpoint : Path or None
        None: the shipped one.
    sha256 : str
        Hash that the file must have.
    device : {"cpu", "cuda"}
    ages_gyr, metallicities : tuple of float
        Axes of its grid.
    visible : tuple of 948 bool
        Samples that it uses.
    appraised : bool
        Whether it gives errors and trust.
    """

    checkpoint: Path | None
    sha256: str
    device: str
    ages_gyr: tuple[float, ...]
    metallicities: tuple[float, ...]
    visible: tuple[bool, ...]
    appraised: bool

    @property
    def window(self) -> tuple[float, float]:
        """Rest-frame wavelengths that a cube must cover, Angstrom."""
        return covered(np.array(self.visible))


@dataclass(frozen=True)
class ChunkSummary:
    """What a finished chunk reports: its number, its spaxels, those with data and those fitted."""

    index: int
    spaxels: int
    with_data: int
    fitted: int


def chunk_tasks(
    cube: xr.Dataset,
    plan: ChunkPlan,
    excluded: NDArray[np.bool_] | None,
    settings: BlockSettings,
    model: ModelReference,
    store: GalaxyStore,
    *,
    skip: frozenset[int] = frozenset(),
    gpu: bool = False,
) -> Iterator[tuple[int, Delayed]]:
    """Build the chain of each chunk that is not done yet.

    Parameters
    ----------
    cube : xarray.Dataset
        From `open_cube`, chunked by the plan's rows.
    plan : ChunkPlan
    excluded : (y, x) bool, optional
    settings : BlockSettings
    model : ModelReference
    store : GalaxyStore
    skip : frozenset of int
        Chunks that are done.
    gpu : bool
        Whether prediction is for workers with the resource GPU.

    Yields
    ------
    (int, Delayed)
        The chunk's number, and the task that gives its `ChunkSummary`.
    """
    flux = cube["flux"].data.to_delayed(optimize_graph=False)[0, :, 0]
    variance = cube["variance"].data.to_delayed(optimize_graph=False)[0, :, 0]
    if len(flux) != len(plan.chunks):
        raise ValueError(f"the cube has {len(flux)} chunks of rows, the plan {len(plan.chunks)}")
    # Bound here: among a task's arguments Dask would look through thousands of numbers for tasks, chunk by chunk.
    prepare = delayed(partial(prepare_block, settings=settings), pure=False)
    predict = delayed(partial(_predict, settings=settings, model=model), pure=False)
    write = delayed(partial(_write, settings=settings, store=store), pure=False)
    for index, rows in enumerate(plan.chunks):
        if index in skip:
            continue
        label = f"{store.name}-{index:05d}"
        mask = None if excluded is None else excluded[rows]
        prepared = prepare(flux[index], variance[index], mask, dask_key_name=f"prepare-{label}")
        with annotate(resources={"GPU": 1} if gpu else {}):
            fitted = predict(prepared, dask_key_name=f"predict-{label}")
        yield index, write(fitted, index=index, rows=rows, dask_key_name=f"write-{label}")


def _predict(prepared: PreparedBlock, *, settings: BlockSettings, model: ModelReference) -> FittedBlock:
    if model.device == "cpu":
        torch.set_num_threads(1)  # a worker process is one core's
    predictor = shared_predictor(model.checkpoint, model.sha256, model.device)
    return predict_block(prepared, settings, predictor)


def _write(
    fitted: FittedBlock, *, settings: BlockSettings, store: GalaxyStore, index: int, rows: slice
) -> ChunkSummary:
    products = finish_block(fitted, settings)
    store.write_chunk(index, rows, products)
    batch = fitted.prepared.batch
    with_data = int(np.isfinite(batch.flux).sum())
    return ChunkSummary(index, len(batch.status), with_data, products.fitted)
