"""Bins: every valid spaxel is in exactly one, light is conserved, and what is asked for is reached."""

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

from galprote.model.errors import ConfigError, CubeError
from galprote.pipeline import binning
from galprote.pipeline.bin_numbers import read_bin_numbers
from galprote.pipeline.bin_sums import BinSums, mean_spectra, sum_block
from galprote.pipeline.binning import Bins, make_bins, noise_factor
from galprote.pipeline.binning_config import BinningConfig
from galprote.pipeline.covariance import HEIGHT, choose_slabs, measure_covariance

Array = NDArray[Any]
CHANNELS = 40


def disc(shape: tuple[int, int] = (40, 44), *, seed: int = 1) -> tuple[Array, Array, Array]:
    """Signal and noise per channel of a disc with a hole, and which spaxels may be used."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    radius = np.hypot(y - shape[0] / 2, x - shape[1] / 2)
    noise = np.random.default_rng(seed).uniform(4, 6, shape)
    return (200 * np.exp(-radius / 8) + 5).astype(np.float32), noise.astype(np.float32), radius > 2


def config(method: str = "square", **more: Any) -> BinningConfig:
    return BinningConfig.model_validate({"method": method, "covariance": 0.0} | more)


@pytest.fixture(scope="module")
def cube() -> tuple[Array, Array]:
    """Flux and variance (m, y, x) of the disc: gaps, bad variances, an empty corner."""
    signal, noise, _ = disc()
    rng = np.random.default_rng(2)
    shape = np.linspace(0.8, 1.2, CHANNELS)[:, None, None]
    variance = np.broadcast_to(noise**2, (CHANNELS, *signal.shape)).astype(np.float32)
    flux = (signal * shape + noise * rng.standard_normal(variance.shape)).astype(np.float32)
    return flux, variance.copy()


def spectra(bins: Bins, flux: Array, variance: Array, rows: int) -> tuple[Array, Array]:
    """Spectra of all bins from blocks of rows; sums go through the form in which they are kept."""
    sums = []
    for start in range(0, flux.shape[1], rows):
        part = slice(start, start + rows)
        found = sum_block(flux[:, part], variance[:, part], bins.index[part], bins.weight[part])
        sums.append(BinSums.unstacked(found.bins, found.light, found.stacked()))
    own = slice(0, len(bins))
    return mean_spectra(0, len(bins), sums, bins.part(own), len(flux))


# --- which spaxels are in a bin ---


@pytest.mark.parametrize("method", ["powerbin", "voronoi", "square"])
def test_every_valid_spaxel_is_in_exactly_one_bin(method: str) -> None:
    signal, noise, usable = disc()
    bins = make_bins(signal, noise, usable, config(method, target_snr=30, snr_min=2, size=3))
    valid = usable & (signal / noise >= 2)
    assert 0 < valid.sum() < usable.sum()
    np.testing.assert_array_equal(bins.index >= 0, valid)
    np.testing.assert_array_equal(np.bincount(bins.index[valid], minlength=len(bins)), bins.spaxels)
    assert bins.spaxels.min() >= 1
    for number in range(len(bins)):
        y, x = np.nonzero(bins.index == number)
        assert (bins.rows[number] == (y.min(), y.max())).all()
        assert y.min() <= bins.y[number] <= y.max()
        assert x.min() <= bins.x[number] <= x.max()
    assert (np.diff(np.round(bins.y)) >= 0).all(), "bins next to each other are read together"


@pytest.mark.parametrize("method", ["powerbin", "voronoi"])
@pytest.mark.parametrize("covariance", [0.0, 0.8])
def test_adaptive_bins_reach_the_target(method: str, covariance: float) -> None:
    signal, noise, usable = disc()
    bins = make_bins(signal, noise, usable, config(method, target_snr=40, snr_min=0), covariance)
    several = bins.spaxels > 1
    assert np.median(bins.snr[several]) == pytest.approx(40, rel=0.06)
    assert np.std(bins.snr[several]) < 6
    # What is told of a bin is what its spaxels give.
    number = int(np.argmax(bins.spaxels))
    mine = bins.index == number
    plain = signal[mine].sum() / np.sqrt((noise[mine] ** 2).sum())
    assert bins.snr[number] == pytest.approx(plain / (1 + covariance * np.log10(mine.sum())), rel=1e-5)


def test_correlated_noise_wants_larger_bins() -> None:
    signal, noise, usable = disc()
    made = [make_bins(signal, noise, usable, config("powerbin", target_snr=40), a) for a in (0.0, 1.0)]
    assert len(made[1]) < 0.7 * len(made[0])


@pytest.mark.parametrize("method", ["powerbin", "voronoi"])
def test_where_nothing_is_to_be_done_spaxels_stay_alone(method: str) -> None:
    signal, noise, usable = disc()
    bins = make_bins(1000 * signal, noise, usable, config(method, target_snr=20))
    assert len(bins) == usable.sum()


@pytest.mark.parametrize("method", ["powerbin", "voronoi"])
def test_where_all_is_too_faint_there_is_one_bin(method: str) -> None:
    signal, noise, usable = disc()
    bins = make_bins(signal, noise, usable, config(method, target_snr=9000, snr_min=0))
    assert len(bins) == 1
    assert bins.snr[0] < 9000


def test_the_same_bins_every_time() -> None:
    signal, noise, usable = disc()
    first, second = (make_bins(signal, noise, usable, config("powerbin", target_snr=30)) for _ in range(2))
    np.testing.assert_array_equal(first.index, second.index)


def test_nothing_to_bin() -> None:
    signal, noise, usable = disc()
    with pytest.raises(CubeError, match=r"no spaxel reaches .* lower binning\.snr_min"):
        make_bins(signal, noise, usable, config(snr_min=1e6))
    with pytest.raises(CubeError, match=r"no spaxel with data has a bin in bins\.fits"):
        make_bins(signal, noise, usable, config("file", file="bins.fits"), given=np.full(signal.shape, -1, np.int32))


def test_a_missing_package_is_told() -> None:
    signal, noise, usable = disc()
    with (
        mock.patch.object(binning.importlib, "import_module", side_effect=ImportError("No module named 'powerbin'")),
        pytest.raises(ConfigError, match=r"powerbin, which is not installed .* pip install 'galprote\[binning\]'"),
    ):
        make_bins(signal, noise, usable, config("powerbin"))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"method": "file"}, "needs the key file"),
        ({"method": "square", "file": "x.fits"}, "do not take it"),
        ({"snr_window": [5500, 5300]}, "increasing|two rest-frame"),
        ({"snr_window": [4000, 5000]}, "between 4750 and 7100"),
        ({"covariance": -1}, "greater than or equal"),
        ({"covariance": "guess"}, "measure"),
    ],
)
def test_wrong_settings(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        BinningConfig.model_validate(wrong)


# --- their spectra ---


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 45), size=st.integers(1, 9))
def test_flux_is_conserved_bin_by_bin_however_the_cube_is_cut(cube: tuple[Array, Array], rows: int, size: int) -> None:
    flux, variance = cube
    signal, noise, usable = disc()
    bins = make_bins(signal, noise, usable, config(size=size))
    mean, squared = spectra(bins, flux, variance, rows)
    for values, found, power in ((flux, mean, 1), (variance, squared, 2)):
        wanted = np.stack([np.bincount(bins.index[usable], plane[usable].astype(float)) for plane in values])
        np.testing.assert_allclose(found * bins.spaxels.astype(float) ** power, wanted, rtol=3e-6)


def test_binning_a_constant_spectrum_changes_nothing_but_the_noise() -> None:
    signal, _, usable = disc()
    spectrum = np.linspace(90, 110, CHANNELS)
    flux = np.broadcast_to(spectrum[:, None, None], (CHANNELS, *signal.shape)).astype(np.float32)
    variance = np.full_like(flux, 16.0)
    bins = make_bins(np.full_like(signal, 100), np.full_like(signal, 4), usable, config(size=5), covariance=0.5)
    mean, squared = spectra(bins, flux, variance, 7)
    np.testing.assert_allclose(mean, np.broadcast_to(spectrum[:, None], mean.shape), rtol=1e-6)
    factor = 1 + 0.5 * np.log10(bins.spaxels)
    np.testing.assert_allclose(squared, np.broadcast_to(16 / bins.spaxels * factor**2, squared.shape), rtol=1e-5)
    assert (bins.spaxels > 1).any()


def test_a_gap_in_a_bright_spaxel_leaves_no_dent(cube: tuple[Array, Array]) -> None:
    """Spaxels of one spectral shape and different brightness: what is left keeps the shape."""
    signal, noise, usable = disc()
    shape = np.linspace(0.8, 1.2, CHANNELS)[:, None, None]
    flux, variance = (signal * shape).astype(np.float32), np.broadcast_to(noise**2, (CHANNELS, *signal.shape)).copy()
    bins = make_bins(signal, noise, usable, config(size=4))
    whole, _ = spectra(bins, flux, variance.astype(np.float32), 8)
    bright = np.unravel_index(np.argmax(np.where(usable, signal, 0)), signal.shape)
    number = bins.index[bright]
    flux[10:14, *bright] = np.nan
    variance[20:22, *bright] = -1.0
    flux[30], flux[31, : signal.shape[0] // 2] = np.nan, 1e30
    gappy, squared = spectra(bins, flux, variance.astype(np.float32), 8)
    np.testing.assert_allclose(np.delete(gappy[:, number], [30, 31]), np.delete(whole[:, number], [30, 31]), rtol=1e-5)
    assert np.isnan(gappy[30]).all()
    assert np.isnan(squared[30]).all(), "nothing is left of this channel"
    assert np.isfinite(squared[10:14, number]).all()
    assert (squared[10:14, number] > 1.01 * squared[9, number]).all(), "fewer spaxels, more noise"


def test_a_lost_block_counts_as_a_gap(cube: tuple[Array, Array]) -> None:
    flux, variance = cube
    signal, noise, usable = disc()
    bins = make_bins(signal, noise, usable, config(size=8))
    blocks = [sum_block(flux[:, part], variance[:, part], bins.index[part], bins.weight[part])
              for part in (slice(0, 20), slice(20, 40))]  # fmt: skip
    mean, _ = mean_spectra(0, len(bins), blocks[:1], bins.part(slice(0, len(bins))), CHANNELS)
    inside, outside = bins.rows[:, 1] < 20, bins.rows[:, 0] >= 20
    assert np.isfinite(mean[:, inside]).all()
    assert np.isnan(mean[:, outside]).all()
    assert (~inside & ~outside).any()


def test_painting_is_the_way_back() -> None:
    signal, noise, usable = disc()
    bins = make_bins(signal, noise, usable, config(size=3))
    image = bins.paint(np.arange(len(bins), dtype=np.float32))
    np.testing.assert_array_equal(np.isnan(image), bins.index < 0)
    np.testing.assert_array_equal(image[bins.index >= 0], bins.index[bins.index >= 0])
    assert bins.paint(np.ones(len(bins), dtype=np.int32))[bins.index < 0].max() == 0


# --- covariance ---


def shared_noise(correlated: float, seed: int = 4) -> list[Array]:
    """Noise (m, rows, nx) of unit scatter that neighbours share: smoothed over the image."""
    rng, made = np.random.default_rng(seed), []
    for _ in range(4):
        noise = rng.standard_normal((240, HEIGHT + 16, 166))
        noise = gaussian_filter(noise, (0, correlated, correlated)) if correlated else noise
        made.append(noise[:, 8:-8, 8:-8] / noise.std())
    return made


def slabs(noises: list[Array], *, scale: float = 1.0) -> list[tuple[Array, Array, Array, Array]]:
    """Slabs of a smooth galaxy with lines under such noise; the variances may be wrong by a factor."""
    made = []
    for noise in noises:
        light = np.linspace(2, 6, noise.shape[2])[None, :] * np.ones((HEIGHT, 1))
        lines = 1 + 0.1 * np.sin(np.arange(len(noise)) / 7)[:, None, None]
        variance = np.full(noise.shape, 1 / scale**2, dtype=np.float32)
        made.append(((light * lines + noise).astype(np.float32), variance, light, np.ones_like(light)))
    return made


def test_independent_noise_has_no_covariance() -> None:
    found = measure_covariance(slabs(shared_noise(0.0)))
    assert found.a < 0.05
    assert found.note == ""


def test_correlated_noise_is_found_whatever_the_variances_scale() -> None:
    """Against the noise of boxes that is known because it is made here."""
    noises = shared_noise(0.7)
    found = measure_covariance(slabs(noises))
    sides, scatter = [round(np.sqrt(count)) for count in found.spaxels], []
    for side in sides:
        lefts = range(0, noises[0].shape[2] - side, side)
        scatter.append(np.std([[part[:, :side, x : x + side].sum(axis=(1, 2)) for x in lefts] for part in noises]))
    true = np.array(scatter) / scatter[0] / sides
    np.testing.assert_allclose(found.excess, true, rtol=0.1)
    assert found.a > 0.4
    np.testing.assert_allclose(1 + found.a * np.log10(found.spaxels), true, rtol=0.25)
    rescaled = measure_covariance(slabs(noises, scale=3.0))
    assert rescaled.a == pytest.approx(found.a, rel=0.02)


def test_too_little_to_measure_is_told() -> None:
    found = measure_covariance([tuple(part[..., :20] for part in slab) for slab in slabs(shared_noise(0.0))[:1]])  # type: ignore[misc]
    assert found.a == 0
    assert "too few spaxels" in found.note


def test_slabs_are_where_spaxels_are() -> None:
    usable = np.zeros((120, 30), dtype=bool)
    usable[50:90] = True
    chosen = choose_slabs(usable)
    assert all(48 <= row < 90 and row % HEIGHT == 0 for row in chosen)
    assert choose_slabs(np.zeros((20, 5), dtype=bool)) == []


def test_noise_factor() -> None:
    np.testing.assert_allclose(noise_factor(np.array([1, 10, 100]), 0.3), [1.0, 1.3, 1.6])


# --- numbers from files ---


def write_numbers(path: Path, values: Array, name: str = "BIN_ID") -> Path:
    first = fits.ImageHDU(np.ones(values.shape, dtype=np.float32), name="FLUX")
    fits.HDUList([fits.PrimaryHDU(), first, fits.ImageHDU(values, name=name)]).writeto(path)
    return path


def test_numbers_of_a_file_keep_their_names(tmp_path: Path) -> None:
    """As PHANGS has them: -1 is no bin, and the image is named."""
    signal, noise, usable = disc()
    given = np.where(signal > 40, 7, 3).astype(np.int32)
    given[:5] = -1
    path = write_numbers(tmp_path / "x_MAPS.fits", given)
    found = read_bin_numbers(str(path), signal.shape)
    np.testing.assert_array_equal(found, given)
    bins = make_bins(signal, noise, usable, config("file", file=str(path)), given=found)
    assert sorted(bins.ids) == [3, 7]
    for number, name in enumerate(bins.ids):
        np.testing.assert_array_equal(bins.index == number, (given == name) & usable)


def test_a_background_of_zero_is_left_out() -> None:
    signal, noise, usable = disc()
    given = np.where(signal > 40, 1, 0).astype(np.int32)
    bins = make_bins(signal, noise, usable, config("file", file="x.fits", first_id=1), given=given)
    assert list(bins.ids) == [1]
    np.testing.assert_array_equal(bins.index >= 0, (given == 1) & usable)


def test_images_that_are_no_numbers(tmp_path: Path) -> None:
    write_numbers(tmp_path / "half.fits", np.full((4, 5), 1.5, dtype=np.float32))
    with pytest.raises(ConfigError, match=r"half\.fits: the image has values that are no whole numbers"):
        read_bin_numbers(str(tmp_path / "half.fits"), (4, 5))
    with pytest.raises(ConfigError, match=r"shape 4 x 5 .* the cube has 4 x 6"):
        read_bin_numbers(str(tmp_path / "half.fits"), (4, 6))
    with pytest.raises(ConfigError, match=r"no such file"):
        read_bin_numbers(str(tmp_path / "none.fits"), (4, 6))


def write_table(path: Path, numbers: Array, data: Array, *, origin: tuple[float, float], size: float = 0.2) -> Path:
    """A table as nGIST writes it: a row for each spaxel with data, places in arcsec from an origin."""
    y, x = np.nonzero(data)
    columns = {"ID": np.arange(len(y)), "BIN_ID": numbers[y, x]}
    places = {"X": (x - origin[1]) * size, "Y": (y - origin[0]) * size}
    made = [fits.Column(name, "J", array=values) for name, values in columns.items()]
    made += [fits.Column(name, "D", array=values) for name, values in places.items()]
    table = fits.BinTableHDU.from_columns(made, name="TABLE")
    table.header["PIXSIZE"] = size
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    return path


def test_a_table_of_ngist_finds_its_place(tmp_path: Path) -> None:
    signal, _, usable = disc()
    data = usable & (signal > 12)
    data[:, :6] = False
    numbers = np.where(signal > 40, 2, -1).astype(np.int32)
    path = write_table(tmp_path / "x_table.fits", numbers, data, origin=(20.0, 31.0))
    found = read_bin_numbers(str(path), signal.shape, data)
    np.testing.assert_array_equal(found, np.where(data, numbers, -1))
    assert read_bin_numbers(str(path), signal.shape).shape == signal.shape  # only looked at
    with pytest.raises(ConfigError, match=r"fit onto those with data at .* places"):
        read_bin_numbers(str(path), signal.shape, np.ones(signal.shape, dtype=bool))
    with pytest.raises(ConfigError, match="the table covers"):
        read_bin_numbers(str(path), (10, 10))
