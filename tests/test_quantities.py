"""From the model's answer to maps: masses, times, errors, reasons, and how they are stored."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from astropy import units as u
from astropy.io import fits

from galprote.model.appraisal import KINDS, PARTS
from galprote.model.checkpoint import load_checkpoint
from galprote.model.grids import KEPT
from galprote.model.masses import remaining_mass
from galprote.model.populations import APPRAISED
from galprote.model.predictor import Predictions, Predictor
from galprote.pipeline import fit_spectra
from galprote.pipeline.photometry import Photometry
from galprote.pipeline.products import MAPS
from galprote.pipeline.quality import Status
from galprote.pipeline.quantities import MAP_NAMES, mass_scale, quantities, remarks
from tests import cubes, surveys

MUSE = Photometry(1e-20, 0.04)
#: Maps that do not come from the model's answer.
PAINTED = ("flux", "snr", "residual_rms", "filled_fraction", "replaced_samples", "status")
CELLS = ((2, 5), (8, 40), (10, 20))
#: Written out once more: what a user reads in the flags of a spectrum that is not trusted.
REASONS = {
    "star": Status.STAR_LIKE, "agn": Status.AGN_LIKE, "redshift": Status.WRONG_REDSHIFT,
    "blend": Status.WRONG_REDSHIFT, "dusty": Status.AV_BOUNDARY, "dead": Status.DAMAGED, "step": Status.DAMAGED,
    "sky": Status.SKY_LIKE, "noise": Status.SKY_LIKE,
}  # fmt: skip


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(load_checkpoint())


def answer(cells: tuple[tuple[int, int], ...] = CELLS, **changes: object) -> Predictions:
    """Spectra of one template each."""
    n = len(cells)
    grid = np.zeros((n, 12, 53), np.float32)
    for row, cell in zip(grid, cells, strict=True):
        row[cell] = 1.0
    one = np.ones(n, np.float32)
    widths = np.random.default_rng(1).uniform(0.05, 0.2, (n, len(APPRAISED), 2)).astype(np.float32)
    kinds = np.full((n, len(KINDS)), 0.1, np.float32)
    found = Predictions(
        grid, 0.5 * one, 0 * one, 0 * one, np.ones((n, 948), np.float32), one, one, widths,
        np.zeros((n, PARTS), np.float32), kinds, 0.5 * one, one, 0 * one,
    )  # fmt: skip
    return found._replace(**changes)  # type: ignore[arg-type]


def test_one_template_gives_its_own_numbers(predictor: Predictor) -> None:
    found, scale = answer(), mass_scale(predictor)
    values = quantities(found, np.ones(3, np.float32), 0.0, MUSE, predictor)
    ages = predictor.checkpoint.decoder.ages_gyr
    for k, (z, a) in enumerate(CELLS):
        for name in ("age_lw", "age_mw"):
            assert values[name][k] == pytest.approx(scale.log_ages[a], abs=1e-5)
        for name in ("metallicity_lw", "metallicity_mw"):
            assert values[name][k] == pytest.approx(scale.metallicities[z], abs=1e-5)
        wanted = remaining_mass(ages[a : a + 1])[0] * scale.formed[z, a] / scale.luminosity_v[z, a]
        assert values["mass_to_light"][k] == pytest.approx(wanted, rel=1e-4)
        low, high = scale.age_edges[a : a + 2]
        assert values["t50"][k] == pytest.approx((low + high) / 2, rel=1e-5)
        assert values["t90"][k] == pytest.approx(low + 0.1 * (high - low), rel=1e-5)
        assert values["ebv_stars"][k] == pytest.approx(0.5 / 3.1)
    assert set(values) == {name for product in MAPS if (name := product.name) not in PAINTED}
    assert all(array.dtype == np.float32 for array in values.values())


def test_equal_masses_are_older_than_their_light(predictor: Predictor) -> None:
    """Young stars outshine old ones of the same mass; all means are of logarithms."""
    scale, found = mass_scale(predictor), answer(((5, 10),))
    young, old = (5, 10), (5, 45)
    light = np.array([1 / scale.formed[young], 1 / scale.formed[old]])
    found.grid[0][young], found.grid[0][old] = light / light.sum()
    values = {k: float(v[0]) for k, v in quantities(found, np.ones(1, np.float32), 0.0, MUSE, predictor).items()}
    ends = scale.log_ages[10], scale.log_ages[45]
    assert values["age_mw"] == pytest.approx(np.mean(ends), abs=1e-4)
    assert values["age_lw"] == pytest.approx(light @ ends / light.sum(), abs=1e-4)
    assert values["age_lw"] < values["age_mw"] - 0.3
    # Nine tenths had formed when a fifth of the young ones had yet to.
    assert 0.999 * scale.age_edges[11] <= values["t50"] <= 1.001 * scale.age_edges[45]
    assert values["t90"] == pytest.approx(scale.age_edges[10] + 0.2 * np.diff(scale.age_edges)[10], rel=1e-3)


@pytest.mark.parametrize("redshift", [0.0, 0.03])
def test_a_density_is_a_mass_over_an_area(predictor: Predictor, redshift: float) -> None:
    """From a galaxy at 12 Mpc: mass to light, light to flux, angle to area, with astropy's units."""
    flux = np.array([30.0, 100.0, 700.0], np.float32)
    norm = np.array([1.0, 0.6, 0.3], np.float32)
    found = quantities(answer(norm=norm), flux, redshift, Photometry(1e-20, 0.09), predictor)
    diameter_distance = 12 * u.Mpc
    luminosity_distance = diameter_distance * (1 + redshift) ** 2
    scale = mass_scale(predictor)
    for k, cell in enumerate(CELLS):
        received = flux[k] * 1e-20 * u.erg / u.s / u.cm**2 / u.AA
        emitted = (received * (1 + redshift) * 4 * np.pi * luminosity_distance**2).to_value(u.Lsun / u.AA)
        mass = emitted * scale.formed[cell] * remaining_mass(predictor.checkpoint.decoder.ages_gyr)[cell[1]] / norm[k]
        area = ((0.3 * u.arcsec).to_value(u.rad) * diameter_distance.to_value(u.pc)) ** 2
        assert found["stellar_mass_density"][k] == pytest.approx(mass / area, rel=1e-4)


