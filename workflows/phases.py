"""The steps of a galaxy, one after the other: each has chunks, and something to be done when these are ready.

Spaxels are fitted and published: one step. For bins, spaxels are measured (then the bins are made), bins are summed,
and their spectra are fitted and published: three.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray

from galprote.pipeline.bin_files import BinFiles
from galprote.pipeline.bin_graph import BinReader, MeasureGraph, SumGraph
from galprote.pipeline.bin_making import CubeAgain, bin_spaxels, bins_of
from galprote.pipeline.binning import Bins
from galprote.pipeline.graph import ChunkGraph, CubeReader, ModelReference
from galprote.pipeline.plan import FEWEST_SPAXELS, ChunkPlan
from galprote.pipeline.spaxel_measures import channels_in
from galprote.pipeline.velocity_map import velocities_of_bins
from galprote.workflows.galaxy import GalaxyJob, OpenedGalaxy
from galprote.workflows.publish import publish_bins, publish_products

#: Most bins in a chunk, and into how many chunks they are cut if there are few.
MOST_BINS: Final = 4096
FEWEST_CHUNKS: Final = 16


class Graph(Protocol):
    """What makes a step's tasks."""

    run: str

    def task(self, index: int, attempt: int = 0) -> Delayed:
        """The task that does a chunk."""


@dataclass(frozen=True)
class Phase:
    """A step of a galaxy.

    Attributes
    ----------
    name : {"measure", "sum", "fit"}
    plan : ChunkPlan
        Its chunks.
    graph : Graph
    done : set of int
        Chunks that an earlier run finished.
    last : callable
        What is to be done on a worker when the chunks are done or given up: gets those that were given up.
    rows : callable
        First and last image row that a chunk touches.
    """

    name: str
    plan: ChunkPlan
    graph: Graph
    done: set[int]
    last: Callable[[frozenset[int]], Any]
    rows: Callable[[int], tuple[int, int]]


#: Gives steps, and is sent what the last one's `last` gave.
Phases = Generator[Phase, Any, None]


def galaxy_phases(job: GalaxyJob, opened: OpenedGalaxy, model: ModelReference, *, gpu: bool) -> Phases:
    """The steps that are left to do of a galaxy."""
    if job.galaxy.binning.on:
        return _of_bins(job, opened, model, gpu=gpu)
    return _of_spaxels(job, opened, model, gpu=gpu)


def _of_spaxels(job: GalaxyJob, opened: OpenedGalaxy, model: ModelReference, *, gpu: bool) -> Phases:
    plan, store = job.plan, job.store
    if not store.store.is_dir():  # killed before the store was there, or never begun
        store.create(opened.layout.cubes, plan, opened.layout.attributes)
    graph = ChunkGraph(
        CubeReader(opened.cube), plan, opened.excluded, opened.settings, model, store, gpu=gpu, velocity=opened.velocity
    )
    last = partial(publish_products, store, plan, opened.layout, job.galaxy.products, job.cube_path)
    yield Phase("fit", plan, graph, store.finished_chunks(plan), last, partial(_image_rows, plan))


def _of_bins(job: GalaxyJob, opened: OpenedGalaxy, model: ModelReference, *, gpu: bool) -> Phases:
    plan, store, config = job.plan, job.store, job.galaxy.binning
    files, reader = BinFiles(store.partial / "bins"), CubeReader(opened.cube)
    rows = partial(_image_rows, plan)
    done = files.measured(plan)
    if len(done) < len(plan.chunks) or files.read_bins() is None or not files.covariance.is_file():
        redshift = job.galaxy.redshift
        channels = channels_in(opened.cube["wavelength"].values, config.snr_window, redshift)
        measure = MeasureGraph(reader, plan, store.name, files, channels, opened.excluded)
        again = CubeAgain(job.cube_path, redshift, model.window, store.scratch)
        yield Phase("measure", plan, measure, done, partial(_make_bins, files, plan, config, again), rows)
    bins, _ = bins_of(files)
    done = files.summed(plan)
    if len(done) < len(plan.chunks):
        yield Phase("sum", plan, SumGraph(reader, plan, store.name, files, bins), done, _nothing, rows)
    own = bin_plan(plan, len(bins))
    _forget_fits(job, own, bins, [rows for index, rows in enumerate(plan.chunks) if index not in done])
    finished = store.finished_chunks(own)
    if not finished or not store.store.is_dir():
        store.create(opened.layout.cubes, own, opened.layout.attributes)
        finished = store.finished_chunks(own)
    velocity = None if opened.velocity is None else velocities_of_bins(opened.velocity, bins)
    spectra = BinReader(files, bins, plan, own, store.name)
    graph = ChunkGraph(spectra, own, None, opened.settings, model, store, gpu=gpu, velocity=velocity)
    last = partial(publish_bins, store, own, plan, files, opened.layout, job.galaxy.products, job.cube_path)
    yield Phase("fit", own, graph, finished, last, partial(_bin_rows, own, bins.rows))


def _forget_fits(job: GalaxyJob, plan: ChunkPlan, bins: Bins, summed: list[slice]) -> None:
    """Remove what was fitted without rows that are summed only now."""
    for index, mine in enumerate(plan.chunks):
        first, last = bins.rows[mine, 0], bins.rows[mine, 1]
        if any(((first < rows.stop) & (last >= rows.start)).any() for rows in summed):
            job.store.chunk_file(index).unlink(missing_ok=True)


def bin_plan(plan: ChunkPlan, bins: int) -> ChunkPlan:
    """How a list of bins is cut: a chunk takes no more memory than one of the cube. Nothing else decides it."""
    most = max(FEWEST_SPAXELS, min(MOST_BINS, plan.rows * plan.nx))
    rows = min(max(FEWEST_SPAXELS, -(-bins // FEWEST_CHUNKS)), most)
    return ChunkPlan(plan.channels, bins, 1, rows, plan.workers, plan.chunk_bytes, plan.peak_bytes, bins=True)


def _make_bins(files: BinFiles, plan: ChunkPlan, config: Any, cube: CubeAgain, _: frozenset[int]) -> int:
    return bin_spaxels(files, plan, config, cube)


def _nothing(_: frozenset[int]) -> None:
    """Sums need no last step."""


def _image_rows(plan: ChunkPlan, index: int) -> tuple[int, int]:
    return plan.chunks[index].start, plan.chunks[index].stop - 1


def _bin_rows(plan: ChunkPlan, rows: NDArray[np.int32], index: int) -> tuple[int, int]:
    mine = rows[plan.chunks[index]]
    return int(mine[:, 0].min()), int(mine[:, 1].max())
