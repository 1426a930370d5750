"""What fails costs no more than it must: a chunk its own spaxels, a cube its own galaxy; another run mends it."""

import csv
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import xarray as xr
from astropy.io import fits
from distributed import Client, KilledWorker, LocalCluster, WorkerPlugin

from galprote.model import predictor as predictors
from galprote.model.checkpoint import load_checkpoint
from galprote.model.predictor import Predictions, Predictor
from galprote.pipeline.block import BlockProducts, BlockSettings, finish_block, predict_block, prepare_block
from galprote.pipeline.line_filter import LineFilterConfig
from galprote.pipeline.preprocess import PreprocessSettings
from galprote.pipeline.products import MAPS
from galprote.pipeline.quality import Status
from galprote.workflows.cluster import start_cluster
from tests import surveys, trouble

#: Eight chunks of one row, the fifth without data.
SHAPE = (8, 5)
PRODUCTS = {"continuum_subtracted": True, "grid": True, "figure": False}
LOST = Status.FAILED | Status.NOT_COMPUTED


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return surveys.write_checkpoint(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return surveys.write_cube(tmp_path_factory.mktemp("cube") / "cube.fits", SHAPE, empty_rows=slice(4, 5))


def small(folder: Path, cube: Path, checkpoint: Path, *names: str, **chunks: Any) -> Path:
    galaxies = [{"name": name, "cube": str(cube), "products": PRODUCTS} for name in names or ("N1",)]
    return surveys.write_survey(folder, galaxies, checkpoint, chunks={"rows": 1} | chunks)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cube: Path, checkpoint: Path) -> Path:
    """The output folder of a run without trouble."""
    survey = small(tmp_path_factory.mktemp("undisturbed"), cube, checkpoint)
    (result,) = surveys.run_here(survey)
    assert result.outcome == "done", result.details
    return survey.parent / "out"


@pytest.fixture
def survey(tmp_path: Path, cube: Path, checkpoint: Path) -> Path:
    return small(tmp_path, cube, checkpoint)


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def arrays(folder: Path, name: str = "N1") -> dict[str, surveys.Array]:
    """Every array of the store, with the image first, and of the FITS files."""
    found = {}
    with xr.open_zarr(folder / f"{name}.zarr") as store:
        for key, array in store.variables.items():
            found[str(key)] = array.transpose("y", "x", ...).to_numpy() if "y" in array.dims else array.to_numpy()
    for path in folder.glob(f"{name}_*.fits"):
        with fits.open(path) as hdus:
            for hdu in hdus:
                if hdu.data is not None:
                    values = np.asarray(hdu.data)
                    found[f"{path.name}[{hdu.name}]"] = np.moveaxis(values, -2, 0) if values.ndim > 1 else values
    return found


# --- exceptions ---


def test_an_error_that_passes_leaves_no_trace(survey: Path, undisturbed: Path) -> None:
    """The second attempt is another worker's."""
    progress = surveys.Recorder()
    with trouble.before("predict_block", trouble.failing(2, times=1)) as calls:
        (result,) = surveys.run_here(survey, progress=progress)
    assert (result.outcome, result.failures) == ("done", ())
    first, second = (call.worker for call in calls if call.index == 2)
    assert first != second
    assert len(calls) == 9, "nothing else is computed twice"
    assert progress.messages[-1] == "N1: chunk 2: ArithmeticError: chunk 2 is cursed; trying again (1 of 3)"
    assert surveys.tree(survey.parent / "out") == surveys.tree(undisturbed)
    assert rows_of(survey.parent / "out" / "failures.csv") == []


