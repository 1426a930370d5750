"""The report's numbers: residuals, examples, profiles, and how numbers are written."""

import shutil
import tracemalloc
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import xarray as xr
import zarr

from galprote.model.grids import N_WAVELENGTH
from galprote.pipeline.quality import Status
from galprote.workflows.report.examples import choose
from galprote.workflows.report.galaxy_maps import GalaxyMaps
from galprote.workflows.report.map_picture import ticks
from galprote.workflows.report.radial import radial_profiles
from galprote.workflows.report.residual_spectrum import residual_spectrum
from galprote.workflows.report.words import duration_words, fixed_words, flux_words, number_words, utc_words
from tests import stores
from tests.report_surveys import SHAPE, change


@pytest.fixture
def store(reported: Path, tmp_path: Path) -> Path:
    """A copy of a galaxy's store."""
    return Path(shutil.copytree(reported.parent / "out" / "N1.zarr", tmp_path / "N1.zarr"))


def test_the_mean_residual_spectrum_is_that_of_the_cube(reported: Path) -> None:
    maps = GalaxyMaps(reported.parent / "out" / "N2.zarr")
    found = residual_spectrum(maps)
    assert found is not None
    assert (found.spectra, found.of, found.what) == (int(maps.good.sum()), int(maps.good.sum()), "spaxels")
    relative = maps.dataset.residual.values[:, maps.good] / maps.dataset.flux.values[maps.good]
    np.testing.assert_allclose(found.mean, np.nanmean(relative, axis=1), rtol=1e-5, atol=1e-7)
    low, high = np.nanpercentile(relative, (16, 84), axis=1, method="inverted_cdf")
    for mine, true in ((found.low, low), (found.high, high)):  # within a cell of the histogram
        assert np.all(np.abs(mine - true) < 0.03 * np.hypot(true, 0.005) + 1e-4)


def test_some_blocks_of_a_large_cube_are_read(store: Path) -> None:
    """Of many spectra a part, spread over the image, and no more than a block at a time."""
    group = zarr.open_group(store, mode="r+", use_consolidated=False)
    del group["residual"]
    array = group.create_array(
        "residual", shape=(N_WAVELENGTH, *SHAPE), chunks=(N_WAVELENGTH, 1, 5), dtype="float32", fill_value=np.nan,
        dimension_names=("wavelength", "y", "x"),
    )  # fmt: skip
    array[...] = 7.0
    array[500] = 3000.0  # a line of the gas
    change(store, status=0, flux=100.0)
    maps = GalaxyMaps(store)
    with mock.patch.object(zarr.Array, "__getitem__", autospec=True, side_effect=zarr.Array.__getitem__) as read:
        found = residual_spectrum(maps, most=30)
    sizes = [np.prod([part.stop - part.start for part in call.args[1][1:]]) for call in read.mock_calls
             if isinstance(call.args[1], tuple) and len(call.args[1]) == 3]  # fmt: skip
    assert sizes == 6 * [5]
    assert found is not None
    assert (found.spectra, found.of) == (30, SHAPE[0] * SHAPE[1])
    true = np.where(np.arange(N_WAVELENGTH) == 500, 30.0, 0.07)
    np.testing.assert_allclose(found.mean, true, rtol=1e-6)
    np.testing.assert_allclose(found.high, true, rtol=0.02)


