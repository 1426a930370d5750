"""Nothing does more work than it did: counts instead of times, so that a busy machine says nothing wrong.

`RECORDED` is the most that a chunk, or a spectrum, may take. Whoever makes something cheaper lowers its number in the
same commit; whoever has a reason to make it dearer raises it, and the commit says why. `python -m benchmarks.speed`
says what the same work takes in seconds.
"""

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Collection
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from torch.utils.flop_counter import FlopCounterMode

from galprote.model.checkpoint import load_checkpoint
from galprote.model.grids import N_KEPT
from galprote.model.predictor import Predictor
from galprote.pipeline.block import finish_block, predict_block, prepare_block
from galprote.pipeline.graph import ChunkGraph, CubeReader
from tests import cubes, surveys

RECORDED = {
    # Of matrix products and convolutions, in the shipped network: with errors and trust, and without.
    "MFLOP a spectrum": 48.3,
    "MFLOP a spectrum without appraisal": 45.0,
    # Two read, one prepares, one predicts, one writes: each costs the scheduler a millisecond.
    "tasks a chunk": 5,
    # Arrays that exist at the same time in preprocessing, over the flux and variance that go in; those of numpy in the
    # prediction, over the prepared spectra and their noise.
    "arrays of preprocessing": 2.36,
    "arrays of the prediction": 1.75,
    # The shard of the residual cube and the record that vouches for it; each is on the disk before the next step.
    "files a chunk": 2,
    "fsyncs a chunk": 2,
}
#: Library versions move allocations a little.
SLACK = 1.05

#: Loaded by no command that only prints its help.
HEAVY = (
    "numpy",
    "torch",
    "dask",
    "distributed",
    "scipy",
    "astropy",
    "xarray",
    "zarr",
    "matplotlib",
    "bokeh",
    "pydantic",
)
#: Loaded by no worker before its first chunk: half a second or more each, on every worker of a cluster.
USELESS = ("matplotlib", "bokeh", "spectral_cube", "reproject", "sympy", "networkx", "skimage", "torch._dynamo",
           "torch._inductor", "IPython", "ppxf", "vorbin", "powerbin", "specutils", "dask_jobqueue")  # fmt: skip

Job = tuple[surveys.FirstJob, Any]


@pytest.fixture(scope="module")
def shipped() -> Predictor:
    return Predictor(load_checkpoint())


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Job:
    """A galaxy whose cube has twice the channels that are needed, in chunks of four rows."""
    folder = tmp_path_factory.mktemp("counts")
    cube = cubes.write_sparse_muse_cube(folder / "CUBE.fits", (3721, 12, 40))
    galaxy = {"name": "COUNTED", "cube": str(cube), "products": {"residual": True}}
    return surveys.first_job(surveys.write_survey(folder, [galaxy], checkpoint, chunks={"rows": 4}))


@pytest.fixture(scope="module")
def spectra() -> tuple[surveys.Array, surveys.Array]:
    """Native spectra with gaps, (channels, 4, 64)."""
    flux, variance = surveys.spectra(256)
    flux[700:760, 20:60] = np.nan
    variance[5:9, 120] = (0.0, -1.0, np.inf, np.nan)
    return flux.reshape(-1, 4, 64), variance.reshape(-1, 4, 64)


def settings_of(job: surveys.FirstJob) -> Any:
    """A job's settings for the channels of `spectra`."""
    wavelength = tuple((surveys.FIRST_CHANNEL + 1.25 * np.arange(surveys.CHANNELS)).tolist())
    return replace(job.settings, preprocess=replace(job.settings.preprocess, wavelength=wavelength))


def at_most(name: str, found: float, slack: float = 1.0) -> None:
    """Hold a count against the record; far less is a reason to write it down, or a sign that nothing was counted."""
    limit = RECORDED[name]
    assert found <= slack * limit, f"{name}: {found:.4g}, recorded {limit:g}: see the top of this file"
    assert found > 0.5 * limit, f"{name}: only {found:.4g} of {limit:g}: lower RECORDED, or count what is not counted"