@pytest.mark.parametrize("step", ["prepare_block", "predict_block", "finish_block"])
def test_a_chunk_that_fails_again_and_again_costs_its_spaxels(
    tmp_path: Path, cube: Path, checkpoint: Path, undisturbed: Path, step: str
) -> None:
    """Flagged in every product, everything else bit for bit; another run computes this chunk and nothing else."""
    attempts = 2 if step == "finish_block" else 3
    survey, output = small(tmp_path, cube, checkpoint, attempts=attempts), tmp_path / "out"
    with trouble.before(step, trouble.failing(2, 6)) as calls:
        (result,) = surveys.run_here(survey)
    assert [sum(call.index == index for call in calls) for index in range(8)] == [1, 1, attempts, 1, 1, 1, attempts, 1]

    # What it says
    assert result.outcome == "incomplete"
    expected = {"galaxy": "N1", "attempts": str(attempts)}
    told = [
        expected
        | dict.fromkeys(("chunk", "first_row", "last_row"), str(n))
        | {"error": f"ArithmeticError: chunk {n} is cursed"}
        for n in (2, 6)
    ]
    assert sorted(rows_of(output / "failures.csv"), key=lambda row: row["chunk"]) == told
    (summary,) = json.loads((output / "summary.json").read_text())
    assert summary["outcome"] == "incomplete"
    written = [{key: str(value) for key, value in failure.items()} for failure in summary["failures"]]
    assert sorted(written, key=lambda row: row["chunk"]) == told
    assert len(list((output / "N1.partial" / "chunks").iterdir())) == 6

    # What it gives
    found, whole = arrays(output), arrays(undisturbed)
    assert found.keys() == whole.keys()
    lost = np.isin(np.arange(8), (2, 6))
    for name, values in found.items():
        if values.shape[:1] != (8,) or name in ("ra", "dec"):
            assert values.tobytes() == whole[name].tobytes(), name
            continue
        assert values[~lost].tobytes() == whole[name][~lost].tobytes(), name
        if name in ("status", "N1_MAPS.fits[STATUS]"):
            assert (values[lost] == LOST).all()
        elif values.dtype.kind == "f":
            assert np.isnan(values[lost]).all(), name
        else:
            assert (values[lost] == 0).all(), name
    with xr.open_zarr(output / "N1.zarr") as store:
        assert store.attrs["failed_rows"] == [[2, 2], [6, 6]]

    # Once more, without trouble
    progress = surveys.Recorder()
    with trouble.before("predict_block", lambda _: None) as calls:
        (result,) = surveys.run_here(survey, progress=progress)
    assert result.outcome == "done", result.details
    assert sorted(call.index for call in calls) == [2, 6]
    assert progress.started["N1"] == (40, 30)
    assert surveys.tree(output) == surveys.tree(undisturbed)
    assert rows_of(output / "failures.csv") == []
    assert not (output / "N1.partial").exists()


def test_what_fails_twice_is_mended_by_the_third_run(survey: Path, undisturbed: Path) -> None:
    output = survey.parent / "out"
    for lost in ((1, 5), (5,)):
        with trouble.before("predict_block", trouble.failing(*lost)):
            (result,) = surveys.run_here(survey)
        assert sorted(failure.chunk for failure in result.failures) == list(lost)
        assert (arrays(output)["status"][list(lost)] == LOST).all()
        assert sorted(row["chunk"] for row in rows_of(output / "failures.csv")) == [str(index) for index in lost]
    surveys.run_here(survey)
    assert surveys.tree(output) == surveys.tree(undisturbed)


def test_a_galaxy_of_which_nothing_works_fails_alone(
    tmp_path: Path, cube: Path, checkpoint: Path, undisturbed: Path
) -> None:
    survey, output = small(tmp_path, cube, checkpoint, "BAD", "N1"), tmp_path / "out"
    progress = surveys.Recorder()
    with trouble.before("predict_block", trouble.failing(*range(8), galaxy="BAD")) as calls:
        bad, good = surveys.run_here(survey, progress=progress)
    assert (bad.outcome, good.outcome) == ("failed", "done")
    assert "chunks failed, and none succeeded: ArithmeticError: chunk" in bad.error
    assert sum(call.galaxy == "BAD" for call in calls) < 3 * 8, "it was given up before every chunk was tried in vain"
    assert {path.name for path in output.glob("BAD*")} == {"BAD.partial"}
    made = {name: sums for name, sums in surveys.tree(output).items() if not name.startswith("BAD")}
    assert made == surveys.tree(undisturbed)
    assert {row["galaxy"] for row in rows_of(output / "failures.csv")} == {"BAD"}
    assert surveys.run_here(survey)[0].outcome == "done"


