"""The steps of a galaxy, one after the other: each has chunks, and something to be done when these are ready.

Spaxels are fitted and published: one step. For bins, spaxels are measured (then the bins are made), bins are summed,
and their spectra are fitted and published: three.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray

from galprote.pipeline.bin_files import BinFiles
from galprote.pipeline.bin_graph import BinReader, MeasureGraph, SumGraph
from galprote.pipeline.bin_making import CubeAgain, bin_spaxels, bins_are_current, bins_of
from galprote.pipeline.binning import Bins
from galprote.pipeline.binning_config import ADAPTIVE, BinningConfig
from galprote.pipeline.covariance import Covariance
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
    note : str
        What a user should know before it begins.
    """

    name: str
    plan: ChunkPlan
    graph: Graph
    done: set[int]
    last: Callable[[frozenset[int]], Any]
    rows: Callable[[int], tuple[int, int]]
    note: str = ""


def next_phase(job: GalaxyJob, opened: OpenedGalaxy, model: ModelReference, *, gpu: bool, after: str = "") -> Phase:
    """The first step that is left to do of a galaxy.

    What is on the disk decides, so that it may be asked again after an error.

    Parameters
    ----------
    job : GalaxyJob
    opened : OpenedGalaxy
    model : ModelReference
    gpu : bool
        Whether predictions are for workers with a GPU.
    after : {"", "measure", "sum"}
        The step that this run has just ended: some of its chunks may have been given up.
    """
    if not job.galaxy.binning.on:
        return _fit_spaxels(job, opened, model, gpu=gpu)
    plan, store = job.plan, job.store
    files = BinFiles(store.partial / "bins")
    if not after:
        measured = files.measured(plan)
        if len(measured) < len(plan.chunks) or not bins_are_current(files, plan):
            return _measure(job, opened, model, files, measured)
    bins, covariance = bins_of(files)
    if after != "sum":
        summed = files.summed(plan)
        if len(summed) < len(plan.chunks):
            missing = [rows for index, rows in enumerate(plan.chunks) if index not in summed]
            _forget_fits(job, bin_plan(plan, len(bins)), bins, missing)
            graph = SumGraph(CubeReader(opened.cube), plan, store.name, files, bins)
            return Phase("sum", plan, graph, summed, _nothing, partial(_image_rows, plan))
    fit = _fit_bins(job, opened, model, files, bins, gpu=gpu)
    return replace(fit, note=_about_bins(bins, covariance, job.galaxy.binning))


def _about_bins(bins: Bins, covariance: Covariance, config: BinningConfig) -> str:
    """How good the bins are, in words."""
    reached = float(np.median(bins.snr))
    how = "measured" if config.covariance == "measure" and not covariance.note else "given"
    words = [f"{len(bins):,} bins, S/N {reached:.3g} per channel in the median"]
    if config.method in ADAPTIVE and reached < 0.9 * config.target_snr:
        words.append(f"the target, {config.target_snr:g}, is not reached")
    words.append(covariance.note or f"their noise is 1 + {bins.covariance:.3g} log10(N) times independent one ({how})")
    return "; ".join(words)


def _fit_spaxels(job: GalaxyJob, opened: OpenedGalaxy, model: ModelReference, *, gpu: bool) -> Phase:
    plan, store = job.plan, job.store
    if not store.store.is_dir():  # killed before the store was there, or never begun
        store.create(opened.layout.cubes, plan, opened.layout.attributes)
    graph = ChunkGraph(
        CubeReader(opened.cube), plan, opened.excluded, opened.settings, model, store, gpu=gpu, velocity=opened.velocity
    )
    last = partial(publish_products, store, plan, opened.layout, job.galaxy.products, job.cube_path)
    return Phase("fit", plan, graph, store.finished_chunks(plan), last, partial(_image_rows, plan))


def _measure(job: GalaxyJob, opened: OpenedGalaxy, model: ModelReference, files: BinFiles, measured: set[int]) -> Phase:
    plan, config, redshift = job.plan, job.galaxy.binning, job.galaxy.redshift
    channels = channels_in(opened.cube["wavelength"].values, config.snr_window, redshift)
    graph = MeasureGraph(CubeReader(opened.cube), plan, job.store.name, files, channels, opened.excluded)
    again = CubeAgain(job.cube_path, redshift, model.window, job.store.scratch)
    last = partial(_make_bins, files, plan, config, again)
    return Phase("measure", plan, graph, measured, last, partial(_image_rows, plan))


def _fit_bins(
    job: GalaxyJob, opened: OpenedGalaxy, model: ModelReference, files: BinFiles, bins: Bins, *, gpu: bool
) -> Phase:
    plan, store = job.plan, job.store
    own = bin_plan(plan, len(bins))
    finished = store.finished_chunks(own)
    if not finished or not store.store.is_dir():
        store.create(opened.layout.cubes, own, opened.layout.attributes)
        finished = store.finished_chunks(own)
    velocity = None if opened.velocity is None else velocities_of_bins(opened.velocity, bins)
    spectra = BinReader(files, bins, plan, own, store.name)
    graph = ChunkGraph(spectra, own, None, opened.settings, model, store, gpu=gpu, velocity=velocity)
    last = partial(publish_bins, store, own, plan, files, opened.layout, job.galaxy.products, job.cube_path)
    return Phase("fit", own, graph, finished, last, partial(_bin_rows, own, bins.rows))


def _forget_fits(job: GalaxyJob, plan: ChunkPlan, bins: Bins, summed: list[slice]) -> None:
    """Remove what was fitted without rows that are still to be summed."""
    for index, mine in enumerate(plan.chunks):
        first, last = bins.rows[mine, 0], bins.rows[mine, 1]
        if any(((first < rows.stop) & (last >= rows.start)).any() for rows in summed):
            job.store.chunk_file(index).unlink(missing_ok=True)


def bin_plan(plan: ChunkPlan, bins: int) -> ChunkPlan:
    """How a list of bins is cut: a chunk takes no more memory than one of the cube. Nothing else decides it."""
    most = max(FEWEST_SPAXELS, min(MOST_BINS, plan.rows * plan.nx))
    rows = min(max(FEWEST_SPAXELS, -(-bins // FEWEST_CHUNKS)), most)
    return ChunkPlan(plan.channels, bins, 1, rows, plan.workers, plan.chunk_bytes, plan.peak_bytes, bins=True)


def _make_bins(files: BinFiles, plan: ChunkPlan, config: BinningConfig, cube: CubeAgain, _: frozenset[int]) -> int:
    return bin_spaxels(files, plan, config, cube)


def _nothing(_: frozenset[int]) -> None:
    """Sums need no last step."""


def _image_rows(plan: ChunkPlan, index: int) -> tuple[int, int]:
    return plan.chunks[index].start, plan.chunks[index].stop - 1


def _bin_rows(plan: ChunkPlan, rows: NDArray[np.int32], index: int) -> tuple[int, int]:
    mine = rows[plan.chunks[index]]
    return int(mine[:, 0].min()), int(mine[:, 1].max())
