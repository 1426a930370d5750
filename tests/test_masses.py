"""Masses: closed forms, the light of known masses put behind dust and far away, and pPXF's own arithmetic."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from astropy import constants, units
from numpy.typing import NDArray

from galprote.model import masses
from galprote.model.decoder import FINE, FINE_EDGES, MARGIN, build_decoder
from galprote.model.extinction import extinction_curve
from galprote.model.grids import AGES_GYR, KEPT, METALLICITIES, N_WAVELENGTH
from galprote.model.histories import HistoryConfig, HistorySampler
from galprote.model.masses import MassScale
from tests.libraries import fine_wavelength, synthetic_decoder, synthetic_flux

#: Puts the analytic library where real ones are: 1e-4 L_sun / Angstrom per solar mass formed at 1 Gyr.
UNIT = 1e-4


@cache
def scale() -> MassScale:
    return MassScale.of(build_decoder(UNIT * synthetic_flux(), AGES_GYR, METALLICITIES, "synthetic"))


def one_template(z: int, age: int) -> NDArray[np.float32]:
    grid = np.zeros((1, 12, 53), dtype=np.float32)
    grid[0, z, age] = 1.0
    return grid


def light_of(mass: NDArray[np.float64]) -> NDArray[np.float32]:
    """Light fractions of masses formed (n, 12, 53), from the raw templates."""
    light = mass * kept_median(UNIT * synthetic_flux())
    return (light / light.sum(axis=(1, 2), keepdims=True)).astype(np.float32)


def kept_median(fine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median over the kept samples of spectra (..., 3952) on the fine grid."""
    inner = fine[..., MARGIN * FINE : -MARGIN * FINE]
    return np.median(inner.reshape(*inner.shape[:-1], N_WAVELENGTH, FINE).mean(axis=-1)[..., KEPT], axis=-1)


def random_masses(n: int, seed: int = 0) -> NDArray[np.float64]:
    """Masses formed, a few populations each."""
    random = np.random.default_rng(seed)
    return random.random((n, 12, 53)) ** 40 * 1e8


def test_stars_lose_mass_as_they_age() -> None:
    left = masses.remaining_mass(np.array([0.0, 1e-3, 0.1, 1.0, 10.0]))
    assert left[0] == 1.0
    assert (np.diff(left) < 0).all()
    # A Chabrier population gives back four tenths and more in a Hubble time.
    np.testing.assert_allclose(left[2:], [0.786, 0.671, 0.556], atol=5e-4)


def test_age_bins_hold_their_ages_and_meet_half_way_in_log_age() -> None:
    edges = masses.age_edges(AGES_GYR)
    assert edges[0] == 0.0
    assert (edges[:-1] < AGES_GYR).all()
    assert (edges[1:] > AGES_GYR).all()
    np.testing.assert_allclose(2 * np.log(edges[1:-1]), np.log(AGES_GYR[1:]) + np.log(AGES_GYR[:-1]), atol=1e-12)
    assert edges[-1] == pytest.approx(14.28)


@pytest.mark.parametrize(("z", "age"), [(0, 0), (8, 20), (11, 52)])
def test_one_template_has_its_own_age_metallicity_and_mass_to_light(z: int, age: int) -> None:
    grid = one_template(z, age)
    np.testing.assert_array_equal(masses.mass_fractions(grid, scale()), grid)
    log_age, metallicity = masses.mass_means(grid, scale())
    assert log_age[0] == pytest.approx(np.log10(AGES_GYR[age]) + 9)
    assert metallicity[0] == pytest.approx(METALLICITIES[z])
    response = masses.v_response(fine_wavelength())
    light = (UNIT * synthetic_flux()[z, age] * response).sum() / response.sum() / masses.solar_v_luminosity()
    ratio = masses.mass_to_light_v(grid, scale())
    # The decoder's components rebuild a template's band to better than its 0.1 % rms.
    assert ratio[0] == pytest.approx(masses.remaining_mass(AGES_GYR)[age] / light, rel=1e-4)
    t50, t90 = masses.formation_times(grid, scale())
    edges = masses.age_edges(AGES_GYR)
    assert t50[0] == pytest.approx(edges[age] + 0.5 * (edges[age + 1] - edges[age]))
    assert t90[0] == pytest.approx(edges[age] + 0.1 * (edges[age + 1] - edges[age]))