# --- workers that die ---


def test_three_deaths_condemn_a_chunk_and_the_third_is_lonely(survey: Path, undisturbed: Path) -> None:
    """Workers are threads here: the scheduler's word for their death is raised instead."""
    begun, company = set[int](), []

    def die(here: trouble.Step) -> None:
        begun.add(here.index)
        if here.index == 3:
            company.append(begun - {int(path.stem) for path in ledger.glob("*.npz")} - {3})
            raise KilledWorker("predict", SimpleNamespace(address="tcp://dead"), 0)  # type: ignore[arg-type]

    ledger = survey.parent / "out" / "N1.partial" / "chunks"
    with trouble.before("predict_block", die):
        (result,) = surveys.run_here(survey)
    assert [failure.chunk for failure in result.failures] == [3]
    assert (result.failures[0].attempts, len(company), company[2]) == (3, 3, set())
    assert len(begun) == 8, "the others come first"
    assert (arrays(survey.parent / "out")["status"][3] == LOST).all()
    surveys.run_here(survey)
    assert surveys.tree(survey.parent / "out") == surveys.tree(undisturbed)


@pytest.mark.slow
def test_a_chunk_that_kills_its_workers_is_found_out(survey: Path, undisturbed: Path) -> None:
    """Real processes, with the run's own settings; a neighbour is always under way when the chunk strikes."""

    class Deadly(WorkerPlugin):
        def setup(self, worker: Any) -> None:
            import os

            from distributed import get_worker

            from galprote.pipeline import graph

            original = graph.finish_block

            def finish(*args: Any) -> Any:
                if "-00003" in str(get_worker().get_current_task()):
                    os._exit(9)
                return original(*args)

            graph.finish_block = finish

    @contextmanager
    def deadly(*args: Any, **more: Any) -> Iterator[Any]:
        with start_cluster(*args, **more) as (client, keeper):
            client.register_plugin(Deadly())
            yield client, keeper

    progress = surveys.Recorder()
    with mock.patch("galprote.workflows.survey.start_cluster", deadly):
        from galprote.pipeline.config import read_survey
        from galprote.workflows.survey import run_survey

        (result,) = run_survey(read_survey(survey), progress)
    assert [failure.chunk for failure in result.failures] == [3], progress.messages
    assert "its worker died; given up after 3 attempts" in progress.messages[-1]
    surveys.run_here(survey)
    assert surveys.tree(survey.parent / "out") == surveys.tree(undisturbed)


# --- cubes that fail ---


class After(surveys.Recorder):
    """Does something when some chunks are done."""

    def __init__(self, count: int, action: Any) -> None:
        super().__init__()
        self.count, self.action = count, action

    def advance(self, name: str, spaxels: int, fitted: int) -> None:
        super().advance(name, spaxels, fitted)
        if self.chunks[name] == self.count:
            self.action()


@pytest.mark.parametrize("how", ["truncated", "replaced", "removed"])
def test_a_cube_that_changes_while_it_is_read_fails_its_galaxy(
    tmp_path: Path, cube: Path, checkpoint: Path, undisturbed: Path, how: str
) -> None:
    """Nothing is published; when the cube is what it was, the run goes on from what was read of it, and only of it."""
    mine = tmp_path / "cube.fits"
    shutil.copy2(cube, mine)
    other = surveys.write_cube(tmp_path / "other" / "cube.fits", SHAPE, seed=2)
    os.utime(other, (1e9, 1e9))
    assert other.stat().st_size == mine.stat().st_size
    actions = {
        "truncated": lambda: os.truncate(mine, 100_000),
        "replaced": lambda: other.replace(mine),
        "removed": mine.unlink,
    }
    survey, output = small(tmp_path, mine, checkpoint), tmp_path / "out"
    (result,) = surveys.run_here(survey, progress=After(2, actions[how]))
    assert result.outcome == "failed"
    assert str(mine) in result.error
    assert {path.name for path in output.glob("N1*")} == {"N1.partial"}
    shutil.copy2(cube, mine)
    progress = surveys.Recorder()
    (result,) = surveys.run_here(survey, progress=progress)
    assert result.outcome == "done", result.details
    assert progress.started["N1"][1] >= 10, "what was finished is kept"
    assert surveys.tree(output) == surveys.tree(undisturbed)


