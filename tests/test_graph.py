"""Dask's part: cutting a cube changes no bit, predictions run where the GPU is, the model stays out of the graph."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import dask
import numpy as np
import pytest
import zarr
from distributed import Client, Scheduler, SpecCluster, Worker
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.protocol.pickle import dumps

from galprote.model import predictor as predictors
from galprote.model.checkpoint import load_checkpoint
from galprote.model.predictor import Predictor
from galprote.pipeline.block import BlockProducts, BlockSettings, finish_block, predict_block, prepare_block
from galprote.pipeline.graph import ChunkGraph, CubeReader
from galprote.pipeline.line_filter_config import LineFilterConfig
from galprote.pipeline.rest_frame import PreprocessSettings
from tests import surveys

Array = surveys.Array
SETTINGS = BlockSettings(
    PreprocessSettings(
        tuple(surveys.FIRST_CHANNEL + 1.25 * np.arange(surveys.CHANNELS)),
        surveys.REDSHIFT, 0.02, "O94", 3.1, LineFilterConfig(), 5.0, 0.25,
    ),
    residual=True,
    continuum_subtracted=True,
    grid=True,
)  # fmt: skip


@pytest.fixture(scope="module", params=["plain", "refined"])
def predictor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    surveys.write_checkpoint(path, refined=request.param == "refined")
    return Predictor(load_checkpoint(path), batch=32)


@pytest.fixture(scope="module")
def spectra() -> tuple[Array, Array]:
    """More spectra than a batch has, with every kind of trouble: (channels, 140)."""
    flux, variance = surveys.spectra(140)
    flux[:, 7], variance[:, 7] = np.nan, np.nan
    flux[700:760, 20:60] = np.nan
    variance[:, 100:105] *= 900.0
    flux[:, 110] *= -1.0
    variance[5:9, 120] = (0.0, -1.0, np.inf, np.nan)
    return flux, variance


def mapped(flux: Array, variance: Array, predictor: Predictor) -> BlockProducts:
    """Products of a block (channels, rows, columns)."""
    fitted = predict_block(prepare_block(flux, variance, None, SETTINGS), SETTINGS, predictor)
    return finish_block(fitted, SETTINGS)


def bits(products: BlockProducts, order: Array | None = None) -> dict[str, bytes]:
    """The very bits of maps and cubes, spaxels in a row, in another order if one is given."""
    result = {}
    for name, values in (products.maps | products.cubes).items():
        last = np.moveaxis(values, (0, 1), (-2, -1)) if name == "grid" else values  # there the image comes first
        flat = last.reshape(*last.shape[:-2], -1)
        result[name] = np.ascontiguousarray(flat if order is None else flat[..., order]).tobytes()
    return result


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> set[str]:
    """Names of the arrays that differ, or that only one has. (pytest would take minutes to show the bytes.)"""
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


@pytest.fixture(scope="module")
def whole(spectra: tuple[Array, Array], predictor: Predictor) -> dict[str, bytes]:
    """Bits of the 140 spectra as one row."""
    products = mapped(*(values[:, None, :] for values in spectra), predictor)
    assert set(products.cubes) == {"residual", "continuum_subtracted", "continuum_subtracted_error", "grid"}
    assert 100 < products.fitted < 140
    assert np.unique(products.maps["age_lw"]).size > 20, "maps of one value prove nothing"
    return bits(products)


@pytest.mark.parametrize("rows", [1, 3, 14])
def test_chunked_equals_unchunked(
    rows: int, spectra: tuple[Array, Array], predictor: Predictor, whole: dict[str, bytes]
) -> None:
    flux, variance = (values.reshape(-1, 14, 10) for values in spectra)
    parts = [
        mapped(flux[:, start : start + rows], variance[:, start : start + rows], predictor)
        for start in range(0, 14, rows)
    ]
    joined = BlockProducts(
        {name: np.concatenate([part.maps[name] for part in parts]) for name in parts[0].maps},
        {
            name: np.concatenate([part.cubes[name] for part in parts], axis=0 if name == "grid" else -2)
            for name in parts[0].cubes
        },
        0,
    )
    changed = differing(bits(joined), whole)
    assert not changed


def test_a_spaxel_does_not_depend_on_its_neighbours(
    spectra: tuple[Array, Array], predictor: Predictor, whole: dict[str, bytes]
) -> None:
    """Shuffled, and with empty spaxels in between."""
    flux, variance = spectra
    place = np.random.default_rng(3).permutation(170)[:140]  # spectrum i goes to place[i] of 170
    scattered = np.full((2, flux.shape[0], 1, 170), np.nan, dtype=np.float32)
    scattered[:, :, 0, place] = flux, variance
    changed = differing(bits(mapped(*scattered, predictor), order=place), whole)
    assert not changed


def small_survey(folder: Path, checkpoint: Path, **chunks: Any) -> Path:
    surveys.write_cube(folder / "cube.fits", (9, 6), empty_rows=slice(3, 6), faint=1)
    products = {"continuum_subtracted": True, "grid": True, "fits": False, "figure": False}
    return surveys.write_survey(
        folder, [{"name": "N1", "cube": "cube.fits", "products": products}], checkpoint, chunks=chunks
    )


def arrays(store: Path) -> dict[str, bytes]:
    group = zarr.open_group(store, mode="r")
    return {name: np.asarray(array[...]).tobytes() for name, array in group.arrays()}


def test_the_graph_gives_the_same_whatever_the_chunks(tmp_path: Path, checkpoint: Path) -> None:
    results = []
    for rows in (1, 4, 9):
        survey = small_survey(tmp_path / str(rows), checkpoint, rows=rows)
        surveys.run_here(survey)
        results.append(arrays(survey.parent / "out" / "N1.zarr"))
    assert {"age_lw", "residual", "continuum_subtracted", "grid", "status"} < set(results[0])
    changed = differing(results[0], results[1]) | differing(results[0], results[2])
    assert not changed


def test_empty_rows_are_neither_predicted_nor_stored(tmp_path: Path, checkpoint: Path) -> None:
    survey = small_survey(tmp_path, checkpoint, rows=3)
    with mock.patch.object(Predictor, "_batch", autospec=True, side_effect=Predictor._batch) as batch:
        surveys.run_here(survey)
    assert batch.call_count == 2  # chunks 0 and 2
    for name, leading in (("residual", "0"), ("continuum_subtracted", "0"), ("grid", "")):
        shards = (tmp_path / "out" / "N1.zarr" / name / "c" / leading).iterdir()
        assert sorted(shard.name for shard in shards) == ["0", "2"]
    assert np.isnan(np.asarray(zarr.open_group(tmp_path / "out" / "N1.zarr")["residual"][:, 3:6])).all()


def test_the_model_is_not_in_the_graph_and_is_loaded_once(tmp_path: Path, checkpoint: Path) -> None:
    survey = small_survey(tmp_path, checkpoint, rows=2)
    job, model = surveys.first_job(survey)
    graph = ChunkGraph(CubeReader(job.cube), job.plan, None, job.settings, model, job.store)
    tasks = [graph.task(index) for index in range(5)]
    assert len(tasks) == 5
    assert checkpoint.stat().st_size > 5e6
    assert max(len(dumps(dict(task.dask))) for task in tasks) < 100_000
    predictors._load.cache_clear()
    surveys.run_here(survey)  # 5 predictions by two workers, threads of one process
    assert predictors._load.cache_info().misses == 1


def test_a_cube_chunked_otherwise_than_the_plan_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    job, model = surveys.first_job(small_survey(tmp_path, checkpoint, rows=2))
    cube = job.cube.chunk({"y": 3})
    with pytest.raises(ValueError, match="the cube has 3 chunks of rows, the plan 5"):
        ChunkGraph(CubeReader(cube), job.plan, None, job.settings, model, job.store)


@pytest.mark.parametrize("gpu", [True, False])
def test_only_predictions_ask_for_a_gpu(tmp_path: Path, checkpoint: Path, gpu: bool) -> None:
    job, model = surveys.first_job(small_survey(tmp_path, checkpoint, rows=9))
    task = ChunkGraph(CubeReader(job.cube), job.plan, None, job.settings, model, job.store, gpu=gpu).task(0)
    restricted = {
        key for key, layer in task.dask.layers.items() if (layer.annotations or {}).get("resources", {}).get("GPU")
    }
    assert {key.rpartition("-")[0] for key in restricted} == ({"predict-N1-00000"} if gpu else set())


class Places(SchedulerPlugin):
    """Remembers which worker did what."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}

    def transition(self, key: Any, start: str, finish: str, *args: Any, **more: Any) -> None:
        if start == "processing" and finish == "memory":
            self.of[str(key)] = str(more["worker"])