def test_two_templates_mix_by_mass_not_by_light() -> None:
    young, old = (8, 7), (4, 44)  # 0.1 and 10 Gyr
    assert AGES_GYR[[7, 44]].tolist() == [0.1, 10.0]
    grid = 0.7 * one_template(*young) + 0.3 * one_template(*old)
    flux = kept_median(UNIT * synthetic_flux())
    formed = np.array([0.7 / flux[young], 0.3 / flux[old]])
    share = formed[1] / formed.sum()
    assert share > 0.9  # of the mass in three tenths of the light
    fractions = masses.mass_fractions(grid, scale())
    np.testing.assert_allclose([fractions[0][young], fractions[0][old]], [1 - share, share], rtol=1e-5)
    log_age, metallicity = masses.mass_means(grid, scale())
    assert log_age[0] == pytest.approx(8 * (1 - share) + 10 * share, rel=1e-6)
    expected = METALLICITIES[8] * (1 - share) + METALLICITIES[4] * share
    assert metallicity[0] == pytest.approx(expected, rel=1e-5)
    ratios = [masses.mass_to_light_v(one_template(*at), scale())[0] for at in (young, old)]
    present = formed * masses.remaining_mass(np.array([0.1, 10.0]))
    luminosity = present / ratios
    assert masses.mass_to_light_v(grid, scale())[0] == pytest.approx(present.sum() / luminosity.sum(), rel=1e-5)


def test_a_constant_rate_has_formed_half_at_half_its_time() -> None:
    edges = masses.age_edges(AGES_GYR)
    width = np.diff(edges)
    forming = np.tril(np.ones((53, 53))) * width  # the k-th began at the k-th bin's older edge
    metals = np.random.default_rng(1).random((12, 53))
    grid = light_of(forming[:, None, :] * metals / metals.sum(axis=0))
    t50, t90 = masses.formation_times(grid, scale())
    np.testing.assert_allclose(t50, edges[1:] / 2, rtol=1e-5)
    np.testing.assert_allclose(t90, edges[1:] / 10, rtol=1e-5)


def test_formation_times_of_two_episodes_lie_within_them() -> None:
    mass = np.zeros((2, 12, 53))
    mass[:, 8, 7], mass[:, 8, 44] = [0.4, 0.05], [0.6, 0.95]  # 0.1 and 10 Gyr
    t50, t90 = masses.formation_times(light_of(mass), scale())
    edges = masses.age_edges(AGES_GYR)
    old, young = edges[44:46], edges[7:9]
    # Five sixths of the old episode were over when half of all had formed.
    assert t50[0] == pytest.approx(old[1] - 5 / 6 * (old[1] - old[0]), rel=1e-5)
    assert t90[0] == pytest.approx(young[1] - 0.3 / 0.4 * (young[1] - young[0]), rel=1e-5)
    assert t90[1] == pytest.approx(old[1] - 0.9 / 0.95 * (old[1] - old[0]), rel=1e-5)


def test_formation_times_invert_the_mass_formed_since() -> None:
    formed = random_masses(200, seed=5)
    t50, t90 = masses.formation_times(light_of(formed), scale())
    for mass, half, tenth in zip(formed.sum(axis=1), t50, t90, strict=True):
        since = np.append(0.0, mass.cumsum()) / mass.sum()
        formed_since = np.interp([half, tenth], masses.age_edges(AGES_GYR), since)
        np.testing.assert_allclose(formed_since, [0.5, 0.1], atol=1e-5)


