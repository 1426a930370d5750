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
from numpy.typing import NDArray

from galprote.model.errors import ConfigError
from galprote.model.kinematics import C_KMS
from galprote.pipeline import bin_graph, graph
from galprote.pipeline.bin_files import BinFiles
from galprote.pipeline.bin_sums import mean_spectra, sum_block
from galprote.pipeline.binning import make_bins
from galprote.pipeline.binning_config import BinningConfig
from galprote.pipeline.kinematics_config import KinematicsConfig
from galprote.pipeline.products import EVERY_MAP, KINEMATIC_MAPS
from galprote.pipeline.quality import NOT_FITTED, Status
from galprote.pipeline.readers import open_cube
from galprote.pipeline.spaxel_measures import channels_in, measure_spaxels
from galprote.pipeline.velocity_map import read_velocities
from galprote.workflows import phases
from galprote.workflows.stop import StoppedError
from tests import cubes, surveys, trouble

Array = NDArray[Any]
SHAPE = (12, 8)
BINNING = {"method": "square", "size": 3, "covariance": 0.4, "snr_min": 3}
PRODUCTS = {"continuum_subtracted": True, "grid": True}
#: Steps of a galaxy with bins, and the functions in which they do their work.
STEPS = {"measure": ("measure_spaxels", bin_graph), "sum": ("sum_block", bin_graph), "fit": ("predict_block", graph)}


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corner without data, an empty row, a column of noise."""
    path = tmp_path_factory.mktemp("cube") / "cube.fits"
    return surveys.write_cube(path, SHAPE, empty_rows=slice(5, 6), faint=1)


def small(folder: Path, cube: Path, checkpoint: Path, rows: int = 2, **galaxy: Any) -> Path:
    about = {"name": "N1", "cube": str(cube), "binning": BINNING, "products": PRODUCTS, "snr_min": 1} | galaxy
    return surveys.write_survey(folder, [about], checkpoint, chunks={"rows": rows})


def run(survey: Path, **more: Any) -> Path:
    """Run; gives the output folder."""
    (result,) = surveys.run_here(survey, **more)
    assert result.outcome == "done", result.error
    return survey.parent / "out"


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


# --- files of bins and velocities ---


def write_image(path: Path, values: Array, name: str) -> Path:
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(values, name=name)]).writeto(path, overwrite=True)
    return path


def test_bins_of_a_file(tmp_path: Path, cube: Path, checkpoint: Path) -> None:
    numbers = np.full(SHAPE, -1, dtype=np.int32)
    numbers[:4, 2:6], numbers[7:11] = 40, 11
    path = write_image(tmp_path / "N1_bins_of_mine.fits", numbers, "BIN_ID")
    binning = {"method": "file", "file": str(path.parent / "{name}_bins_of_mine.fits"), "covariance": 0}
    survey = small(tmp_path, cube, checkpoint, binning=binning)
    out = run(survey)
    with xr.open_zarr(out / "N1.zarr") as store:
        np.testing.assert_array_equal(store["bin_id"].values, numbers)
    with xr.open_zarr(out / "N1.zarr", group="bins") as store:
        assert store["bin"].values.tolist() == [40, 11]
    write_image(path, np.where(numbers == 40, -1, numbers), "BIN_ID")
    with pytest.raises(ConfigError, match="binning_sha256"):
        surveys.run_here(survey)


def moving_cube(path: Path, velocity: Array) -> Path:
    """Each spaxel's spectrum is that of the first one, moved."""
    flux, _ = surveys.spectra(1)
    wavelength = surveys.FIRST_CHANNEL + 1.25 * np.arange(surveys.CHANNELS)
    moved = [np.interp(wavelength, wavelength * (1 + v / C_KMS), flux[:, 0]) for v in velocity.ravel()]
    values = np.stack(moved, axis=1).reshape(-1, *velocity.shape).astype(np.float32)
    variance = np.full_like(values, (values.mean() / 60) ** 2)
    return cubes.write_muse_cube(path, values, variance, cubes.muse_cards(surveys.FIRST_CHANNEL))


@pytest.mark.parametrize("zero", ["redshift", "zero"])
def test_velocities_of_a_map_take_every_spaxel_to_rest(tmp_path: Path, checkpoint: Path, zero: str) -> None:
    """What moves is corrected: its residuals are those of what does not."""
    velocity = np.array([[0.0, 40.0, -80.0, 160.0], [-160.0, 120.0, 10.0, np.nan]])
    cube = moving_cube(tmp_path / "moving.fits", np.nan_to_num(velocity))
    given = velocity if zero == "redshift" else C_KMS * ((1 + surveys.REDSHIFT) * (1 + velocity / C_KMS) - 1)
    path = write_image(tmp_path / "v.fits", given.astype(np.float32), "V_STARS")
    found = {}
    for method in ("none", "map"):
        kinematics = {"method": "map", "map": str(path), "relative_to": zero} if method == "map" else {"method": "none"}
        none = {"binning": {"method": "none"}, "products": {"figure": False, "continuum_subtracted": True}}
        out = run(small(tmp_path / method, cube, checkpoint, kinematics=kinematics, **none))
        with xr.open_zarr(out / "N1.zarr") as store:
            found[method] = store.load()
    spread = {
        method: float(np.nanstd(store["residual"].values, axis=(1, 2)).mean() / store["flux"].values.mean())
        for method, store in found.items()
    }
    assert spread["map"] < 0.25 * spread["none"]
    status = found["map"]["status"].values
    np.testing.assert_array_equal((status & Status.NO_VELOCITY) > 0, np.isnan(velocity))
    np.testing.assert_allclose(found["map"]["v_stars"].values, velocity, atol=0.01)


