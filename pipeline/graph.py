"""Lazy spectra + plan -> Dask tasks, for each chunk a chain of three: prepare, predict, write. Runs nothing.

The tasks' names start with what they do and the galaxy's name, so that the dashboard reads well. The model is never in
the graph: `predict` asks its own process for it, and where there are workers with the resource GPU only they are asked.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial, wraps
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple, ParamSpec, Protocol, TypeVar
from uuid import uuid4

import numpy as np
import torch
import xarray as xr
from dask.base import annotate
from dask.delayed import Delayed, delayed
from dask.graph_manipulation import clone
from distributed import get_worker
from numpy.typing import NDArray

from galprote.model.checkpoint import Checkpoint
from galprote.model.errors import PlanError
from galprote.model.grids import covered
from galprote.model.line_spread import MUSE_TEMPLATES, TemplateResolution
from galprote.model.precision import Precision
from galprote.model.predictor import shared_predictor
from galprote.pipeline.allocator import keep_freed_memory
from galprote.pipeline.block import (
    BlockSettings,
    FittedBlock,
    PreparedBlock,
    finish_block,
    predict_block,
    prepare_block,
)
from galprote.pipeline.plan import ChunkPlan
from galprote.pipeline.provenance import NUMERIC_VERSION
from galprote.pipeline.store import GalaxyStore

#: Begins the note in which an exception carries its worker's address.
WORKER_NOTE: Final = "on worker "


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
    numeric_version : int
        Of the code that planned the run; workers with another one refuse.
    resolution : TemplateResolution
        How sharp its templates are.
    precision : Precision
        In which its largest layers are run.
    """

    checkpoint: Path | None
    sha256: str
    device: str
    ages_gyr: tuple[float, ...]
    metallicities: tuple[float, ...]
    visible: tuple[bool, ...]
    appraised: bool
    numeric_version: int = NUMERIC_VERSION
    resolution: TemplateResolution = MUSE_TEMPLATES
    precision: Precision = "float32"

    @property
    def window(self) -> tuple[float, float]:
        """Rest-frame wavelengths that a cube must cover, Angstrom."""
        return covered(np.array(self.visible))


def describe_model(checkpoint: Checkpoint, path: Path | None, device: str, precision: Precision) -> ModelReference:
    """Describe a checkpoint that was loaded from `path` (None: the shipped one) for the workers."""
    decoder, config = checkpoint.decoder, checkpoint.model.config
    return ModelReference(
        path,
        checkpoint.sha256,
        device,
        tuple(decoder.ages_gyr.tolist()),
        tuple(decoder.metallicities.tolist()),
        tuple(config.visible.tolist()),
        config.appraisal is not None,
        resolution=TemplateResolution.of_metadata(checkpoint.metadata),
        precision=precision,
    )


@dataclass(frozen=True)
class ChunkSummary:
    """What a finished chunk reports.

    Attributes
    ----------
    index, spaxels, with_data, fitted : int
        Its number, its spaxels, those with data and those fitted.
    bytes_read : int
        Of flux and variance.
    predict_seconds : float
    batch : int
        Spectra that the model took at once; smaller than at first if memory ran out.
    """

    index: int
    spaxels: int
    with_data: int
    fitted: int
    bytes_read: int = 0
    predict_seconds: float = 0.0
    batch: int = 0


class Predicted(NamedTuple):
    """A block after the model, and what it took."""

    fitted: FittedBlock
    seconds: float
    batch: int


class Reader(Protocol):
    """Where chunks of spectra come from."""

    def __len__(self) -> int:
        """Number of chunks."""

    def read(self, index: int, again: str) -> list[Delayed]:
        """Tasks that give flux and variance of a chunk, (m, ...) float32; another word `again`, other tasks."""


class CubeReader:
    """Reads chunks of a cube.

    Parameters
    ----------
    cube : xarray.Dataset
        From `open_cube`, chunked by the plan's rows.
    """

    def __init__(self, cube: xr.Dataset) -> None:
        self.flux = cube["flux"].data.to_delayed(optimize_graph=False)[0, :, 0]
        self.variance = cube["variance"].data.to_delayed(optimize_graph=False)[0, :, 0]

    def __len__(self) -> int:
        return len(self.flux)

    def read(self, index: int, again: str) -> list[Delayed]:
        """Tasks that give flux and variance of a chunk, (m, rows, nx) float32."""
        found = [self.flux[index], self.variance[index]]
        return [clone(item, seed=(again, index)) for item in found] if again else found


