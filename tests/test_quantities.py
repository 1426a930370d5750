"""From the model's answer to maps: masses, times, errors, reasons, and how they are stored."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from astropy.io import fits

from galprote.model.appraisal import KINDS, PARTS, sigmas
from galprote.model.checkpoint import load_checkpoint
from galprote.model.masses import remaining_mass
from galprote.model.populations import APPRAISED
from galprote.model.predictor import Predictions, Predictor
from galprote.pipeline.photometry import Photometry
from galprote.pipeline.products import MAPS
from galprote.pipeline.quality import Status
from galprote.pipeline.quantities import REASONS, mass_scale, quantities, remarks
from tests import surveys

MUSE = Photometry(1e-20, 0.04)
CELLS = ((2, 5), (8, 40), (10, 20))


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


def test_mass_follows_the_light_and_not_the_dust(predictor: Predictor) -> None:
    flux = np.full(3, 100.0, np.float32)

    def density(
        flux: np.ndarray, photometry: Photometry = MUSE, redshift: float = 0.0, **changes: object
    ) -> np.ndarray:
        return quantities(answer(**changes), flux, redshift, photometry, predictor)["stellar_mass_density"]

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
    sigma = dict(zip(APPRAISED, sigmas(found.widths).T, strict=True))
    np.testing.assert_allclose(values["age_lw_error"], sigma["log_age"])
    np.testing.assert_allclose(values["metallicity_mw_error"], sigma["metallicity_mw"])
    np.testing.assert_allclose(values["ebv_stars_error"], sigma["av"] / 3.1, rtol=1e-6)
    for name, quantity in (("mass_to_light", "log_mass_to_light"), ("stellar_mass_density", "log_mass")):
        np.testing.assert_allclose(values[f"{name}_error"], values[name] * np.log(10) * sigma[quantity], rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_every_kind_has_its_reason(kind: str) -> None:
    kinds = np.full((3, len(KINDS)), 0.05, np.float32)
    kinds[:, KINDS.index(kind)] = 0.5
    trust = np.array([0.005, 0.011, np.nan], np.float32)
    bits = remarks(answer(kinds=kinds, trust=trust), 3.0)
    assert bits[0] & int(Status.UNLIKE_TRAINING)
    assert bits[0] & int(REASONS[kind])
    unwanted = Status.UNLIKE_TRAINING | Status.AGN_LIKE | Status.STAR_LIKE | Status.WRONG_REDSHIFT | Status.AV_BOUNDARY
    assert not (bits[1:] & int(unwanted | Status.DAMAGED | Status.SKY_LIKE)).any()


def test_answers_at_the_ends_are_remarked_on() -> None:
    bits = remarks(answer(((5, 0), (5, 52), (5, 25)), av=np.array([2.9, 2.96, 3.0], np.float32)), 3.0)
    assert [bool(bit & int(Status.AGE_BOUNDARY)) for bit in bits] == [True, True, False]
    assert [bool(bit & int(Status.AV_BOUNDARY)) for bit in bits] == [False, True, True]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small survey with the shipped weights."""
    folder = tmp_path_factory.mktemp("run")
    surveys.write_cube(folder / "cube.fits", (6, 5), faint=1)
    galaxy = {"name": "N1", "cube": "cube.fits", "products": {"grid": True, "figure": False, "residual": False}}
    survey = surveys.write_survey(folder, [galaxy], None)  # type: ignore[arg-type]
    survey.write_text(survey.read_text().replace("checkpoint: None", "checkpoint: null").replace("'None'", "null"))
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
        for name, weights in (("age_lw", light), ("age_mw", light * maps.mass_per_light.to_numpy())):
            mean = weights.sum(axis=1) @ log_ages / weights.sum(axis=(1, 2))
            np.testing.assert_allclose(mean, maps[name].to_numpy()[fitted], atol=3e-3)
        np.testing.assert_allclose(maps.age_edge, mass_scale(predictor).age_edges)
        assert "Behroozi" in maps.attrs["mass_convention"]


def test_every_error_stands_beside_its_map(run: Path) -> None:
    group = zarr.open_group(run / "N1.zarr", mode="r")
    assert np.asarray(group["status"]).dtype == np.int32
    errors = [product for product in MAPS if product.name.endswith("_error")]
    assert len(errors) == 8
    with fits.open(run / "N1_MAPS.fits") as hdus:
        assert hdus["STATUS"].data.dtype == np.dtype(">i4")
        for product in errors:
            value = next(p for p in MAPS if p.name == product.name.removesuffix("_error"))
            found, error = hdus[value.extension], hdus[f"{value.extension}_ERR"]
            assert found.header["BUNIT"] == error.header["BUNIT"]
            known = np.isfinite(found.data)
            assert known.any(), value.name
            assert (np.isfinite(error.data) == known).all()
            assert (error.data[known] > 0).all()
