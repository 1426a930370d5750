"""Spaxels fitted again from a store and its cube: what the run gave, bit for bit, whatever the run was."""

import gzip
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from numpy.typing import NDArray

from galprote.model.checkpoint import default_checkpoint
from galprote.model.errors import CheckpointError, CubeError
from galprote.pipeline.block import POPULATIONS
from galprote.pipeline.maps import open_maps
from galprote.pipeline.quality import NOT_FITTED, Status
from galprote.pipeline.readers import open_cube
from galprote.workflows.cube_spectra import read_slabs
from galprote.workflows.refit import Refits, Refitter
from tests import cubes, surveys

SHAPE = (12, 8)
MASKS = {"observed": [[5577.1234, 5590.5]], "rest": [[5870, 5900.005]], "spec_masks": ["specMask"]}
BINNING = {"method": "square", "size": 3, "covariance": 0.4, "snr_min": 3}
KINDS: dict[str, dict[str, Any]] = {
    "PLAIN": {},
    "MAPPED": {"kinematics": {"method": "map", "map": "velocity.fits"}},
    "MEASURED": {"kinematics": {"method": "measure"}},
    "MASKED": {"masks": MASKS},
    "CUT": {"cube": "cut.fits"},
    "PACKED": {"cube": "cube.fits.gz", "masks": {key: MASKS[key] for key in ("observed", "rest")}},
    "BINNED": {"binning": BINNING, "kinematics": {"method": "map", "map": "velocity.fits"}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A survey of the same galaxy in every way, finished."""
    folder = tmp_path_factory.mktemp("refit")
    cube = surveys.write_cube(folder / "cube.fits", SHAPE, empty_rows=slice(5, 6), faint=1)
    (folder / "cube.fits.gz").write_bytes(gzip.compress(cube.read_bytes(), 1))
    with fits.open(cube) as hdus:  # for weights that see less
        flux, variance = (hdus[name].data[100:-200] for name in ("DATA", "STAT"))
        cubes.write_muse_cube(folder / "cut.fits", flux, variance, cubes.muse_cards(surveys.FIRST_CHANNEL + 125.0))
    velocity = 60 * np.linspace(-1, 1, SHAPE[0] * SHAPE[1]).reshape(SHAPE)
    velocity[2, 3] = np.nan
    fits.PrimaryHDU(velocity).writeto(folder / "velocity.fits")
    (folder / "specMask").write_text("5577.0 20 sky\n5015.68 20.5 HeI\n")
    products = {"figure": False, "fits": False, "residual": True, "grid": True}
    surveys.write_checkpoint(folder / "narrow.safetensors", refined=True, window=(4900.0, 6800.0))
    for weights, names in ((checkpoint, set(KINDS) - {"CUT"}), (folder / "narrow.safetensors", {"CUT"})):
        galaxies = [{"name": name, "cube": "cube.fits", "products": products} | KINDS[name] for name in sorted(names)]
        galaxies = [galaxy | {"cube": str(folder / str(galaxy["cube"]))} for galaxy in galaxies]
        results = surveys.run_here(surveys.write_survey(folder, galaxies, weights, chunks={"rows": 5}))
        assert {result.outcome for result in results} == {"done"}, [(r.name, r.error) for r in results]
    return folder


@cache
def refitter(folder: Path, name: str, checkpoint: Path) -> Refitter:
    checkpoint = folder / "narrow.safetensors" if name == "CUT" else checkpoint
    return Refitter(folder / "out" / f"{name}.zarr", folder / KINDS[name].get("cube", "cube.fits"), checkpoint)


def everywhere(maps: xr.Dataset) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    y, x = np.mgrid[: maps.sizes["y"], : maps.sizes["x"]]
    return y.ravel(), x.ravel()


def differing(refits: Refits, maps: xr.Dataset, y: Any, x: Any) -> dict[str, int]:
    """How many of the fitted spaxels differ in a map, the grid or the residual."""
    status = maps["status"].values[y, x]
    fitted = (status & int(NOT_FITTED)) == 0
    pairs = {product: getattr(refits.populations, field) for field, product in POPULATIONS.items()}
    pairs |= {"snr": refits.snr}
    wanted = {name: maps[name].values[y, x] for name in pairs}
    pairs["grid"], wanted["grid"] = refits.populations.grid.astype(np.float16), maps["grid"].values[y, x]
    count = {}
    for name, found in pairs.items():
        same = (found == wanted[name]) | (np.isnan(found) & np.isnan(wanted[name]))
        count[name] = int((~same.reshape(len(same), -1).all(axis=1))[fitted].sum())
    count["status"] = int((refits.populations.status != status)[fitted].sum())
    residual = (refits.flux - refits.model)[fitted]
    stored = maps["residual"].values[:, y, x].T[fitted]
    close = np.isclose(residual, stored, rtol=0, atol=1e-3, equal_nan=True)  # of 1000: rounding of single precision
    count["residual"] = int((~close.all(axis=1)).sum())
    assert fitted.sum() > 60
    return {name: n for name, n in count.items() if n}


@pytest.mark.parametrize("name", ["PLAIN", "MAPPED", "MEASURED", "MASKED", "CUT", "PACKED"])
def test_a_spaxel_gives_what_the_run_gave(name: str, folder: Path, checkpoint: Path) -> None:
    fitter = refitter(folder, name, checkpoint)
    maps = fitter.maps.load()
    y, x = everywhere(maps)
    refits = fitter.spaxels(y, x)
    assert differing(refits, maps, y, x) == {}
    assert fitter.note == ""
    some = np.random.default_rng(1).permutation(len(y))[:9]  # in another order, and one by one
    few, alone = fitter.spaxels(y[some], x[some]), fitter.spaxels(y[some[:1]], x[some[:1]])
    for field in POPULATIONS:
        whole = getattr(refits.populations, field)[some]
        np.testing.assert_array_equal(getattr(few.populations, field), whole)
        np.testing.assert_array_equal(getattr(alone.populations, field), whole[:1])


def test_what_was_masked_and_what_was_observed(folder: Path, checkpoint: Path) -> None:
    fitter = refitter(folder, "MASKED", checkpoint)
    refits = fitter.spaxels(np.array([3]), np.array([4]))
    asked = np.zeros(948, bool)
    z = surveys.REDSHIFT
    for first, last in ((5005.43, 5025.93), (5870, 5900.005), (5567 / (1 + z), 5590.5 / (1 + z))):
        asked |= (refits.wavelength > first) & (refits.wavelength < last)
    assert not refits.used[0, asked].any()
    plain = refitter(folder, "PLAIN", checkpoint).spaxels(np.array([3]), np.array([4]))
    np.testing.assert_array_equal(plain.flux, refits.flux)  # what is masked is shown
    assert int(plain.used.sum() - refits.used.sum()) == pytest.approx(int(asked.sum()), abs=12)
    assert not (refits.bands & refits.masked[0]).any()
    assert not (refits.masked & refits.replaced).any()
    noise = (refits.flux - refits.model)[refits.used] / refits.error[refits.used]
    assert 0.5 < 1.4826 * np.median(np.abs(noise)) < 10  # random weights: no good fit, but the unit is right
    cut = refitter(folder, "CUT", checkpoint).spaxels(np.array([3]), np.array([4]))
    np.testing.assert_array_equal(np.isnan(cut.flux[0]), cut.masked[0] | (cut.bands & np.isnan(cut.flux[0])))
    assert np.isnan(cut.flux[0, :30]).all()


def test_flux_is_where_the_fit_took_it(folder: Path, checkpoint: Path) -> None:
    """Spectra that move are taken to their rest frames in steps: shown at the same one."""
    for name in ("MAPPED", "MEASURED"):
        fitter = refitter(folder, name, checkpoint)
        y, x = everywhere(fitter.maps)
        refits = fitter.spaxels(y, x)
        fitted = refits.batch.fitted
        np.testing.assert_array_equal(refits.flux[fitted], refits.batch.rebinned)


def test_spaxels_without_data_are_nan_and_say_why(folder: Path, checkpoint: Path) -> None:
    fitter = refitter(folder, "PLAIN", checkpoint)
    refits = fitter.spaxels(np.array([5, 3]), np.array([2, 2]))
    assert np.isnan(refits.flux[0]).all()
    assert np.isnan(refits.model[0]).all()
    assert np.isnan(refits.populations.log_age[0])
    assert refits.populations.status[0] & Status.NO_DATA
    assert np.isfinite(refits.populations.log_age[1])
    nothing = fitter.region(np.array([5, 5, 5]), np.array([1, 2, 3]))
    assert np.isnan(nothing.flux).all()
    assert np.isnan(nothing.populations.log_age).all()


def test_faint_spaxels_are_fitted_though_the_run_left_them_out(folder: Path, checkpoint: Path) -> None:
    fitter = refitter(folder, "PLAIN", checkpoint)
    faint = np.argwhere((fitter.maps["status"].values & Status.LOW_SNR) > 0)
    assert len(faint)
    refits = fitter.spaxels(faint[:, 0], faint[:, 1])
    assert np.isfinite(refits.populations.log_age).all()


def test_a_region_is_the_mean_of_its_spaxels(folder: Path, checkpoint: Path) -> None:
    fitter = refitter(folder, "PLAIN", checkpoint)
    y, x = (values.ravel() for values in np.mgrid[1:5, 3:6])
    region, spaxels = fitter.region(y, x), fitter.spaxels(y, x)
    np.testing.assert_allclose(region.flux[0], spaxels.flux.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(region.error[0], np.sqrt((spaxels.error**2).mean(axis=0) / 12), rtol=1e-5)
    assert region.snr[0] > 2 * spaxels.snr.mean()
    with_hole = fitter.region(np.append(y, 5), np.append(x, 4))  # a spaxel without data changes nothing
    np.testing.assert_allclose(with_hole.flux, region.flux, rtol=1e-6)
    single = fitter.region(y[:1], x[:1])
    np.testing.assert_allclose(single.flux[0], spaxels.flux[0], rtol=1e-6)


def test_a_channel_that_a_spaxel_lacks_leaves_no_dent(folder: Path, checkpoint: Path) -> None:
    """The brightest of three lacks channels."""
    native = open_cube(folder / "cube.fits", redshift=surveys.REDSHIFT)
    fitter = refitter(folder, "PLAIN", checkpoint)
    y, x = np.array([3, 3, 3]), np.array([3, 5, 6])
    flux = native["flux"].values[:, 3, x]
    brightest = int(np.nanmedian(flux, axis=0).argmax())
    whole = fitter.region(y, x)
    fitter = Refitter(folder / "out" / "PLAIN.zarr", folder / "cube.fits", checkpoint)  # its cube is changed
    holed = native.copy(deep=True).load()
    holed["flux"].values[900:930, 3, x[brightest]] = np.nan
    fitter.cube = holed.chunk({"y": 4})
    dented = fitter.region(y, x)
    plain = np.nanmean(np.delete(flux, brightest, axis=1)[905:925]) / np.nanmean(flux[905:925])
    gap = np.flatnonzero((dented.flux != whole.flux)[0])[3:-3]  # well inside
    assert abs(float(np.mean(dented.flux[0, gap] / whole.flux[0, gap])) - 1) < 0.3 * abs(plain - 1)


def test_a_region_of_a_bin_is_the_bin(folder: Path, checkpoint: Path) -> None:
    fitter = refitter(folder, "BINNED", checkpoint)
    maps, bins = fitter.maps.load(), fitter.maps.galprote.bins.load()
    checked = 0
    for number in bins["bin"].values[:5]:
        y, x = np.nonzero(maps["bin_id"].values == number)
        found, values = fitter.region(y, x), bins.sel(bin=bins["bin"] == number).isel(bin=0)
        if int(values["status"]) & int(NOT_FITTED):
            continue
        checked += 1
        assert float(found.snr[0]) == pytest.approx(float(values["snr"]), rel=1e-3)
        for field, product in (("log_age", "age_lw"), ("metallicity", "metallicity_lw"), ("av", "av")):
            assert float(getattr(found.populations, field)[0]) == pytest.approx(float(values[product]), abs=2e-3)
        residual = values["residual"].values
        np.testing.assert_allclose((found.flux - found.model)[0], residual, atol=2.0, equal_nan=True)  # of 1000
    assert checked > 2


def test_slabs_are_read_once_each(folder: Path) -> None:
    cube = open_cube(folder / "cube.fits", redshift=surveys.REDSHIFT, rows=5)
    y, x = np.array([11, 0, 3, 4, 0]), np.array([1, 7, 2, 2, 0])
    found = {tuple(mine.tolist()): flux for mine, flux, _ in read_slabs(cube, y, x)}
    assert sorted(found) == [(0,), (1, 2, 3, 4)]
    whole = cube["flux"].values
    for mine, flux in found.items():
        np.testing.assert_array_equal(flux, whole[:, y[list(mine)], x[list(mine)]])


def test_other_cubes_weights_and_places_are_refused(folder: Path, tmp_path: Path, checkpoint: Path) -> None:
    store = folder / "out" / "PLAIN.zarr"
    for shape in ((10, 8), SHAPE):
        path = surveys.write_cube(tmp_path / "other.fits", shape)
        with fits.open(path, mode="update") as hdus:
            hdus["DATA"].header["CRVAL1"] = 184.8  # of another field
        with pytest.raises(CubeError, match=r"not the cube that PLAIN was mapped from \(cube.fits, 12 x 8 spaxels"):
            Refitter(store, path, checkpoint)
    with pytest.raises(CubeError, match="does not cover"):
        Refitter(store, folder / "cut.fits", checkpoint)
    with pytest.raises(CubeError, match="no such file"):
        Refitter(store, tmp_path / "nothing.fits", checkpoint)
    with pytest.raises(CheckpointError, match="made with other weights"):
        Refitter(store, folder / "cube.fits", default_checkpoint())
    fitter = refitter(folder, "PLAIN", checkpoint)
    for y, x, words in (
        ([12], [0], "no row 12: the cube has 12"), ([0], [-1], "no column -1"), ([], [], "one or more"),
        ([1, 2], [1], "a row and a column for each"), ([1.5], [1], "whole numbers"),
    ):  # fmt: skip
        with pytest.raises(CubeError, match=words):
            fitter.spaxels(np.array(y), np.array(x))
        with pytest.raises(CubeError, match=words):
            fitter.region(np.array(y), np.array(x))


def test_precision_is_that_of_the_run_and_versions_are_told(folder: Path, tmp_path: Path, checkpoint: Path) -> None:
    store = tmp_path / "PLAIN.zarr"
    shutil.copytree(folder / "out" / "PLAIN.zarr", store)
    rewrite(store, precision="bfloat16", numeric_version=5)
    coarse = Refitter(store, folder / "cube.fits", checkpoint)
    fine = refitter(folder, "PLAIN", checkpoint)
    y, x = np.array([3, 4]), np.array([4, 4])
    found, wanted = coarse.spaxels(y, x).populations.log_age, fine.spaxels(y, x).populations.log_age
    assert (found != wanted).any()
    np.testing.assert_allclose(found, wanted, atol=0.2)
    assert "version 5" in coarse.note


def rewrite(store: Path, **record: Any) -> None:
    """Change a store's provenance."""
    content = json.loads((store / "zarr.json").read_text())
    known = json.loads(content["attributes"]["provenance"])
    content["attributes"]["provenance"] = json.dumps(known | record)
    (store / "zarr.json").write_text(json.dumps(content))


def test_maps_in_fits_are_enough(folder: Path, tmp_path: Path, checkpoint: Path) -> None:
    path = open_maps(folder / "out" / "MAPPED.zarr").galprote.to_fits(tmp_path / "MAPPED_MAPS.fits")
    y, x = np.array([3, 4]), np.array([4, 4])
    found = Refitter(path, folder / "cube.fits", checkpoint).spaxels(y, x)
    wanted = refitter(folder, "MAPPED", checkpoint).spaxels(y, x)
    np.testing.assert_array_equal(found.populations.log_age, wanted.populations.log_age)