class ChunkGraph:
    """The chains of a galaxy's chunks.

    Parameters
    ----------
    reader : Reader
        Of the plan's chunks.
    plan : ChunkPlan
    excluded : (y, x) int32, optional
        Bits of `Status` of the spaxels to leave out.
    settings : BlockSettings
    model : ModelReference
    store : GalaxyStore
    gpu : bool
        Whether prediction is for workers with the resource GPU.
    velocity : (y, x) or (bin,) float32, optional
        Velocities relative to the galaxy's redshift, km/s, by which spectra are corrected besides.
    """

    def __init__(
        self,
        reader: Reader,
        plan: ChunkPlan,
        excluded: NDArray[np.int32] | None,
        settings: BlockSettings,
        model: ModelReference,
        store: GalaxyStore,
        *,
        gpu: bool = False,
        velocity: NDArray[np.float32] | None = None,
    ) -> None:
        self.plan, self.excluded, self.name = plan, excluded, store.name
        self.reader, self.velocity = reader, velocity
        self.run = uuid4().hex[:8]  # on a shared scheduler another run's galaxy of this name has other tasks
        self.resources = {"GPU": 1} if gpu else {}
        if len(reader) != len(plan.chunks):
            raise ValueError(f"the cube has {len(reader)} chunks of rows, the plan {len(plan.chunks)}")
        # Bound here: among a task's arguments Dask would look through thousands of numbers for tasks, chunk by chunk.
        self.prepare = delayed(partial(_prepare, settings=settings), pure=False)
        self.predict = delayed(partial(_predict, settings=settings, model=model), pure=False)
        self.write = delayed(partial(_write, settings=settings, store=store, channels=plan.channels), pure=False)

    def task(self, index: int, attempt: int = 0) -> Delayed:
        """The task that computes and writes a chunk, and gives its `ChunkSummary`.

        Parameters
        ----------
        index : int
        attempt : int
            Another number makes other tasks: of one that failed, Dask keeps the failure.
        """
        rows = self.plan.chunks[index]
        label = task_label(self.name, index, self.run, attempt)
        parts = [None if image is None else image[rows] for image in (self.excluded, self.velocity)]
        read = self.reader.read(index, f"{self.run}-{attempt}" if attempt else "")
        prepared = self.prepare(*read, *parts, dask_key_name=f"prepare-{label}")
        with annotate(resources=self.resources):
            predicted = self.predict(prepared, dask_key_name=f"predict-{label}")
        written: Delayed = self.write(predicted, index=index, rows=rows, dask_key_name=f"write-{label}")
        return written


def task_label(name: str, index: int, run: str, attempt: int) -> str:
    """What the names of a chunk's tasks end with."""
    return f"{name}-{index:05d}-{run}" + (f"-again{attempt}" if attempt else "")


P = ParamSpec("P")
R = TypeVar("R")


def located(step: Callable[P, R]) -> Callable[P, R]:
    """Add to an exception which worker it comes from: Dask does not say."""

    @wraps(step)
    def located(*args: P.args, **more: P.kwargs) -> R:
        try:
            return step(*args, **more)
        except Exception as error:
            with suppress(ValueError):  # not on a worker
                error.add_note(f"{WORKER_NOTE}{get_worker().address}")
            raise

    return located


@located
def _prepare(
    flux: NDArray[np.float32],
    variance: NDArray[np.float32],
    mask: NDArray[np.int32] | None,
    velocity: NDArray[np.float32] | None,
    *,
    settings: BlockSettings,
) -> PreparedBlock:
    keep_freed_memory()
    return prepare_block(flux, variance, mask, settings, velocity)


@located
def _predict(prepared: PreparedBlock, *, settings: BlockSettings, model: ModelReference) -> Predicted:
    keep_freed_memory()
    if model.device == "cpu":
        torch.set_num_threads(1)  # a worker process is one core's
    if model.numeric_version != NUMERIC_VERSION:
        raise PlanError(f"this worker has another version of galprote ({version('galprote')}): install one everywhere")
    predictor = shared_predictor(model.checkpoint, model.sha256, model.device, model.precision)
    began = time.perf_counter()
    fitted = predict_block(prepared, settings, predictor)
    return Predicted(fitted, time.perf_counter() - began, predictor.batch)


@located
def _write(
    predicted: Predicted, *, settings: BlockSettings, store: GalaxyStore, channels: int, index: int, rows: slice
) -> ChunkSummary:
    products = finish_block(predicted.fitted, settings)
    store.write_chunk(index, rows, products)
    batch = predicted.fitted.prepared.batch
    with_data, spaxels = int(np.isfinite(batch.flux).sum()), len(batch.status)
    size = 2 * 4 * channels * spaxels
    return ChunkSummary(index, spaxels, with_data, products.fitted, size, predicted.seconds, predicted.batch)


def failing_worker(error: BaseException) -> str | None:
    """Address of the worker that raised an exception, if it is known."""
    notes: list[Any] = getattr(error, "__notes__", [])
    found = [note.removeprefix(WORKER_NOTE) for note in notes if str(note).startswith(WORKER_NOTE)]
    return str(found[0]) if found else None