def test_predictions_run_on_the_worker_with_the_gpu(tmp_path: Path, checkpoint: Path) -> None:
    """Two workers, one of which says that it has a GPU."""
    places, addresses = Places(), {}

    @contextmanager
    def one_gpu(**_: Any) -> Iterator[Client]:
        workers = {
            "plain": {"cls": Worker, "options": {"nthreads": 1, "dashboard": False}},
            "gpu": {"cls": Worker, "options": {"nthreads": 2, "dashboard": False, "resources": {"GPU": 1}}},
        }
        local = {"dashboard": False, "dashboard_address": "127.0.0.1:0", "port": 0, "host": "127.0.0.1"}
        scheduler = {"cls": Scheduler, "options": local}
        with SpecCluster(workers=workers, scheduler=scheduler) as cluster, Client(cluster) as client:
            cluster.scheduler.add_plugin(places)  # through the client a copy would go
            addresses.update({name: worker.address for name, worker in cluster.workers.items()})
            yield client

    survey = small_survey(tmp_path, checkpoint, rows=1)
    (result,) = surveys.run_here(survey, cluster=one_gpu)
    assert result.outcome == "done", result.details
    predicted = {worker for key, worker in places.of.items() if key.startswith("predict-")}
    assert predicted == {addresses["gpu"]}
    assert sum(key.startswith("predict-") for key in places.of) == 9
    assert sum(key.startswith("write-") for key in places.of) == 9


def test_graphs_are_built_without_reading(tmp_path: Path, checkpoint: Path) -> None:
    job, model = surveys.first_job(small_survey(tmp_path, checkpoint, rows=3))
    (tmp_path / "cube.fits").unlink()
    task = ChunkGraph(CubeReader(job.cube), job.plan, None, job.settings, model, job.store).task(0)
    with pytest.raises(Exception, match=r"cube\.fits: cannot be opened on this worker"):
        dask.compute(task, scheduler="synchronous")