def test_examples_are_the_ends_and_the_middle_of_the_scatter(store: Path) -> None:
    scatter = np.arange(SHAPE[0] * SHAPE[1], dtype=float).reshape(SHAPE) + 1
    snr = np.full(SHAPE, 30.0)
    snr[0] = 19.0  # too low: the smallest scatter does not count
    change(store, status=0, noise_scale=scatter, snr=snr)
    change_status(store, SHAPE[0] - 1, Status.UNLIKE_TRAINING)
    found = choose(GalaxyMaps(store))
    assert found is not None
    places = {example.title: (example.row, example.column) for example in found.chosen}
    assert places["Best fit"] == (1, 0)
    assert places["Worst fit"] == (SHAPE[0] - 2, SHAPE[1] - 1)
    assert places["Median fit"] == (1 + (SHAPE[0] - 2) // 2, 0)
    assert "S/N of at least 20" in found.rule


def test_a_bin_is_no_example_twice(tmp_path: Path) -> None:
    """The best bin has most of the spaxels, so the spaxel in the middle is its, too."""
    maps = stores.simple_maps((6, 10))
    maps["bin_id"] = np.where(np.arange(10) < 7, 1, 2)[None].repeat(6, axis=0).astype(np.int32)
    maps["noise_scale"], maps["snr"] = maps["bin_id"].astype(np.float32), np.full((6, 10), 30.0, np.float32)
    stores.write_store(tmp_path / "B.zarr", maps, bins={"bin": np.array([1, 2], dtype=np.int32)})
    found = choose(GalaxyMaps(tmp_path / "B.zarr"))
    assert found is not None
    assert [(example.title, example.bin) for example in found.chosen] == [("Best fit", 1), ("Worst fit", 2)]


def change_status(store: Path, row: int, bit: Status) -> None:
    group = zarr.open_group(store, mode="r+", use_consolidated=False)
    array = group["status"]
    assert isinstance(array, zarr.Array)
    array[row] = int(bit)


def test_profiles_are_medians_of_rings_around_the_brightest_spaxel(store: Path) -> None:
    y, x = np.indices(SHAPE)
    radius = np.hypot(y - 6, x - 4)
    change(store, status=0, flux=1000 * np.exp(-radius / 3), age_lw=9.5 - 0.1 * radius)
    maps = GalaxyMaps(store)
    (age, *_) = radial_profiles(maps)
    assert age.unit == "arcsec"
    known = np.isfinite(age.median)
    width = age.radius[1] - age.radius[0]
    # MUSE's spaxels are 0.2 arcsec wide.
    assert np.abs(age.median[known] - (9.5 - 0.1 * age.radius[known] / 0.2)).max() <= 0.1 * width / 0.2


def test_profiles_of_a_large_galaxy_need_the_memory_of_a_few_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    side = 1000
    place = np.arange(side, dtype=np.float32)
    radius = np.hypot(place[:, None] - 600, place - 400)
    noise = np.random.default_rng(2).random((side, side), dtype=np.float32)
    noise[::3] = np.nan
    maps = {"status": np.zeros((side, side), np.int32), "flux": np.exp(-radius / 50), "age_lw": noise, "av": radius}
    about = {"galaxy": "N1", "wcs_header": "", "provenance": "{}"}
    dataset = xr.Dataset({name: (("y", "x"), values) for name, values in maps.items()}, attrs=about)
    monkeypatch.setattr("galprote.workflows.report.galaxy_maps.open_maps", lambda store: dataset)
    galaxy = GalaxyMaps(Path("N1.zarr"))
    tracemalloc.start()
    try:
        age, av = radial_profiles(galaxy)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * noise.nbytes
    half = (age.radius[1] - age.radius[0]) / 2
    np.testing.assert_allclose(age.median, 0.5, atol=0.02)
    np.testing.assert_allclose(age.high - age.low, 0.68, atol=0.03)
    assert (np.abs(av.median - av.radius) < 0.5 * half).all()
    assert ((av.low > av.radius - half) & (av.high < av.radius + half)).all()


def test_numbers_in_words() -> None:
    assert [number_words(value) for value in (0, 0.0359, -1, 1234.5, 2.5e-7, 1e6, np.nan)] == [
        "0", "0.0359", "−1", "1,230", "2.5 × 10⁻⁷", "10⁶", "–",
    ]  # fmt: skip
    assert fixed_words(-0.254) == "−0.25"
    assert flux_words("10**-20 erg Angstrom-1 s-1 cm-2") == "10⁻²⁰ erg s⁻¹ cm⁻² Å⁻¹"
    assert flux_words("2.5e-20 W/m2/nm") == "2.5 × 10⁻²⁰ W m⁻² nm⁻¹"
    assert flux_words("counts $<b>") == "counts $<b>"
    assert [duration_words(value) for value in (None, 9.96, 125.0, 7260.0)] == ["–", "10.0 s", "2 min", "2 h 1 min"]
    assert utc_words(1796050671) == "2026-11-30 14:57:51 UTC"
    assert ticks((0, 1.5), log=False) == [0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
    assert ticks((8, 300), log=True) == [10, 20, 50, 100, 200]
    assert ticks((6.9, 44.2), log=True) == [7, 10, 20, 30]
    assert ticks((1, 1e4), log=True) == [1, 10, 100, 1000, 1e4]
