"""Bins and velocities of files, velocities that are measured, and covariances."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from numpy.typing import NDArray

from galprote.model.errors import ConfigError
from galprote.model.kinematics import C_KMS
from galprote.pipeline.kinematics_config import KinematicsConfig
from galprote.pipeline.quality import Status
from galprote.pipeline.velocity_map import read_velocities
from tests import cubes, surveys
from tests.binned_surveys import SHAPE, run, small

Array = NDArray[Any]


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corner without data, an empty row, a column of noise."""
    path = tmp_path_factory.mktemp("cube") / "cube.fits"
    return surveys.write_cube(path, SHAPE, empty_rows=slice(5, 6), faint=1)


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
