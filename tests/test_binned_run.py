"""Surveys with bins, from the cube to the products: the same as fitting the bins' spectra, and nothing is ever lost."""

import csv
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from astropy.table import Table

from galprote.model.errors import ConfigError
from galprote.pipeline import bin_graph, graph
from galprote.pipeline.bin_files import BinFiles
from galprote.pipeline.bin_sums import mean_spectra, sum_block
from galprote.pipeline.binning import make_bins
from galprote.pipeline.binning_config import BinningConfig
from galprote.pipeline.products import EVERY_MAP, KINEMATIC_MAPS
from galprote.pipeline.quality import NOT_FITTED, Status
from galprote.pipeline.readers import open_cube
from galprote.pipeline.spaxel_measures import channels_in, measure_spaxels
from galprote.workflows import phases
from galprote.workflows.stop import StoppedError
from tests import cubes, surveys, trouble
from tests.binned_surveys import BINNING, SHAPE, run, small

#: Steps of a galaxy with bins, and the functions in which they do their work.
STEPS = {"measure": ("measure_spaxels", bin_graph), "sum": ("sum_block", bin_graph), "fit": ("predict_block", graph)}


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corner without data, an empty row, a column of noise."""
    path = tmp_path_factory.mktemp("cube") / "cube.fits"
    return surveys.write_cube(path, SHAPE, empty_rows=slice(5, 6), faint=1)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cube: Path, checkpoint: Path) -> Path:
    return run(small(tmp_path_factory.mktemp("undisturbed"), cube, checkpoint))


@pytest.fixture
def maps(undisturbed: Path) -> Iterator[xr.Dataset]:
    with xr.open_zarr(undisturbed / "N1.zarr") as store:
        yield store.load()


@pytest.fixture
def table(undisturbed: Path) -> Iterator[xr.Dataset]:
    with xr.open_zarr(undisturbed / "N1.zarr", group="bins") as store:
        yield store.load()


# --- products ---


def test_each_spaxel_counts_once_in_the_rate(undisturbed: Path) -> None:
    record = json.loads((undisturbed / "run.json").read_text())
    assert record["spaxels_per_second"] * record["seconds"] == pytest.approx(SHAPE[0] * SHAPE[1], rel=0.2)


def test_every_spaxel_has_its_bins_values(maps: xr.Dataset, table: xr.Dataset) -> None:
    rows = {number: row for row, number in enumerate(table["bin"].values.tolist())}
    ids = maps["bin_id"].values
    place = np.array([rows.get(number, -1) for number in ids.ravel()]).reshape(ids.shape)
    inside = place >= 0
    assert 0 < inside.sum() < ids.size
    shared = [name for name in table.data_vars if name in maps and name not in ("spaxel_flux", "spaxel_snr")]
    assert {"age_lw", "age_lw_error", "status", "stellar_mass_density", "bin_spaxels", "bin_snr"} <= set(shared)
    for name in shared:
        np.testing.assert_array_equal(maps[name].values[inside], table[name].values[place[inside]])
        outside = maps[name].values[~inside]
        assert name == "status" or (np.isnan(outside) if outside.dtype.kind == "f" else outside == 0).all()
    np.testing.assert_array_equal(table["bin_spaxels"], np.bincount(place[inside]))
    assert np.isfinite(maps["age_lw"].values[inside]).any()


def test_spaxels_without_a_bin_say_why(maps: xr.Dataset) -> None:
    status, ids = maps["status"].values, maps["bin_id"].values
    np.testing.assert_array_equal(status[5] & Status.NO_DATA, Status.NO_DATA)
    assert (ids[5] == -1).all()
    assert (ids[-1, -2:] == -1).all()
    faint = maps["spaxel_snr"].values < BINNING["snr_min"]  # type: ignore[operator]
    np.testing.assert_array_equal((status & Status.NOT_BINNED) > 0, faint)
    assert faint.any()
    assert ((status[ids == -1] & int(NOT_FITTED)) > 0).all()


def test_it_is_the_fit_of_the_bins_spectra(tmp_path: Path, cube: Path, checkpoint: Path, table: xr.Dataset) -> None:
    """Bins summed by hand and fitted as the spaxels of a cube."""
    native = open_cube(cube, redshift=surveys.REDSHIFT)
    flux, variance = native["flux"].values, native["variance"].values
    config = BinningConfig.model_validate(BINNING)
    channels = channels_in(native["wavelength"].values, config.snr_window, surveys.REDSHIFT)
    measures = measure_spaxels(flux, variance, None, channels)
    bins = make_bins(measures.signal, measures.noise, measures.status == 0, config, 0.4)
    whole = sum_block(flux, variance, bins.index, bins.weight)
    mean, noise = mean_spectra(0, len(bins), [whole], bins.part(slice(0, len(bins))), len(flux))
    first = float(native["wavelength"].values[0])
    path = cubes.write_muse_cube(tmp_path / "bins.fits", mean[:, None], noise[:, None], cubes.muse_cards(first))
    plain = run(small(tmp_path, path, checkpoint, binning={"method": "none"}))
    with xr.open_zarr(plain / "N1.zarr") as store:
        for name in ("age_lw", "metallicity_lw", "av", "snr", "flux", "stellar_mass_density", "trust"):
            np.testing.assert_allclose(store[name].values[0], table[name].values, rtol=2e-3, atol=2e-3, err_msg=name)
        np.testing.assert_array_equal(store["status"].values[0], table["status"].values)
        np.testing.assert_allclose(
            store["residual"].values[:, 0], table["residual"].values, rtol=1e-3, atol=2e-3 * float(table["flux"].max())
        )
    np.testing.assert_array_equal(bins.spaxels, table["bin_spaxels"])


def test_files_have_what_the_store_has(undisturbed: Path, maps: xr.Dataset, table: xr.Dataset) -> None:
    with fits.open(undisturbed / "N1_MAPS.fits") as hdus:
        for product in EVERY_MAP:
            if product not in KINEMATIC_MAPS:
                np.testing.assert_array_equal(hdus[product.extension].data, maps[product.name].values)
    with fits.open(undisturbed / "N1_BINS.fits", checksum=True) as hdus:
        for hdu in hdus:
            hdu.verify("exception")
        assert [hdu.name for hdu in hdus[1:5]] == ["BINS", "RESIDUAL", "CONTSUB", "CONTSUB_ERR"]
        np.testing.assert_array_equal(hdus["RESIDUAL"].data, table["residual"].values.T)
        np.testing.assert_array_equal(hdus["CONTSUB_ERR"].data, table["continuum_subtracted_error"].values.T)
        np.testing.assert_array_equal(hdus["GRID"].data, table["grid"].values.astype(np.float32))
        np.testing.assert_array_equal(hdus["BINS"].data["AGE_LW"], table["age_lw"].values)
        np.testing.assert_array_equal(hdus["BINS"].data["STATUS"], table["status"].values)
    read = Table.read(undisturbed / "N1_BINS.fits", hdu="BINS")
    assert str(read["AV_STARS"].unit) == "mag"
    lines = list(csv.DictReader((undisturbed / "N1_bins.csv").read_text(encoding="utf-8").splitlines()))
    assert len(lines) == table.sizes["bin"]
    for name in ("bin", "ra", "age_lw", "age_lw_error", "bin_spaxels"):
        found = np.array([float(line[name] or "nan") for line in lines])
        np.testing.assert_array_equal(found.astype(table[name].dtype), table[name].values)
    assert not (undisturbed / "N1_RESIDUAL.fits").exists()


def test_the_centres_are_on_the_sky_where_their_spaxels_are(maps: xr.Dataset, table: xr.Dataset) -> None:
    for row in range(table.sizes["bin"]):
        mine = maps["bin_id"].values == int(table["bin"][row])
        assert maps["ra"].values[mine].min() - 1e-9 <= float(table["ra"][row]) <= maps["ra"].values[mine].max() + 1e-9
        assert (
            maps["dec"].values[mine].min() - 1e-9 <= float(table["dec"][row]) <= maps["dec"].values[mine].max() + 1e-9
        )


def test_the_record_says_how(undisturbed: Path) -> None:
    attributes = json.loads((undisturbed / "N1.zarr" / "zarr.json").read_text())["attributes"]
    assert attributes["binning"] == "square"
    assert attributes["covariance"] == 0.4
    assert json.loads(attributes["provenance"])["settings"]["binning"]["size"] == 3


@pytest.mark.parametrize("rows", [1, 5, 12])
def test_chunks_do_not_matter(tmp_path: Path, cube: Path, checkpoint: Path, maps: xr.Dataset, rows: int) -> None:
    out = run(small(tmp_path, cube, checkpoint, rows=rows))
    with xr.open_zarr(out / "N1.zarr") as store:
        for name in maps.data_vars:
            np.testing.assert_allclose(store[name].values, maps[name].values, rtol=1e-3, atol=1e-3, err_msg=str(name))


# --- trouble ---


@pytest.mark.parametrize("step", STEPS)
def test_a_run_that_stops_goes_on_as_if_nothing_had_been(
    tmp_path: Path, cube: Path, checkpoint: Path, undisturbed: Path, step: str
) -> None:
    function, module = STEPS[step]
    struck: list[int] = []

    def strike(here: trouble.Step) -> None:
        if not struck and here.index == 0:  # before all others are under way
            struck.append(here.index)
            os.kill(os.getpid(), signal.SIGTERM)

    survey = small(tmp_path, cube, checkpoint)
    with trouble.before(function, strike, module), pytest.raises(StoppedError):
        surveys.run_here(survey)
    assert struck
    progress = surveys.Recorder()
    out = run(survey, progress=progress)
    assert surveys.tree(out) == surveys.tree(undisturbed)
    names = [what for _, what, _, _ in progress.steps]
    wanted = ["spaxels measured", "spaxels summed", "bins"]
    assert names == wanted[list(STEPS).index(step) :], "what is finished is not done again"


@pytest.mark.parametrize("step", ["measure", "sum"])
def test_a_chunk_that_fails_costs_its_spaxels_and_another_run_mends_it(
    tmp_path: Path, cube: Path, checkpoint: Path, undisturbed: Path, step: str
) -> None:
    function, module = STEPS[step]
    survey = small(tmp_path, cube, checkpoint)
    with trouble.before(function, trouble.failing(1), module):
        (result,) = surveys.run_here(survey)
    assert result.outcome == "incomplete"
    (failure,) = result.failures
    assert (failure.step, failure.chunk, failure.first_row, failure.last_row) == (step, 1, 2, 3)
    out = survey.parent / "out"
    with xr.open_zarr(out / "N1.zarr") as store:
        assert np.isfinite(store["age_lw"].values[6:]).any()
        lost = (store["status"].values & Status.NOT_COMPUTED) > 0
        assert lost[2:4, 1:].all()
        assert np.isnan(store["age_lw"].values[lost]).all()
        touched = lost.any(axis=1).nonzero()[0]
        assert store.attrs["failed_rows"] == [[touched[0], touched[-1]]]
        assert touched.tolist() == ([2, 3] if step == "measure" else [0, 1, 2, 3, 4]), "whole bins, or the rows alone"
    run(survey)
    assert surveys.tree(out) == surveys.tree(undisturbed)


def test_bins_that_fail_are_flagged(tmp_path: Path, cube: Path, checkpoint: Path, undisturbed: Path) -> None:
    """One chunk holds all of these few bins: the galaxy fails, and what was summed is kept."""
    survey = small(tmp_path, cube, checkpoint)
    with trouble.before("predict_block", trouble.failing(0)):
        (result,) = surveys.run_here(survey)
    assert result.outcome == "failed"
    progress = surveys.Recorder()
    out = run(survey, progress=progress)
    assert [what for _, what, _, _ in progress.steps] == ["bins"]
    assert surveys.tree(out) == surveys.tree(undisturbed)


def test_other_bins_are_other_products(tmp_path: Path, cube: Path, checkpoint: Path) -> None:
    survey = small(tmp_path, cube, checkpoint)
    run(survey)
    small(tmp_path, cube, checkpoint, binning=BINNING | {"size": 2})
    with pytest.raises(ConfigError, match=r"settings\.binning\.size: 3 -> 2"):
        surveys.run_here(survey)


# --- trouble upon trouble ---


def stop_in(survey: Path, step: str, chunk: int) -> None:
    """Run until a chunk of a step is under way, and stop there."""
    function, module = STEPS[step]

    def strike(here: trouble.Step) -> None:
        if here.index == chunk:
            os.kill(os.getpid(), signal.SIGTERM)

    with trouble.before(function, strike, module), pytest.raises(StoppedError):
        surveys.run_here(survey)


@pytest.mark.parametrize("step", ["measure", "sum"])
def test_a_failed_chunk_that_is_done_in_a_run_that_is_stopped(
    tmp_path: Path, cube: Path, checkpoint: Path, undisturbed: Path, step: str
) -> None:
    """Its bins are not those of the run in which it failed, nor are their fits."""
    function, module = STEPS[step]
    survey = small(tmp_path, cube, checkpoint)
    with trouble.before(function, trouble.failing(1), module):
        (result,) = surveys.run_here(survey)
    assert result.outcome == "incomplete"
    stop_in(survey, step, 1)
    out = run(survey)
    assert surveys.tree(out) == surveys.tree(undisturbed)


@pytest.mark.parametrize("after", ["measure", "sum"])
def test_an_error_between_two_steps_is_not_the_end(
    tmp_path: Path, cube: Path, checkpoint: Path, undisturbed: Path, after: str
) -> None:
    """A file system that stalls for a moment."""
    original, calls = phases.bins_of, []

    def stale(files: BinFiles) -> Any:
        calls.append(files)
        if len(calls) == (1 if after == "measure" else 2):
            raise OSError(116, "Stale file handle")
        return original(files)

    survey = small(tmp_path, cube, checkpoint)
    with mock.patch.object(phases, "bins_of", stale):
        out = run(survey)
    assert surveys.tree(out) == surveys.tree(undisturbed)


def test_bins_that_cannot_be_made_are_not_made_three_times(tmp_path: Path, cube: Path, checkpoint: Path) -> None:
    survey = small(tmp_path, cube, checkpoint, binning=BINNING | {"snr_min": 1e6})
    progress = surveys.Recorder()
    (result,) = surveys.run_here(survey, progress=progress)
    assert result.outcome == "failed"
    assert "lower binning.snr_min" in result.error
    assert not [text for text in progress.messages if "trying again" in text]