def test_mass_follows_the_light_and_not_the_dust(predictor: Predictor) -> None:
    flux = np.full(3, 100.0, np.float32)

    def density(
        flux: np.ndarray, photometry: Photometry = MUSE, redshift: float = 0.0, **changes: object
    ) -> np.ndarray:
        return quantities(answer(CELLS, **changes), flux, redshift, photometry, predictor)["stellar_mass_density"]

    plain = density(flux)
    np.testing.assert_allclose(density(3 * flux), 3 * plain, rtol=1e-5)
    np.testing.assert_allclose(density(flux, Photometry(1e-20, 0.16)), plain / 4, rtol=1e-5)
    np.testing.assert_allclose(density(flux, redshift=0.02), plain * 1.02**5, rtol=1e-5)
    dimmed = np.float32(10 ** (-0.4 * 1.2))
    np.testing.assert_allclose(
        density(flux * dimmed, norm=np.full(3, dimmed), av=np.full(3, 1.2, np.float32)), plain, rtol=1e-5
    )
    assert np.isnan(density(flux, Photometry(np.nan, 0.04))).all()
    assert np.isnan(density(flux, Photometry(1e-20, np.nan))).all()


def test_errors_propagate(predictor: Predictor) -> None:
    found = answer()
    values = quantities(found, np.full(3, 50.0, np.float32), 0.008, MUSE, predictor)
    # Between the half-width of 68 %, and half of that of 95 %.
    sigma = dict(zip(APPRAISED, np.sqrt(found.widths[..., 0] * found.widths[..., 1] / 2).T, strict=True))
    for quantity, name in MAP_NAMES.items():
        np.testing.assert_allclose(values[f"{name}_error"], sigma[quantity], rtol=1e-6)
    np.testing.assert_allclose(values["ebv_stars_error"], sigma["av"] / 3.1, rtol=1e-6)
    for name, quantity in (("mass_to_light", "log_mass_to_light"), ("stellar_mass_density", "log_mass")):
        np.testing.assert_allclose(values[f"{name}_error"], values[name] * np.log(10) * sigma[quantity], rtol=1e-5)


def test_without_an_appraisal_there_are_values_and_no_errors(predictor: Predictor) -> None:
    nothing = np.full(3, np.nan, np.float32)
    found = answer(widths=np.full((3, len(APPRAISED), 2), np.nan, np.float32), trust=nothing, noise_scale=nothing)
    for name, values in quantities(found, np.ones(3, np.float32), 0.0, MUSE, predictor).items():
        unknown = name.endswith("_error") or name in {"trust", "noise_scale"}
        assert np.isnan(values).all() if unknown else np.isfinite(values).all(), name


@pytest.mark.parametrize("kind", KINDS[1:])
def test_every_kind_has_its_reason(kind: str) -> None:
    """And no other; whether a spectrum is ordinary too is for the trust to say."""
    kinds = np.full((4, len(KINDS)), 0.03, np.float32)
    kinds[:, 0], kinds[:, KINDS.index(kind)] = 0.5, 0.2
    kinds[3] = np.nan
    trust = np.array([0.0099, 0.01, 1.0, np.nan], np.float32)
    bits = remarks(answer(((5, 25),) * 4, kinds=kinds, trust=trust), 3.0)
    assert bits.dtype == np.int32
    assert bits.tolist() == [int(Status.UNLIKE_TRAINING | REASONS[kind]), 0, 0, 0]