# --- numbers that are none ---

SETTINGS = BlockSettings(
    PreprocessSettings(
        tuple(surveys.FIRST_CHANNEL + 1.25 * np.arange(surveys.CHANNELS)),
        surveys.REDSHIFT, 0.02, "O94", 3.1, LineFilterConfig(), 5.0, 0.25,
    ),
    residual=True, continuum_subtracted=True, grid=True,
)  # fmt: skip


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["model", "grid", "av", "gain"])
def test_what_the_model_cannot_say_is_flagged_for_exactly_those_spectra(
    checkpoint: Path, name: str, value: float
) -> None:
    predictor = Predictor(load_checkpoint(checkpoint), batch=32)
    flux, variance = (values[:, None, :] for values in surveys.spectra(20))
    prepared = prepare_block(flux, variance, None, SETTINGS)
    spoiled = [3, 11]

    def products() -> BlockProducts:
        return finish_block(predict_block(prepared, SETTINGS, predictor), SETTINGS)

    def spoil(self: Predictor, *args: Any) -> Predictions:
        found = original(self, *args)
        values = getattr(found, name)
        for row in spoiled:
            values[(row, *(size // 2 for size in values.shape[1:]))] = value
        return found

    whole, original = products(), Predictor.__call__
    assert whole.fitted == 20
    with mock.patch.object(Predictor, "__call__", spoil):
        found = products()
    assert found.fitted == 18
    given = {product.name for product in MAPS} - {"flux", "snr", "filled_fraction", "replaced_samples", "status"}
    for key, values in (found.maps | found.cubes).items():
        mine, theirs = (np.moveaxis(each, 1, 0) if key == "grid" else np.moveaxis(each, -1, 0) for each in (
            values, (whole.maps | whole.cubes)[key]
        ))  # fmt: skip
        others = np.setdiff1d(np.arange(20), spoiled)
        assert mine[others].tobytes() == theirs[others].tobytes(), key
        if key == "status":
            assert (
                mine[spoiled] & ~(Status.LINES_REPLACED | Status.BAD_VARIANCE | Status.FILLED) == Status.FAILED
            ).all()
        elif key in given or key in found.cubes:
            assert np.isnan(mine[spoiled]).all(), key


# --- memory ---


@contextmanager
def one_thread(**_: Any) -> Iterator[Client]:
    options = {"dashboard_address": "127.0.0.1:0", "scheduler_kwargs": {"dashboard": False}}
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, **options) as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_a_device_without_memory_takes_smaller_batches(survey: Path, undisturbed: Path) -> None:
    """It is said, also if the very first batch was too large, and the maps are the same."""
    original, sizes = Predictor._batch, []

    def scarce(self: Predictor, *args: Any) -> Any:
        sizes.append(self.batch)
        if self.batch > 32:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, *args)

    predictors._load.cache_clear()
    progress = surveys.Recorder()
    try:
        with mock.patch.object(Predictor, "_batch", scarce):
            (result,) = surveys.run_here(survey, progress=progress, cluster=one_thread)
    finally:
        predictors._load.cache_clear()
    assert result.outcome == "done", result.details
    assert sizes[:3] == [128, 64, 32]
    assert set(sizes[3:]) == {32}
    told = [text for text in progress.messages if "memory ran out" in text]
    assert told == ["N1: the device's memory ran out; the model now takes 32 spectra at once"]
    found, whole = arrays(survey.parent / "out"), arrays(undisturbed)
    for name, values in found.items():
        np.testing.assert_allclose(values, whole[name], rtol=2e-3, atol=2e-5, err_msg=name)  # one rounding or another