@pytest.mark.parametrize("appraised", [True, False])
def test_operations_of_the_network(shipped: Predictor, appraised: bool) -> None:
    random = np.random.default_rng(1)
    spectra = (1 + 0.03 * random.standard_normal((shipped.batch, N_KEPT))).astype(np.float32)
    predictor = shipped
    if not appraised:
        bare = load_checkpoint()
        bare.model.appraisal = None
        predictor = Predictor(bare)
    with FlopCounterMode(display=False) as counter:
        predictor(spectra, np.full_like(spectra, 0.03), 0.01)
    name = "MFLOP a spectrum" if appraised else "MFLOP a spectrum without appraisal"
    at_most(name, counter.get_total_flops() / shipped.batch / 1e6)


def test_every_useful_byte_is_read_once(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    cube, plan = job[0].cube, job[0].plan
    reads: list[tuple[int, int]] = []
    preadv = os.preadv

    def counting(file: int, buffers: Any, offset: int) -> int:
        count = preadv(file, buffers, offset)
        reads.append((offset, offset + count))
        return count

    monkeypatch.setattr(os, "preadv", counting)
    reader, useful = CubeReader(cube), 2 * 4 * plan.channels * plan.nx
    assert plan.channels < 0.55 * 3721
    for index, rows in enumerate(plan.chunks):
        reads.clear()
        read_by_all = characters_read()
        dask.compute(*reader.read(index, ""), scheduler="sync")
        wanted = useful * (rows.stop - rows.start)
        assert sum(stop - start for start, stop in reads) == wanted
        ordered = sorted(reads)
        assert all(stop <= start for (_, stop), (start, _) in pairwise(ordered))
        if read_by_all is not None:  # and in no other way
            assert wanted <= characters_read() - read_by_all <= wanted + 16384


def characters_read() -> int | None:
    """Bytes that this process has read in any way but mapped memory; None where the system does not tell."""
    path = Path("/proc/self/io")
    return int(path.read_text().split()[1]) if path.is_file() else None


def test_tasks_of_a_chunk(job: Job) -> None:
    first, model = job
    graph = ChunkGraph(CubeReader(first.cube), first.plan, None, first.settings, model, first.store)
    task = graph.task(1)
    (optimised,) = dask.optimize(task)
    at_most("tasks a chunk", len(dict(optimised.__dask_graph__())))


def peak(step: Callable[[], Any]) -> int:
    """Bytes of numpy's arrays that a step has at the same time, at most, beyond those that are there before."""
    step()  # fills caches
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = step()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
        del kept


def test_arrays_of_preprocessing_and_prediction(
    job: Job, shipped: Predictor, spectra: tuple[surveys.Array, surveys.Array]
) -> None:
    flux, variance = spectra
    settings = settings_of(job[0])
    prepared = prepare_block(flux, variance, None, settings)
    assert prepared.batch.fitted.all()
    many = [np.tile(values, (1, 1, 4)) for values in spectra]  # beside them the arrays of one tile are small
    at_most("arrays of preprocessing", peak(lambda: prepare_block(*many, None, settings)) / (2 * many[0].nbytes), SLACK)
    size = prepared.batch.spectra.nbytes + prepared.batch.noise.nbytes
    at_most("arrays of the prediction", peak(lambda: predict_block(prepared, settings, shipped)) / size, SLACK)


def test_files_of_a_chunk(
    job: Job, shipped: Predictor, spectra: tuple[surveys.Array, surveys.Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = job[0]
    settings = settings_of(first)
    fitted = predict_block(prepare_block(*(part[..., :40] for part in spectra), None, settings), settings, shipped)
    first.store.begin(first.layout.provenance, first.plan.rows)
    first.store.create(first.layout.cubes, first.plan, first.layout.attributes)
    before = set(first.store.partial.rglob("*"))
    synced: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(file), fsync(file))[1])
    first.store.write_chunk(1, first.plan.chunks[1], finish_block(fitted, settings))
    files = [path for path in set(first.store.partial.rglob("*")) - before if path.is_file()]
    at_most("files a chunk", len(files))
    at_most("fsyncs a chunk", len(synced))


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("from galprote.workflows.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass", HEAVY),
        ("import galprote.pipeline.graph", USELESS),
        # Before that is done, no worker begins to import what it needs.
        ("import galprote.pipeline.config, galprote.workflows.forking", set(HEAVY) - {"numpy", "pydantic"}),
    ],
    ids=["help", "worker", "before the workers"],
)
def test_what_is_not_imported(code: str, unwanted: Collection[str]) -> None:
    asked = f"{code}\nimport sys\nprint('LOADED', *[name for name in {unwanted!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == ["LOADED"]