def test_answers_at_the_ends_are_remarked_on() -> None:
    bits = remarks(answer(((5, 0), (5, 52), (5, 25)), av=np.array([2.9, 2.96, 3.0], np.float32)), 3.0)
    age, av = int(Status.AGE_BOUNDARY), int(Status.AV_BOUNDARY)
    assert bits.tolist() == [age, age | av, av]


@pytest.mark.parametrize("ends", [(0, 1, 2), (50, 51, 52)])
def test_three_templates_at_one_end_are_the_boundary(ends: tuple[int, ...]) -> None:
    """Over half of the light, of any metallicity, in these three together."""
    found = answer(((5, 25),) * 4)
    for row, share in zip(found.grid[:3], (0.17, 0.16, 0.3), strict=True):
        row[5, 25] = 1 - 3 * share
        row[[2, 7, 9], ends] = share
    bits = remarks(found, 3.0)
    assert bits.tolist() == [int(Status.AGE_BOUNDARY), 0, int(Status.AGE_BOUNDARY), 0]


@pytest.mark.parametrize("ages", [(0, 52), (0, 3), (49, 52)])
def test_both_ends_together_and_the_fourth_template_are_none(ages: tuple[int, int]) -> None:
    found = answer(((5, 25),))
    found.grid[0, 5, 25], found.grid[0, 3, ages] = 0.4, 0.3
    assert remarks(found, 3.0).tolist() == [0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small survey with the shipped weights."""
    folder = tmp_path_factory.mktemp("run")
    surveys.write_cube(folder / "cube.fits", (6, 5), faint=1)
    fits.setval(folder / "cube.fits", "SPECSYS", value="BARYCENT", ext=1)
    products = {"grid": True, "continuum_subtracted": True, "figure": False, "residual": False}
    galaxy = {"name": "N1", "cube": "cube.fits", "products": products}
    survey = surveys.write_survey(folder, [galaxy], folder, model={"device": "cpu"})  # the shipped weights
    (result,) = surveys.run_here(survey)
    assert result.outcome == "done", result.error
    return folder / "out"


def test_the_grid_is_the_star_formation_history(run: Path, predictor: Predictor) -> None:
    with xr.open_zarr(run / "N1.zarr") as maps:
        assert maps.grid.dims == ("y", "x", "metallicity", "age")
        assert maps.grid.dtype == np.float16
        fitted = np.isfinite(maps.age_lw.to_numpy())
        assert 10 < fitted.sum() < fitted.size
        assert (np.isnan(maps.grid.to_numpy()).all(axis=(2, 3)) == ~fitted).all()
        light = maps.grid.to_numpy()[fitted].astype(np.float64)
        log_ages = np.log10(maps.age.to_numpy()) + 9
        np.testing.assert_allclose(light.sum(axis=(1, 2)), 1.0, atol=3e-3)
        for kind, weights in (("lw", light), ("mw", light * maps.mass_per_light.to_numpy())):
            total = weights.sum(axis=(1, 2))
            age = weights.sum(axis=1) @ log_ages / total
            metallicity = weights.sum(axis=2) @ maps.metallicity.to_numpy() / total
            np.testing.assert_allclose(age, maps[f"age_{kind}"].to_numpy()[fitted], atol=3e-3)
            np.testing.assert_allclose(metallicity, maps[f"metallicity_{kind}"].to_numpy()[fitted], atol=3e-3)
        assert np.abs(maps.age_mw - maps.age_lw).max() > 0.1
        np.testing.assert_allclose(maps.age_edge, mass_scale(predictor).age_edges)
        assert "Behroozi" in maps.attrs["mass_convention"]


def test_the_density_of_a_run_is_that_of_its_flux_and_history(run: Path, predictor: Predictor) -> None:
    """Flux in 1e-20 erg/s/cm2/A, pixels of 0.2 arcsec: from the cube's header to the map."""
    decoder = predictor.checkpoint.decoder
    with xr.open_zarr(run / "N1.zarr") as maps:
        fitted = np.isfinite(maps.age_lw.to_numpy())
        flux, av, density = (maps[name].to_numpy()[fitted] for name in ("flux", "av", "stellar_mass_density"))
        light = maps.grid.to_numpy()[fitted].astype(np.float64)
    mixed = light.reshape(len(light), -1) @ decoder.templates().double().numpy()
    dimmed = mixed * 10 ** (-0.4 * av[:, None] * decoder.attenuation().double().numpy())
    norm = np.median(dimmed[:, KEPT], axis=1)
    mass = (light * mass_scale(predictor).formed).sum(axis=1) @ remaining_mass(decoder.ages_gyr) / norm
    bright = flux.astype(np.float64) * 1e-20 * 4 * np.pi / np.radians(0.2 / 3600) ** 2 * (1 + surveys.REDSHIFT) ** 5
    solar = u.Lsun.to(u.erg / u.s) / u.pc.to(u.cm) ** 2
    np.testing.assert_allclose(density, bright / solar * mass, rtol=0.01)


def test_every_error_stands_beside_its_map(run: Path) -> None:
    group = zarr.open_group(run / "N1.zarr", mode="r")
    assert np.asarray(group["status"]).dtype == np.int32
    values = {product.name.removesuffix("_error") for product in MAPS if product.name.endswith("_error")}
    assert values == {*MAP_NAMES.values(), "ebv_stars", "mass_to_light", "stellar_mass_density"}
    with fits.open(run / "N1_MAPS.fits") as hdus:
        assert hdus["STATUS"].data.dtype == np.dtype(">i4")
        np.testing.assert_array_equal(hdus["STATUS"].data, group["status"])
        for product in MAPS:
            if product.name not in values:
                continue
            found, error = hdus[product.extension], hdus[f"{product.extension}_ERR"]
            for hdu in (found, error):
                assert u.Unit(hdu.header["BUNIT"]) == u.Unit(product.unit), hdu.name
            np.testing.assert_array_equal(found.data, group[product.name])
            np.testing.assert_array_equal(error.data, group[f"{product.name}_error"])
            known = np.isfinite(found.data)
            assert known.any(), product.name
            assert (np.isfinite(error.data) == known).all()
            assert (error.data[known] > 0).all()


def test_a_fill_value_spoils_no_spectrum() -> None:
    flux, variance = (values.T.copy() for values in surveys.spectra(3))
    wavelength = surveys.FIRST_CHANNEL + 1.25 * np.arange(surveys.CHANNELS)
    plain = fit_spectra(wavelength, flux, variance, redshift=surveys.REDSHIFT)
    flux[1, 500:504] = -1e20  # a fill value with a good variance
    found = fit_spectra(wavelength, flux, variance, redshift=surveys.REDSHIFT)
    assert not found.status[1] & int(Status.FAILED)
    assert abs(found.log_age[1] - plain.log_age[1]) < 0.1, "four channels are missing"
    np.testing.assert_array_equal(found.log_age[[0, 2]], plain.log_age[[0, 2]])
    np.testing.assert_array_equal(found.av_error[[0, 2]], plain.av_error[[0, 2]])


def test_the_subtracted_cube_has_its_error_too(run: Path) -> None:
    with xr.open_zarr(run / "N1.zarr") as maps, fits.open(run.parent / "cube.fits") as cube:
        error, left = maps.continuum_subtracted_error.to_numpy(), maps.continuum_subtracted.to_numpy()
        for array in (maps.continuum_subtracted, maps.continuum_subtracted_error):
            assert u.Unit(array.units) == u.Unit(cubes.MUSE_BUNIT, format="fits")
        fitted = np.isfinite(maps.age_lw.to_numpy())
        channels = np.round((maps.wavelength_observed.to_numpy() - surveys.FIRST_CHANNEL) / 1.25).astype(int)
        variance = cube["STAT"].data[channels]
    usable = fitted & (variance > 0)
    assert 0 < (fitted & ~(variance > 0)).sum() < usable.sum()
    assert (np.isfinite(error) == usable).all()
    assert (error[usable] > np.sqrt(variance[usable])).all()
    assert np.isnan(left[:, ~fitted]).all()
    with fits.open(run / "N1_CONTSUB.fits") as hdus:
        np.testing.assert_array_equal(hdus["CONTSUB_ERR"].data, error)
        assert hdus["CONTSUB_ERR"].header["BUNIT"] == hdus["CONTSUB"].header["BUNIT"]


def test_the_error_is_in_the_frame_of_what_is_left(run: Path) -> None:
    with fits.open(run / "N1_CONTSUB.fits") as hdus:
        one, two = hdus["CONTSUB"].header, hdus["CONTSUB_ERR"].header
        assert one["SPECSYS"] == "BARYCENT"
        axes = ("CTYPE", "CRVAL", "CRPIX", "CDELT", "CUNIT", "PC", "RADESYS", "SPECSYS")
        assert {k: v for k, v in one.items() if k.startswith(axes)}.items() <= dict(two).items()