def test_histories_and_formation_times_share_their_age_bins() -> None:
    """Histories of nearly constant rate, drawn by the sampler, come back with their half-time."""
    import torch

    config = HistoryConfig(start=(10.0, 10.0001), timescale=(1e4, 1.1e4), quenched=0.0)
    drawn = HistorySampler(synthetic_decoder(), config, torch.Generator().manual_seed(3)).draw(60, bursts=False)
    t50, t90 = masses.formation_times(drawn.numpy(), scale())
    constant = np.abs(t50 - 5.0) < 0.1  # the others are delayed, by one power of time or two
    assert 10 < constant.sum() < 40
    np.testing.assert_allclose(t90[constant], 1.0, atol=0.02)


def test_light_to_mass_and_back() -> None:
    grid = light_of(random_masses(20))
    mass = masses.mass_fractions(grid, scale())
    np.testing.assert_allclose(mass.sum(axis=(1, 2)), 1.0, rtol=1e-6)
    np.testing.assert_allclose(light_of(mass.astype(np.float64)), grid, rtol=1e-4, atol=1e-9)
    assert mass.dtype == np.float32


def test_spectra_that_were_not_fitted_stay_so() -> None:
    grid = light_of(random_masses(3))
    grid[1] = np.nan
    norm = np.ones(3, dtype=np.float32)
    found = [
        *masses.mass_means(grid, scale()),
        masses.mass_to_light_v(grid, scale()),
        masses.mass_per_flux(grid, norm, scale()),
        *masses.formation_times(grid, scale()),
    ]
    for values in found:
        assert values.dtype == np.float32
        np.testing.assert_array_equal(np.isnan(values), [False, True, False])


def spectrum(mass: NDArray[np.float64], av: float) -> NDArray[np.float64]:
    """Spectra (n, 3952) in L_sun / Angstrom of masses formed (n, 12, 53) in M_sun behind dust."""
    flux = np.tensordot(mass, UNIT * synthetic_flux(), axes=2)
    return np.asarray(flux * 10 ** (-0.4 * av * extinction_curve(fine_wavelength())))


def norm_of(grid: NDArray[np.float32], av: float) -> NDArray[np.float32]:
    """Median of the reddened combination of templates that are normalised one by one."""
    flux = UNIT * synthetic_flux()
    combined = spectrum(grid.astype(np.float64) / kept_median(flux), av)
    return kept_median(combined).astype(np.float32)


def test_dust_hides_no_mass() -> None:
    formed = random_masses(10)
    grid = light_of(formed)
    present = (formed * masses.remaining_mass(AGES_GYR)).sum(axis=(1, 2))
    seen = {}
    for av in (0.0, 1.5):
        flux = seen[av] = kept_median(spectrum(formed, av))
        found = masses.mass_per_flux(grid, norm_of(grid, av), scale()) * flux
        np.testing.assert_allclose(found, present, rtol=1e-5)
    assert (seen[1.5] < 0.3 * seen[0.0]).all()


@pytest.mark.parametrize("redshift", [0.003, 0.1])
@pytest.mark.parametrize("distance_mpc", [15.0, 400.0])
def test_surface_density_is_mass_over_area_at_any_distance(redshift: float, distance_mpc: float) -> None:
    """A pixel of 0.2 arcsec seen by astropy's units; its angular-diameter distance is any."""
    formed, av = random_masses(4), 0.6
    grid = light_of(formed)
    angular = distance_mpc * units.Mpc
    luminosity = kept_median(spectrum(formed, av)) * masses.SOLAR_LUMINOSITY * units.erg / units.s / units.AA
    far = (1 + redshift) ** 2 * angular
    flux = luminosity / (4 * np.pi * far**2) / (1 + redshift)
    flux_cgs = flux.to_value(units.erg / units.s / units.cm**2 / units.AA)
    side = (0.2 * units.arcsec).to_value(units.rad) * angular
    present = (formed * masses.remaining_mass(AGES_GYR)).sum(axis=(1, 2))
    per_flux = masses.mass_per_flux(grid, norm_of(grid, av), scale())
    density = masses.surface_density(flux_cgs, per_flux, 0.04, redshift)
    np.testing.assert_allclose(density, present / (side**2).to_value(units.pc**2), rtol=1e-5)
    np.testing.assert_allclose(masses.stellar_mass(density, 0.04, distance_mpc), present, rtol=1e-5)
    each = masses.surface_density(flux_cgs, per_flux, 0.04, np.full(4, redshift))
    np.testing.assert_array_equal(each, density)


