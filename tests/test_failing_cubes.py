"""Cubes that change under a run, numbers that are none, devices without memory: flagged, failed, or made to fit."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from distributed import Client, LocalCluster

from galprote.model import predictor as predictors
from galprote.model.checkpoint import load_checkpoint
from galprote.model.predictor import Predictions, Predictor
from galprote.pipeline.block import BlockProducts, BlockSettings, finish_block, predict_block, prepare_block
from galprote.pipeline.line_filter_config import LineFilterConfig
from galprote.pipeline.products import MAPS
from galprote.pipeline.quality import Status
from galprote.pipeline.rest_frame import PreprocessSettings
from tests import surveys, trouble

SHAPE = (8, 5)


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return surveys.write_cube(tmp_path_factory.mktemp("cube") / "cube.fits", SHAPE)


def small(folder: Path, cube: Path, checkpoint: Path) -> Path:
    products = {"continuum_subtracted": True, "grid": True, "figure": False}
    galaxies = [{"name": "N1", "cube": str(cube), "products": products}]
    return surveys.write_survey(folder, galaxies, checkpoint, chunks={"rows": 1})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cube: Path, checkpoint: Path) -> Path:
    """The output folder of a run without trouble."""
    survey = small(tmp_path_factory.mktemp("undisturbed"), cube, checkpoint)
    (result,) = surveys.run_here(survey)
    assert result.outcome == "done", result.details
    return survey.parent / "out"


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


def test_a_device_without_memory_takes_smaller_batches(
    tmp_path: Path, cube: Path, checkpoint: Path, undisturbed: Path
) -> None:
    """It is said, also if the very first batch was too large, and the maps are the same."""
    original, sizes = Predictor._batch, []

    def scarce(self: Predictor, *args: Any) -> Any:
        sizes.append(self.batch)
        if self.batch > 32:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, *args)

    survey, progress = small(tmp_path, cube, checkpoint), surveys.Recorder()
    predictors._load.cache_clear()
    try:
        with mock.patch.object(Predictor, "_batch", scarce):
            (result,) = surveys.run_here(survey, progress=progress, cluster=one_thread)
    finally:
        predictors._load.cache_clear()
    assert result.outcome == "done", result.details
    assert sizes[:3] == [256, 128, 64]
    assert set(sizes[3:]) == {32}
    told = [text for text in progress.messages if "memory ran out" in text]
    assert told == ["N1: the device's memory ran out; the model now takes 32 spectra at once"]
    found, whole = trouble.arrays(survey.parent / "out"), trouble.arrays(undisturbed)
    for name, values in found.items():
        np.testing.assert_allclose(values, whole[name], rtol=2e-3, atol=2e-5, err_msg=name)  # one rounding or another