def test_velocities_that_are_none(tmp_path: Path, cube: Path, checkpoint: Path) -> None:
    path = write_image(tmp_path / "v.fits", np.full(SHAPE, 30_000, dtype=np.float32), "V_STARS")
    survey = small(tmp_path, cube, checkpoint, kinematics={"method": "map", "map": str(path)})
    with pytest.raises(ConfigError, match=r"its median is 30,000 km/s .* kinematics\.relative_to"):
        surveys.run_here(survey)


def test_velocities_that_are_measured(tmp_path: Path, checkpoint: Path) -> None:
    """They come back within their errors, are used, and are the same whether the spectra are spaxels' or bins'."""
    velocity = np.array([[0.0, 60.0, -90.0, 150.0], [-160.0, 120.0, 20.0, -40.0]])
    cube = moving_cube(tmp_path / "moving.fits", velocity)
    found = {}
    for method in ("none", "square"):
        binning = {"method": method} | ({"size": 1, "covariance": 0} if method == "square" else {})
        about = {"kinematics": {"method": "measure"}, "products": {"figure": False, "continuum_subtracted": True}}
        out = run(small(tmp_path / method, cube, checkpoint, binning=binning, **about))
        with xr.open_zarr(out / "N1.zarr") as store:
            found[method] = store.load()
    maps = found["none"]
    assert {"v_stars", "v_stars_error", "sigma_stars", "sigma_stars_error"} <= set(maps)
    error = maps["v_stars_error"].values
    assert (error < 15).all()
    off = maps["v_stars"].values - velocity
    assert (np.abs(off - off.mean()) < 4 * error + 1).all(), "the made-up spectrum's own zero is not known"
    assert np.abs(off.mean()) < 15
    spread = np.nanstd(maps["residual"].values, axis=(1, 2)).mean() / maps["flux"].values.mean()
    assert spread < 0.02, "all are alike at rest"
    for name in ("v_stars", "sigma_stars", "age_lw", "status"):
        np.testing.assert_allclose(found["square"][name].values, maps[name].values, rtol=1e-3, atol=0.05)
    with fits.open(tmp_path / "none" / "out" / "N1_MAPS.fits") as hdus:
        assert hdus["V_STARS"].header["BUNIT"] == "km / s"
        np.testing.assert_array_equal(hdus["SIGMA_STARS_ERR"].data, maps["sigma_stars_error"].values)


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


def test_covariance_is_measured_through_gaps(tmp_path: Path, checkpoint: Path) -> None:
    """Every spaxel lacks a few channels, each others."""
    rng = np.random.default_rng(5)
    flux, variance = surveys.spectra(16 * 60, seed=3, snr=3.0)
    flux[rng.random(flux.shape) < 0.03] = np.nan
    path = cubes.write_muse_cube(
        tmp_path / "gaps.fits", *(part.reshape(-1, 16, 60) for part in (flux, variance)),
        cubes.muse_cards(surveys.FIRST_CHANNEL),
    )  # fmt: skip
    binning = {"method": "square", "size": 4, "snr_min": 0}
    out = run(small(tmp_path, path, checkpoint, binning=binning))
    with xr.open_zarr(out / "N1.zarr") as store:
        assert 0 <= store.attrs["covariance"] < 0.3
        assert len(store.attrs["covariance_spaxels"]) >= 4
        assert np.isfinite(store["age_lw"].values).any()


def test_maps_in_other_units_and_files_of_many_images(tmp_path: Path, cube: Path, checkpoint: Path) -> None:
    velocity = np.linspace(-150, 150, 96).reshape(SHAPE).astype(np.float32)
    hdu = fits.ImageHDU(1000 * velocity, name="STELLAR_VEL")
    hdu.header["BUNIT"] = "m/s"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.ones(SHAPE), name="FLUX"), hdu]).writeto(tmp_path / "v.fits")
    survey = small(tmp_path, cube, checkpoint, kinematics={"method": "map", "map": "v.fits"})
    with pytest.raises(ConfigError, match=r"which image is meant\? .* FLUX, . STELLAR_VEL"):
        surveys.run_here(survey)
    config = KinematicsConfig(method="map", map=f"{tmp_path}/v.fits[STELLAR_VEL]")
    np.testing.assert_allclose(read_velocities(config, 0.005, SHAPE), velocity, atol=1e-3)
    hdu.header["BUNIT"] = "Angstrom"
    hdu.writeto(tmp_path / "w.fits")
    with pytest.raises(ConfigError, match="BUNIT = 'Angstrom' is no velocity"):
        read_velocities(config.model_copy(update={"map": f"{tmp_path}/w.fits"}), 0.005, SHAPE)
    write_image(tmp_path / "x.fits", 1000 * velocity, "V_STARS")
    with pytest.raises(ConfigError, match="spaxels have velocities over 2,000 km/s"):
        read_velocities(config.model_copy(update={"map": f"{tmp_path}/x.fits"}), 0.005, SHAPE)