def test_constants_are_those_of_astropy() -> None:
    ours = [masses.SOLAR_LUMINOSITY, masses.PARSEC_CM, masses.SPEED_OF_LIGHT, masses.ARCSEC]
    theirs = [constants.L_sun.cgs.value, units.pc.to(units.cm)]
    theirs += [constants.c.to_value(units.AA / units.s), units.arcsec.to(units.rad)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_the_decoder_holds_the_whole_v_band() -> None:
    wavelength = np.arange(4000.0, 8000.0, 0.5)
    response = masses.v_response(wavelength)
    inside = (wavelength > FINE_EDGES[0]) & (wavelength < FINE_EDGES[-1])
    assert (response[~inside] == 0).all()
    pivot = (response.sum() / (response / wavelength**2).sum()) ** 0.5
    assert pivot == pytest.approx(5477.0, abs=1.0)


def test_the_sun_of_ppxf_has_the_same_v_band() -> None:
    """Two suns and two tables of the band: 0.009 mag apart, of Willmer's 0.03 to 0.04 of uncertainty."""
    util = pytest.importorskip("ppxf.ppxf_util")
    assert util.mag_sun("Bessel_V")[0] == pytest.approx(masses.SOLAR_V_AB, abs=0.015)
    with np.load(Path(util.__file__).parent / "sps_models/spectra_sun_vega.npz") as arrays:
        wavelength, flux = arrays["lam"], arrays["flux_sun"]  # erg/s/cm2/Angstrom at 10 pc
    fine = fine_wavelength()
    response = masses.v_response(fine)
    seen = (np.interp(fine, wavelength, flux) * response).sum() / response.sum()
    luminosity = seen * 4 * np.pi * (10 * masses.PARSEC_CM) ** 2 / masses.SOLAR_LUMINOSITY
    assert masses.solar_v_luminosity() == pytest.approx(luminosity, rel=0.015)


def test_ppxf_finds_the_same_means_and_mass_to_light(tmp_path: Path) -> None:
    sps_util = pytest.importorskip("ppxf.sps_util")
    util = pytest.importorskip("ppxf.ppxf_util")
    flux = UNIT * synthetic_flux()
    left = np.broadcast_to(masses.remaining_mass(AGES_GYR)[:, None], (53, 12))
    axes = {"lam": fine_wavelength(), "ages": AGES_GYR, "metals": METALLICITIES, "fwhm": np.full(flux.shape[2], 2.51)}
    np.savez(tmp_path / "library.npz", templates=flux.transpose(2, 1, 0), masses=left, **axes)
    library = sps_util.sps_lib(tmp_path / "library.npz", velscale=20.0, norm_range=[5070, 5950])
    sun = 10 ** (0.4 * (util.mag_sun("Bessel_V")[0] - masses.SOLAR_V_AB))
    formed = random_masses(6)
    grid = light_of(formed)
    log_age, metallicity = masses.mass_means(grid, scale())
    ratio = masses.mass_to_light_v(grid, scale())
    for i, mass in enumerate(formed.transpose(0, 2, 1)):
        weights = mass * library.flux  # light weights, of the mean in pPXF's range
        assert [log_age[i], metallicity[i]] == pytest.approx(library.mean_age_metal(weights / library.flux, quiet=True))
        by_light = library.mean_age_metal(grid[i].T.astype(np.float64), quiet=True)
        assert abs(log_age[i] - by_light[0]) > 0.1  # so that the one cannot be taken for the other
        # pPXF's sun is 0.009 mag fainter than Willmer's.
        assert ratio[i] == pytest.approx(library.mass_to_light(weights, "Bessel_V", quiet=True) * sun, rel=2e-3)
        assert ratio[i] == pytest.approx(library.mass_to_light(weights, "Bessel_V", quiet=True), rel=0.015)
