"""The mock cube: its physics is what its configuration says, and the truth is the truth of that very cube."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.interpolate import CubicSpline

from galprote.model.decoder import FINE_EDGES
from galprote.model.errors import CubeError
from galprote.model.extinction import extinction_curve
from galprote.model.grids import EDGES, KEPT, WAVELENGTH
from galprote.pipeline.mock import LINE_EXTENSIONS, MockConfig, make_mock, truth_path
from galprote.pipeline.mock_galaxy import SPEED_OF_LIGHT_KMS, make_galaxy
from galprote.pipeline.mock_spectra import EMISSION_LINES, population_grid
from galprote.pipeline.readers import open_cube
from galprote.pipeline.truth import QUANTITIES, compare_with_truth
from tests.libraries import synthetic_decoder

SHAPE = (20, 24)
#: Nothing but stars: what is left can be compared with the decoder.
QUIET: dict[str, Any] = {
    "shape": SHAPE, "noise": False, "emission": False, "sky_residuals": False, "ebv": 0.0, "bad_variance_fraction": 0.0,
}  # fmt: skip


@dataclass
class Mock:
    """A mock read back: DATA and STAT (wavelength, y, x) float64, truth maps by extension."""

    path: Path
    config: MockConfig
    data: NDArray[np.float64]
    stat: NDArray[np.float64]
    truth: dict[str, NDArray[np.float64]]

    @property
    def inside(self) -> NDArray[np.bool_]:
        return np.isfinite(self.truth["FLUX"])


def mock(path: Path, **changes: Any) -> Mock:
    config = MockConfig(**(QUIET | changes))
    make_mock(config, path, synthetic_decoder())
    with fits.open(path) as cube, fits.open(truth_path(path)) as truth:
        maps = {hdu.name: hdu.data.astype(np.float64) for hdu in truth[1:]}
        return Mock(path, config, cube["DATA"].data.astype(float), cube["STAT"].data.astype(float), maps)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mock")


@pytest.fixture(scope="module")
def stars(folder: Path) -> Mock:
    """Stars only: no noise, gas, sky or foreground dust."""
    return mock(folder / "stars.fits")


@pytest.fixture(scope="module")
def gas(folder: Path, stars: Mock) -> NDArray[np.float64]:
    """The emission lines alone (wavelength, y, x)."""
    return mock(folder / "gas.fits", emission=True).data - stars.data


@pytest.fixture(scope="module")
def real(folder: Path) -> Mock:
    """Everything switched on."""
    switched = {"noise": True, "emission": True, "sky_residuals": True, "ao_notch": True, "ebv": 0.03}
    return mock(folder / "real.fits", **switched, bad_variance_fraction=0.002)


def shifts(mock: Mock) -> NDArray[np.float64]:
    return (1 + mock.config.redshift) * (1 + mock.truth["V_STARS"] / SPEED_OF_LIGHT_KMS)


def line_flux(gas: NDArray[np.float64], mock: Mock, name: str, half_width: float = 6.5) -> NDArray[np.float64]:
    """Flux within some Angstrom of a line, (y, x)."""
    near = np.abs(mock.config.wavelength[:, None, None] / shifts(mock) - EMISSION_LINES[name]) < half_width
    return np.asarray(np.where(near, gas, 0).sum(axis=0) * 1.25)


# --- stars ---


def test_stars_come_back_to_the_decoder_s_spectra(stars: Mock) -> None:
    galaxy, decoder = make_galaxy(stars.config), synthetic_decoder()
    edges = np.append(stars.config.wavelength - 0.625, stars.config.wavelength[-1] + 0.625)
    for y in (2, 10, 17):
        columns = np.flatnonzero(stars.inside[y])
        grid = torch.from_numpy(population_grid(galaxy, y, columns, decoder))
        fine = decoder.fine_spectra(grid, torch.from_numpy(stars.truth["AV_STARS"][y, columns]).float())
        expected = fine[:, 80:-80].reshape(len(columns), 948, 4).mean(dim=2).numpy()
        for k, x in enumerate(columns):
            # An independent way back: a spline through the cumulative flux, read at the model's own edges.
            cumulative = np.concatenate([[0.0], np.cumsum(stars.data[:, y, x]) * 1.25])
            rest = np.diff(CubicSpline(edges / shifts(stars)[y, x], cumulative)(EDGES)) / np.diff(EDGES)
            rest /= shifts(stars)[y, x] * stars.truth["FLUX"][y, x]
            assert np.sqrt(np.mean((rest / expected[k] - 1) ** 2)) < 5e-4
            assert np.abs(rest / expected[k] - 1).max() < 0.004


def test_flux_is_conserved_by_the_channels(stars: Mock) -> None:
    galaxy, decoder = make_galaxy(stars.config), synthetic_decoder()
    columns = np.flatnonzero(stars.inside[9])
    grid = torch.from_numpy(population_grid(galaxy, 9, columns, decoder))
    fine = decoder.fine_spectra(grid, torch.from_numpy(galaxy.av[9, columns]).float()).numpy().astype(float)
    for k, x in enumerate(columns):
        shift, first, last = shifts(stars)[9, x], 200, 1700
        edges = (4700 + 1.25 * np.array([first, last]) - 0.625) / shift
        cumulative = CubicSpline(FINE_EDGES, np.concatenate([[0.0], np.cumsum(fine[k] * np.diff(FINE_EDGES))]))
        expected = (cumulative(edges[1]) - cumulative(edges[0])) * shift * stars.truth["FLUX"][9, x]
        assert stars.data[first:last, 9, x].sum() * 1.25 == pytest.approx(expected, rel=1e-5)


def test_truth_flux_is_the_median_in_the_window(stars: Mock) -> None:
    for y, x in ((10, 12), (5, 8), (14, 15)):
        rest = np.interp(WAVELENGTH * shifts(stars)[y, x], stars.config.wavelength, stars.data[:, y, x])
        assert np.median(rest[KEPT]) == pytest.approx(stars.truth["FLUX"][y, x], rel=0.005)


def test_truth_is_the_light_weighted_mean_of_smooth_populations(stars: Mock) -> None:
    galaxy, decoder = make_galaxy(stars.config), synthetic_decoder()
    columns = np.flatnonzero(stars.inside[8])
    grid = population_grid(galaxy, 8, columns, decoder)
    np.testing.assert_allclose(grid.sum(axis=(1, 2)), 1, atol=1e-5)
    log_age = (grid * decoder.log_ages).sum(axis=(1, 2))
    metallicity = (grid * decoder.metallicities[:, None]).sum(axis=(1, 2))
    np.testing.assert_allclose(stars.truth["AGE_LW"][8, columns], log_age, atol=2e-5)
    np.testing.assert_allclose(stars.truth["Z_LW"][8, columns], metallicity, atol=2e-5)
    # Several populations in every spaxel, none of them a spike.
    assert ((grid > 0.1 * grid.max(axis=(1, 2), keepdims=True)).sum(axis=(1, 2)) >= 8).all()


def test_stars_continue_smoothly_beyond_the_templates(folder: Path) -> None:
    wide = mock(folder / "wide.fits", shape=(8, 8), wavelength_last_A=9350.0, redshift=0.05)
    inside = wide.data[:, wide.inside]
    assert np.isfinite(inside).all()
    assert inside.min() > 0
    for seam in (FINE_EDGES[0] * 1.05, FINE_EDGES[-1] * 1.05):
        channel = int((seam - 4700) / 1.25)
        near = inside[channel - 8 : channel + 8]
        assert (np.abs(np.diff(near, axis=0)) < 0.03 * near[:-1]).all()
    beyond = inside[wide.config.wavelength > FINE_EDGES[-1] * 1.05 + 120]
    assert (np.abs(np.diff(beyond, n=2, axis=0)) < 1e-4 * beyond[1:-1]).all()


def test_foreground_dust_reddens_at_observed_wavelengths(folder: Path, stars: Mock) -> None:
    dusty = mock(folder / "dusty.fits", ebv=0.3)
    ratio = dusty.data[:, stars.inside] / stars.data[:, stars.inside]
    expected = 10 ** (-0.4 * 0.3 * 3.1 * extinction_curve(stars.config.wavelength))
    np.testing.assert_allclose(ratio, np.broadcast_to(expected[:, None], ratio.shape), rtol=1e-5)
    np.testing.assert_array_equal(dusty.truth["FLUX"], stars.truth["FLUX"])
    assert (dusty.truth["SNR"] < stars.truth["SNR"])[stars.inside].all()


# --- gas ---


def test_halpha_follows_the_rotation(gas: NDArray[np.float64], stars: Mock) -> None:
    wavelength = stars.config.wavelength[:, None, None]
    near = np.abs(wavelength / shifts(stars) - EMISSION_LINES["Halpha"]) < 6.5
    weight = np.where(near, gas, 0)
    centroid = (weight * wavelength).sum(axis=0)[stars.inside] / weight.sum(axis=0)[stars.inside]
    velocity = (centroid / EMISSION_LINES["Halpha"] / (1 + stars.config.redshift) - 1) * SPEED_OF_LIGHT_KMS
    assert np.abs(velocity - stars.truth["V_STARS"][stars.inside]).max() < 3
    assert np.ptp(velocity) == pytest.approx(2 * stars.config.rotation_kms, rel=0.05)


def test_emission_fluxes_come_back(gas: NDArray[np.float64], stars: Mock) -> None:
    inside = stars.inside
    galaxy = make_galaxy(stars.config)
    fluxes = {name: line_flux(gas, stars, name)[inside] for name in EMISSION_LINES}
    rest = stars.config.wavelength[:, None, None] / shifts(stars)
    beside = (np.abs(rest - 6562.8) > 35) & (np.abs(rest - 6562.8) < 75)
    continuum = np.where(beside, stars.data, 0).sum(axis=0)[inside] / beside.sum(axis=0)[inside]
    width = fluxes["Halpha"] / (continuum * shifts(stars)[inside])
    np.testing.assert_allclose(width, galaxy.halpha_ew[inside], rtol=0.01)
    for above, below, ratio in (
        ("Halpha", "Hbeta", 2.86), ("[OIII]5007", "[OIII]4959", 2.98), ("[NII]6583", "[NII]6548", 3.0)
    ):  # fmt: skip
        red, blue = extinction_curve(np.array([EMISSION_LINES[above], EMISSION_LINES[below]]))
        expected = ratio * 10 ** (0.4 * 2 * stars.truth["AV_STARS"][inside] * (blue - red))
        np.testing.assert_allclose(fluxes[above] / fluxes[below], expected, rtol=0.005)
    total = sum(fluxes.values())
    np.testing.assert_allclose(gas[:, inside].sum(axis=0) * 1.25, total, rtol=0.002)


def test_truth_has_the_lines_fluxes_behind_all_dust(folder: Path, gas: NDArray[np.float64], stars: Mock) -> None:
    inside = stars.inside
    assert list(LINE_EXTENSIONS) == list(EMISSION_LINES)
    for line, name in LINE_EXTENSIONS.items():
        assert int("".join(filter(str.isdigit, name))) == int(EMISSION_LINES[line])  # PHANGS cuts the decimals off
        np.testing.assert_array_equal(stars.truth[name][inside], 0)  # the configuration has no gas
    dusty = {switch: mock(folder / f"dusty_{switch}.fits", emission=switch, ebv=0.3) for switch in (False, True)}
    behind = dusty[True].data - dusty[False].data
    bright = mock(folder / "bright.fits", emission=True)
    for line, name in LINE_EXTENSIONS.items():
        for seen, truth in ((gas, bright.truth[name]), (behind, dusty[True].truth[name])):
            np.testing.assert_allclose(line_flux(seen, stars, line)[inside], truth[inside], rtol=0.002)
        centre = EMISSION_LINES[line] * shifts(stars)[inside]
        dimmed = dusty[True].truth[name][inside] / bright.truth[name][inside]
        np.testing.assert_allclose(dimmed, 10 ** (-0.4 * 0.3 * 3.1 * extinction_curve(centre)), rtol=1e-4)


def test_arms_are_young_and_full_of_gas() -> None:
    galaxy = make_galaxy(MockConfig())
    inside = galaxy.inside
    young = galaxy.young_fraction > np.quantile(galaxy.young_fraction[inside], 0.9)
    assert galaxy.halpha_ew[young & inside].mean() > 4 * galaxy.halpha_ew[~young & inside].mean()
    assert 1 < np.quantile(galaxy.halpha_ew[inside], 0.02) < 4
    assert 60 < galaxy.halpha_ew[inside].max() <= 100
    assert 0 <= galaxy.av[inside].min() < 0.1
    assert 0.9 < galaxy.av[inside].max() <= 1.3


# --- noise ---


def test_stat_is_the_variance_of_the_noise(folder: Path, stars: Mock) -> None:
    noisy = mock(folder / "noisy.fits", noise=True)
    inside = stars.inside
    chi = (noisy.data - stars.data)[:, inside] / np.sqrt(noisy.stat[:, inside])
    n = chi.size
    assert abs(np.mean(chi**2) - 1) < 4 * np.sqrt(2 / n)
    assert abs(np.mean(chi)) < 4 / np.sqrt(n)
    # In every channel, the bright sky lines among them, and in every spaxel.
    assert (np.abs(np.mean(chi**2, axis=1) - 1) < 5.5 * np.sqrt(2 / chi.shape[1])).all()
    assert (np.abs(np.mean(chi**2, axis=0) - 1) < 5.5 * np.sqrt(2 / chi.shape[0])).all()
    # White: neighbours along each axis are independent.
    assert abs(np.mean(chi[1:] * chi[:-1])) < 4 / np.sqrt(n)
    assert abs(np.mean(chi[:, 1:] * chi[:, :-1])) < 4 / np.sqrt(n)
    np.testing.assert_array_equal(noisy.stat, stars.stat)


def test_signal_to_noise_is_as_configured(stars: Mock) -> None:
    y, x = np.unravel_index(np.nanargmax(stars.truth["FLUX"]), SHAPE)
    per_channel = stars.data[:, y, x] / np.sqrt(stars.stat[:, y, x])
    assert np.median(per_channel) == pytest.approx(stars.config.peak_snr, rel=0.03)
    wide = mock(stars.path.with_name("sn.fits"), shape=(28, 28))
    per_channel = np.median(wide.data / np.sqrt(wide.stat), axis=0)
    assert 3 < np.nanquantile(per_channel, 0.02) < 7
    per_sample = per_channel * np.sqrt(2.4827 * (1 + wide.config.redshift) / 1.25)
    np.testing.assert_allclose(wide.truth["SNR"][wide.inside], per_sample[wide.inside], rtol=0.03)


def test_sky_residuals_are_coherent_and_beyond_the_noise(folder: Path, stars: Mock) -> None:
    residual = mock(folder / "sky.fits", sky_residuals=True)
    residual.data -= stars.data
    slices = make_galaxy(residual.config).sky_slice
    line = int(np.argmin(np.abs(residual.config.wavelength - 5577.34)))
    at_line = residual.data[line - 2 : line + 3]
    assert np.isfinite(at_line[:, residual.inside]).all()
    for one in np.unique(slices[residual.inside]):
        same = at_line[:, residual.inside & (slices == one)]
        assert np.ptp(same, axis=1).max() < 1e-2  # the same spectrum, but for DATA's rounding
    ratio = np.abs(at_line).max(axis=0) / np.sqrt(residual.stat[line])
    assert 1 < np.nanmean(ratio) < 10
    far = np.abs(residual.config.wavelength - 5400) < 50
    assert np.nanmax(np.abs(residual.data[far])) < 1e-2


def test_bad_variance_lies_under_finite_data(real: Mock) -> None:
    kept = np.isfinite(real.data)
    bad = kept & ~(real.stat > 0)
    assert bad.sum() == pytest.approx(real.config.bad_variance_fraction * kept.sum(), rel=0.25)
    for kind in (np.isnan(real.stat), real.stat == 0, real.stat < 0):
        assert (bad & kind).any()
    assert (bad[1:] & bad[:-1]).sum() > 0.4 * bad.sum()  # runs, not single voxels


# --- footprint, gaps, files ---


def test_corners_and_notch_are_empty_and_nothing_else(real: Mock) -> None:
    wavelength = real.config.wavelength
    notch = (wavelength >= 5806.25) & (wavelength <= 5963.75)
    assert notch.sum() == 127
    expected = ~notch[:, None, None] & real.inside
    np.testing.assert_array_equal(np.isfinite(real.data), expected)
    assert np.isnan(real.stat[~expected]).all()
    assert not any(real.inside[y, x] for y in (0, -1) for x in (0, -1))
    assert 0.5 < real.inside.mean() < 0.8
    for values in real.truth.values():
        np.testing.assert_array_equal(np.isfinite(values), real.inside)


def test_corners_can_be_filled(folder: Path) -> None:
    full = mock(folder / "full.fits", shape=(6, 9), empty_corners=False)
    assert np.isfinite(full.data).all()
    assert all(np.isfinite(values).all() for values in full.truth.values())


@pytest.mark.parametrize("slab_rows", [1, 7, 20])
def test_bytes_do_not_depend_on_the_slabs(real: Mock, tmp_path: Path, slab_rows: int) -> None:
    other = make_mock(real.config, tmp_path / "real.fits", synthetic_decoder(), slab_rows=slab_rows)
    assert other.read_bytes() == real.path.read_bytes()
    assert truth_path(other).read_bytes() == truth_path(real.path).read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["real.fits", "real_TRUTH.fits"]


def test_seed_changes_the_noise(real: Mock, tmp_path: Path) -> None:
    config = real.config.model_copy(update={"seed": real.config.seed + 1})
    other = make_mock(config, tmp_path / "real.fits", synthetic_decoder())
    assert other.read_bytes() != real.path.read_bytes()


def test_files_are_valid_fits(real: Mock) -> None:
    for path in (real.path, truth_path(real.path)):
        with fits.open(path) as hdus:
            hdus.verify("exception")
            assert hdus[0].data is None
            assert hdus[0].header["REDSHIFT"] == real.config.redshift
            assert path.stat().st_size % 2880 == 0
    with fits.open(real.path) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "DATA", "STAT"]
        for hdu in hdus[1:]:
            assert hdu.header["BITPIX"] == -32
            assert (hdu.header["CTYPE3"], hdu.header["CUNIT3"]) == ("AWAV", "Angstrom")
        assert hdus["DATA"].header["BUNIT"] == "10**(-20)*erg/s/cm**2/Angstrom"
        assert hdus["STAT"].header["BUNIT"] == "(10**(-20)*erg/s/cm**2/Angstrom)**2"
        sky = WCS(hdus["DATA"].header).celestial
    with fits.open(truth_path(real.path)) as hdus:
        for hdu in hdus[1:]:
            u.Unit(hdu.header["BUNIT"], format="fits" if "FLUX" in hdu.name else None)
            for x, y in ((0, 0), (23, 19)):
                assert WCS(hdu.header).pixel_to_world(x, y).separation(sky.pixel_to_world(x, y)) < 1e-6 * u.arcsec


def test_spectral_cube_and_the_reader_open_it(real: Mock) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # spectral-cube's own, already when it is imported
        from spectral_cube import SpectralCube

        cube = SpectralCube.read(real.path, hdu=1)
        axis = cube.spectral_axis.to_value(u.AA)
        spectrum = cube[:, 10, 12].value
    np.testing.assert_allclose(axis, real.config.wavelength, atol=1e-6)
    np.testing.assert_array_equal(spectrum, real.data[:, 10, 12])
    opened = open_cube(real.path, redshift=real.config.redshift)
    channels = np.searchsorted(real.config.wavelength + 0.1, opened["wavelength"].to_numpy())
    np.testing.assert_allclose(opened["wavelength"].to_numpy(), real.config.wavelength[channels], atol=1e-6)
    np.testing.assert_array_equal(opened["flux"].to_numpy(), real.data[channels].astype(np.float32))
    np.testing.assert_array_equal(opened["variance"].to_numpy(), real.stat[channels].astype(np.float32))


def test_interrupted_mock_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("galprote.pipeline.mock.MockSpectra.row", fail)
    with pytest.raises(KeyboardInterrupt):
        make_mock(MockConfig(**QUIET), tmp_path / "cube.fits", synthetic_decoder())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"redshift": 0.1}, "wavelength_last_A = 7400: expected at least 7814"),
        ({"sky_noise": 40.0}, r"expected at most peak_flux / peak_snr = 37.5"),
        ({"shape": (2, 100)}, "between 4 and 4096"),
        ({"snr": 3}, "Extra inputs are not permitted"),
    ],
)
def test_impossible_configurations_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MockConfig(**changes)


def test_name_of_the_cube_must_be_fits(tmp_path: Path) -> None:
    with pytest.raises(CubeError, match=r"cube\.zarr: a mock cube's name must end in \.fits"):
        make_mock(MockConfig(**QUIET), tmp_path / "cube.zarr", synthetic_decoder())


# --- comparison with the truth ---


def maps_of(mock: Mock) -> xr.Dataset:
    names = QUANTITIES | {"snr": "SNR"}
    maps = xr.Dataset({name: (("y", "x"), mock.truth[extension].copy()) for name, extension in names.items()})
    return maps.assign({f"{name}_error": xr.full_like(maps[name], 0.2) for name in names if name != "snr"})


def test_perfect_maps_have_no_error(stars: Mock) -> None:
    rows = compare_with_truth(maps_of(stars), truth_path(stars.path))
    assert {row.quantity for row in rows} == {"age_lw", "metallicity_lw", "av", "age_mw", "metallicity_mw"}
    for row in rows:
        assert (row.bias, row.rms, row.sigma) == (0, 0, 0)
        assert row.correlation == pytest.approx(1)
        assert (row.within_1, row.within_2) == (1, 1)
    for quantity in ("age_lw", "av"):
        counts = {row.snr_range: row.n for row in rows if row.quantity == quantity}
        assert counts[(0.0, np.inf)] == stars.inside.sum() == sum(counts.values()) / 2


def test_errors_are_measured(stars: Mock) -> None:
    maps = maps_of(stars)
    random = np.random.default_rng(5)
    maps["age_lw"] += 0.1 + 0.2 * random.standard_normal(SHAPE)
    maps["av"][:, :10] = np.nan
    rows = {(row.quantity, row.snr_range): row for row in compare_with_truth(maps, truth_path(stars.path), ())}
    age, av = rows["age_lw", (0.0, np.inf)], rows["av", (0.0, np.inf)]
    assert age.bias == pytest.approx(0.1, abs=0.05)
    assert age.sigma == pytest.approx(0.2, rel=0.2)
    assert age.rms == pytest.approx(np.hypot(0.1, 0.2), rel=0.15)
    assert age.correlation < 0.99
    assert 0.55 < age.within_1 < 0.75 < age.within_2 < 0.96  # off by 0.1 and 0.2 of scatter, with errors of 0.2
    assert av.n == stars.inside[:, 10:].sum()


def test_a_truth_within_the_error_is_counted(stars: Mock) -> None:
    """Half of the map is off by less than one error, a quarter by less than two; without errors nothing is said."""
    maps = maps_of(stars)
    sizes, columns = np.array([0.19, -0.19, 0.39, -0.41]), np.arange(SHAPE[1]) % 4
    maps["age_lw"] += sizes[columns]
    maps["av_error"] *= np.nan
    rows = {row.quantity: row for row in compare_with_truth(maps, truth_path(stars.path), ())}
    counts = np.array([(stars.inside & (columns == k)).sum() for k in range(4)])
    assert rows["age_lw"].within_1 == pytest.approx(counts[:2].sum() / counts.sum())
    assert rows["age_lw"].within_2 == pytest.approx(counts[:3].sum() / counts.sum())
    assert rows["av"].n == counts.sum()
    assert np.isnan([rows["av"].within_1, rows["av"].within_2]).all()
    assert rows["av"].rms == 0


def test_nothing_fitted_is_told_as_such(stars: Mock) -> None:
    rows = compare_with_truth(maps_of(stars) * np.nan, truth_path(stars.path))
    assert all(row.n == 0 and np.isnan(row.bias) and np.isnan(row.correlation) for row in rows)


def test_truth_of_another_cube_is_refused(stars: Mock, tmp_path: Path) -> None:
    maps = maps_of(stars)
    with pytest.raises(CubeError, match=r"20 x 24 spaxels \(rows x columns\), the map \w+ has 20 x 23"):
        compare_with_truth(maps.isel(x=slice(1, None)), truth_path(stars.path))
    with pytest.raises(CubeError, match="not the truth of a mock cube"):
        compare_with_truth(maps, stars.path)
    with pytest.raises(CubeError, match=r"nothing\.fits: not the truth"):
        compare_with_truth(maps, tmp_path / "nothing.fits")
    # Axes in another order are no other cube.
    assert compare_with_truth(maps.transpose("x", "y"), truth_path(stars.path))[0].n == stars.inside.sum()
