"""`fit_spectra`, and the block that it shares with the cubes."""

from dataclasses import replace
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from galprote.model.artefacts import ArtefactConfig
from galprote.model.checkpoint import save_checkpoint
from galprote.model.grids import KEPT, WAVELENGTH
from galprote.model.kinematics import move
from galprote.model.predictor import Predictions, Predictor, shared_predictor
from galprote.model.refinement import Observation
from galprote.pipeline import fit_spectra
from galprote.pipeline.block import BlockSettings, finish_block, populations_of, predict_block, prepare_block
from galprote.pipeline.config import GalaxyConfig
from galprote.pipeline.line_filter import template_allowance
from galprote.pipeline.line_filter_config import LineFilterConfig
from galprote.pipeline.quality import NOT_FITTED, Status
from galprote.pipeline.readers.axis import vacuum_to_air
from galprote.pipeline.rest_frame import PreprocessSettings, rebin_to_rest
from tests import surveys
from tests.libraries import synthetic_decoder
from tests.test_preprocess import channels, fine_templates, integrate
from tests.test_preprocess import edges_of as edges

REDSHIFT = 0.01


@pytest.fixture(scope="module", params=["plain", "refined"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    model = surveys.random_model(5, refined=request.param == "refined")
    save_checkpoint(path, model.eval(), synthetic_decoder(), {})
    return path


class Stub:
    """A predictor that remembers what it is asked and says what it is told."""

    def __init__(self, real: Predictor, answer: Predictions) -> None:
        self.checkpoint, self.model, self.answer = real.checkpoint, real.model, answer
        self.asked: list[tuple[NDArray[np.float32], NDArray[np.float32], float]] = []

    def __call__(
        self,
        spectra: NDArray[np.float32],
        noise: NDArray[np.float32],
        calibration: float = 0.0,
        redshift: float | NDArray[np.float32] = 0.0,
        template_error: float = 0.0,
    ) -> Predictions:
        np.testing.assert_array_equal(redshift, np.full(len(spectra), REDSHIFT, dtype=np.float32))
        self.asked.append((spectra, noise, calibration))
        return self.answer


def answers(n: int) -> Predictions:
    """Old stars at rest without dust."""
    grid = np.zeros((n, 12, 53), np.float32)
    grid[:, 5, 40] = 1.0
    zero = np.zeros(n, np.float32)
    one, nothing = zero + 1, np.full((n, 20), np.nan, np.float32)
    return Predictions(
        grid, zero, zero.copy(), zero.copy(), np.ones((n, 948), np.float32), one, one,
        np.full((n, 7, 2), np.nan, np.float32), nothing, nothing[:, :10], zero + 1, one, zero,
    )  # fmt: skip


@pytest.fixture(scope="module")
def observed() -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]:
    """Wavelength, flux (12, m) and variance of noisy templates."""
    wavelength = channels(REDSHIFT)
    clean = integrate(fine_templates(0.3), edges(wavelength) / (1 + REDSHIFT))
    clean = np.tile(clean, (3, 1))[:12] * np.linspace(1, 100, 12)[:, None]
    noise = 0.03 * clean
    flux = clean + noise * np.random.default_rng(0).normal(size=clean.shape)
    return wavelength, flux.astype(np.float32), (noise**2).astype(np.float32)


def settings(wavelength: NDArray[np.float64], **changes: object) -> BlockSettings:
    options: dict[str, object] = {"snr_min": 0.0, "max_filled": 0.25, "ebv": 0.0} | changes
    preprocess = PreprocessSettings(
        wavelength=tuple(wavelength.tolist()),
        redshift=REDSHIFT,
        law="O94",
        r_v=3.1,
        line_filter=LineFilterConfig(),
        **options,  # type: ignore[arg-type]
    )
    return BlockSettings(preprocess, residual=True, continuum_subtracted=True, grid=True)


def test_spectra_and_cubes_take_the_same_path(observed, checkpoint: Path) -> None:  # type: ignore[no-untyped-def]
    wavelength, flux, variance = observed
    result = fit_spectra(wavelength, flux, variance, redshift=REDSHIFT, checkpoint=checkpoint)
    predictor = shared_predictor(checkpoint, None, "cpu")
    allowance = template_allowance(predictor.checkpoint.decoder, LineFilterConfig())
    chosen = settings(wavelength, allowance=allowance)
    cube, noise = (np.ascontiguousarray(a.T).reshape(-1, 3, 4) for a in (flux, variance))
    products = finish_block(predict_block(prepare_block(cube, noise, None, chosen), chosen, predictor), chosen)
    np.testing.assert_array_equal(products.maps["age_lw"].ravel(), result.log_age)
    np.testing.assert_array_equal(products.maps["metallicity_lw"].ravel(), result.metallicity)
    np.testing.assert_array_equal(products.maps["av"].ravel(), result.av)
    np.testing.assert_array_equal(products.maps["status"].ravel(), result.status)
    np.testing.assert_array_equal(products.maps["age_mw"].ravel(), result.log_age_mw)
    np.testing.assert_array_equal(products.maps["t50"].ravel(), result.t50)
    np.testing.assert_array_equal(products.cubes["grid"].reshape(12, 12, 53), result.grid.astype(np.float16))


def test_observed_is_model_plus_residual(observed, checkpoint: Path) -> None:  # type: ignore[no-untyped-def]
    wavelength, flux, variance = observed
    decoder = shared_predictor(checkpoint, None, "cpu").checkpoint.decoder
    chosen = settings(wavelength, allowance=template_allowance(decoder, LineFilterConfig()))
    prepared = prepare_block(flux.T.reshape(-1, 1, 12), variance.T.reshape(-1, 1, 12), None, chosen)
    fitted = predict_block(prepared, chosen, shared_predictor(checkpoint, None, "cpu"))
    products = finish_block(fitted, chosen)
    result = fit_spectra(wavelength, flux, variance, redshift=REDSHIFT, checkpoint=checkpoint)
    residual = products.cubes["residual"][:, 0].T
    np.testing.assert_allclose(residual + result.model_flux, prepared.batch.rebinned, rtol=1e-4, atol=1e-4)
    rms = np.sqrt(np.mean((residual / products.maps["flux"][0][:, None])[:, KEPT] ** 2, axis=1))
    np.testing.assert_allclose(products.maps["residual_rms"][0], rms, rtol=0.05)
    # On the native channels: rebinned, the continuum is the model's spectrum again.
    continuum = np.nan_to_num(flux.T - products.cubes["continuum_subtracted"][:, 0])
    again, _ = rebin_to_rest(continuum, np.ones_like(continuum), np.ones_like(continuum, bool), chosen.preprocess)
    np.testing.assert_allclose(again[:, 2:-2], result.model_flux[:, 2:-2], rtol=5e-3)


def test_the_flux_unit_does_not_matter(observed, checkpoint: Path) -> None:  # type: ignore[no-untyped-def]
    wavelength, flux, variance = observed
    one = fit_spectra(wavelength, flux, variance, redshift=REDSHIFT, checkpoint=checkpoint)
    for factor in (1e-24, 1e-18, 1e38):
        scaled = flux.astype(np.float64) * factor, variance.astype(np.float64) * factor**2
        two = fit_spectra(wavelength, *scaled, redshift=REDSHIFT, checkpoint=checkpoint)
        np.testing.assert_allclose(two.log_age, one.log_age, atol=1e-3)
        np.testing.assert_allclose(two.model_flux / factor, one.model_flux, rtol=1e-3)
        np.testing.assert_array_equal(two.status, one.status)


def test_without_a_variance_the_noise_is_estimated(observed, checkpoint: Path) -> None:  # type: ignore[no-untyped-def]
    wavelength, flux, variance = observed
    given = fit_spectra(wavelength, flux, variance, redshift=REDSHIFT, snr_min=40, checkpoint=checkpoint)
    estimated = fit_spectra(wavelength, flux, redshift=REDSHIFT, snr_min=40, checkpoint=checkpoint)
    loose = fit_spectra(wavelength, flux, redshift=REDSHIFT, snr_min=60, checkpoint=checkpoint)
    # The truth is 47: 1 / 0.03 a channel, two channels a sample.
    assert np.isfinite(given.log_age).all()
    # A refining network heeds that the true noise follows the flux and the estimate does not, one of random weights
    # without measure.
    if shared_predictor(checkpoint, None, "cpu").model.refinement is None:
        np.testing.assert_array_equal(given.log_age, estimated.log_age)
    else:
        assert np.isfinite(estimated.log_age).all()
    assert ((loose.status & Status.LOW_SNR) > 0).all()


def test_wavelengths_in_vacuum_are_converted(observed, checkpoint: Path) -> None:  # type: ignore[no-untyped-def]
    wavelength, flux, variance = observed
    vacuum = wavelength * 1.00028
    one = fit_spectra(vacuum_to_air(vacuum), flux, variance, redshift=REDSHIFT, checkpoint=checkpoint)
    two = fit_spectra(vacuum, flux, variance, redshift=REDSHIFT, vacuum=True, checkpoint=checkpoint)
    np.testing.assert_array_equal(one.log_age, two.log_age)


def test_a_bad_spectrum_is_flagged_and_spoils_no_other(observed, checkpoint: Path) -> None:  # type: ignore[no-untyped-def]
    wavelength, flux, variance = observed
    good = fit_spectra(wavelength, flux, variance, redshift=REDSHIFT, checkpoint=checkpoint)
    spoiled = flux.copy()
    spoiled[3], spoiled[7] = np.nan, -1.0
    bad = fit_spectra(wavelength, spoiled, variance, redshift=REDSHIFT, checkpoint=checkpoint)
    rest = np.setdiff1d(np.arange(12), [3, 7])
    np.testing.assert_array_equal(bad.log_age[rest], good.log_age[rest])
    for name in ("log_age", "metallicity", "av"):
        assert np.isnan(getattr(bad, name)[[3, 7]]).all()
    assert bad.status[3] & Status.NO_DATA
    assert bad.status[7] & Status.NOT_POSITIVE
    assert not (bad.status[rest] & NOT_FITTED).any()


def test_one_spectrum_may_be_given_alone(observed, checkpoint: Path) -> None:  # type: ignore[no-untyped-def]
    wavelength, flux, variance = observed
    one = fit_spectra(wavelength, flux[2], variance[2], redshift=REDSHIFT, checkpoint=checkpoint)
    many = fit_spectra(wavelength, flux, variance, redshift=REDSHIFT, checkpoint=checkpoint)
    assert len(one) == 1
    np.testing.assert_array_equal(one.grid[0], many.grid[2])


def test_the_reddest_and_oldest_answers_are_flagged(observed, checkpoint: Path) -> None:  # type: ignore[no-untyped-def]
    wavelength, flux, variance = observed
    chosen = settings(wavelength)
    prepared = prepare_block(flux.T.reshape(-1, 1, 12), variance.T.reshape(-1, 1, 12), None, chosen)

    found = answers(12)
    found.grid[:] = 0.0
    found.grid[:6, 5, 52], found.grid[6:, 5, 25] = 1.0, 1.0
    found.av[:] = np.where(np.arange(12) % 2 == 0, 2.99, 1.5)  # this model knows A_V up to 3
    found.model[11] = found.grid[11] = np.nan
    stub = Stub(shared_predictor(checkpoint, None, "cpu"), found)
    status = finish_block(predict_block(prepared, chosen, stub), chosen).maps["status"][0]  # type: ignore[arg-type]
    assert ((status & Status.AGE_BOUNDARY) > 0).tolist() == [True] * 6 + [False] * 6
    assert ((status & Status.AV_BOUNDARY) > 0).tolist() == [*([True, False] * 6)[:11], False]
    assert status[11] & Status.FAILED


def test_noise_and_calibration_error_reach_the_model(observed, checkpoint: Path) -> None:  # type: ignore[no-untyped-def]
    wavelength, flux, variance = observed
    flux = flux.copy()
    flux[2, (wavelength > 5900) & (wavelength < 6000)] = np.nan
    chosen = replace(settings(wavelength), flux_calibration_error=0.02)
    columns = (values.T.reshape(-1, 1, 12) for values in (flux, variance))
    prepared = prepare_block(*columns, None, chosen)
    stub = Stub(shared_predictor(checkpoint, None, "cpu"), answers(12))
    predict_block(prepared, chosen, stub)  # type: ignore[arg-type]
    ((spectra, noise, calibration),) = stub.asked
    assert calibration == 0.02
    assert spectra is prepared.batch.spectra
    gap = (WAVELENGTH[KEPT] * (1 + REDSHIFT) > 5903) & (WAVELENGTH[KEPT] * (1 + REDSHIFT) < 5997)
    assert np.isinf(noise[2, gap]).all()
    assert np.isfinite(noise[3, gap]).all()
    # 3 % of the flux in a channel, and two channels in a sample.
    np.testing.assert_allclose(np.median(noise, axis=1), 0.03 / np.sqrt(2), rtol=0.1)


def test_a_refining_network_s_answer_depends_on_the_calibration_error(observed, checkpoint: Path) -> None:  # type: ignore[no-untyped-def]
    wavelength, flux, variance = observed
    refined = shared_predictor(checkpoint, None, "cpu").model.refinement is not None
    one, two = (
        fit_spectra(wavelength, flux, variance, redshift=REDSHIFT, checkpoint=checkpoint, flux_calibration_error=error)
        for error in (0.0, 0.03)
    )
    assert np.array_equal(one.log_age, two.log_age) != refined
    assert (np.abs(one.velocity).max() > 0) == (one.dispersion.max() > 0) == refined


def test_what_stands_in_a_gap_matters_to_no_stage(observed, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Only the blocks see it, as the line that fills it."""
    wavelength, flux, variance = observed
    flux = flux.copy()
    flux[:, (wavelength > 5900) & (wavelength < 6000)] = np.nan
    chosen = settings(wavelength)
    columns = (values.T.reshape(-1, 1, 12) for values in (flux, variance))
    batch = prepare_block(*columns, None, chosen).batch
    model = surveys.random_model(5, refined=True).eval()
    assert model.refinement is not None
    noise = torch.from_numpy(batch.noise)
    other = np.where(np.isinf(batch.noise), np.float32(3.0), batch.spectra)
    assert (other != batch.spectra).any(axis=1).all()
    calibration = torch.full((12,), 0.01)
    with torch.inference_mode():
        start = model(torch.from_numpy(batch.spectra), noise, calibration).answers[0]
        first, second = (
            model.refinement(Observation(torch.from_numpy(flux), noise, *[calibration] * 3), start)[-1]
            for flux in (batch.spectra, other)
        )
        assert torch.equal(first.grid_logits, second.grid_logits)
        known = torch.where(noise.isinf(), 0.02, noise)
        third = model.refinement(
            Observation(torch.from_numpy(other), known, calibration, calibration, calibration), start
        )[-1]
    assert not torch.equal(first.grid_logits, third.grid_logits)


def test_kinematics_are_in_the_model_and_in_both_cubes(observed, checkpoint: Path) -> None:  # type: ignore[no-untyped-def]
    """The continuum on the native channels moves and broadens with the answer, and bad spectra have none."""
    wavelength, flux, variance = observed
    chosen = settings(wavelength)
    variance = variance.copy()
    variance[4] = np.nan
    columns = [values.T.reshape(-1, 1, 12) for values in (flux, variance)]
    prepared = prepare_block(*columns, None, chosen)
    real = shared_predictor(checkpoint, None, "cpu")
    found = answers(11)
    found.dispersion[:], found.velocity[:] = 150.0, 80.0
    fine = real.checkpoint.decoder.fine_spectra(torch.from_numpy(found.grid), torch.from_numpy(found.av))
    moved = move(fine.double().numpy(), 150.0, np.array([80.0]))[0]
    moved /= np.median(moved[:, KEPT], axis=1)[:, None]
    fitted = predict_block(prepared, chosen, Stub(real, found._replace(model=moved)))  # type: ignore[arg-type]
    products = finish_block(fitted, chosen)
    continuum = np.delete(flux.T - products.cubes["continuum_subtracted"][:, 0], 4, axis=1)
    continuum = np.nan_to_num(continuum / prepared.batch.flux[prepared.batch.fitted])
    again, _ = rebin_to_rest(continuum, np.ones_like(continuum), np.ones_like(continuum, bool), chosen.preprocess)
    np.testing.assert_allclose(again[:, 2:-2], moved[:, 2:-2], rtol=2e-3)
    result = populations_of(fitted)
    assert np.isnan([result.dispersion[4], result.velocity[4]]).all()
    np.testing.assert_array_equal(np.delete(result.dispersion, 4), 150.0)
    np.testing.assert_array_equal(np.delete(result.velocity, 4), 80.0)


def test_the_range_of_the_calibration_error_is_the_trained_one() -> None:
    field = GalaxyConfig.model_fields["flux_calibration_error"]
    default = signature(fit_spectra).parameters["flux_calibration_error"].default
    assert default == field.default == BlockSettings.flux_calibration_error == 0.01
    assert str(ArtefactConfig().calibration) in str(field.metadata)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"wavelength": np.arange(10.0)[::-1]}, "one increasing axis"),
        ({"flux": np.ones((2, 7))}, r"flux: shape \(2, 7\)"),
        ({"redshift": 0.5}, r"at redshift 0.5 the model needs"),
        ({"redshift": np.nan}, r"redshift = nan: expected"),
        ({"ebv": -0.1}, r"ebv = -0.1: expected"),
        ({"law": "XX"}, r"law = 'XX': expected one of O94"),
        ({"flux_calibration_error": 0.031}, r"flux_calibration_error = 0.031: expected .* from 0 to 0.03"),
        ({"flux_calibration_error": -0.01}, r"flux_calibration_error = -0.01: expected"),
        ({"flux_calibration_error": np.nan}, r"flux_calibration_error = nan: expected"),
        ({"device": "gpu"}, r"device = 'gpu'"),
        ({"variance": np.ones((3, 3))}, "variance: shape"),
    ],
)
def test_mistakes_are_told(arguments, message, observed, checkpoint: Path) -> None:  # type: ignore[no-untyped-def]
    wavelength, flux, variance = observed
    call = {"wavelength": wavelength, "flux": flux, "variance": variance, "redshift": REDSHIFT} | arguments
    with pytest.raises(ValueError, match=message):
        fit_spectra(call.pop("wavelength"), call.pop("flux"), call.pop("variance"), checkpoint=checkpoint, **call)


def test_young_and_old_are_told_apart_by_the_shipped_model() -> None:
    from galprote.model.checkpoint import load_checkpoint

    decoder = load_checkpoint().decoder
    grid = torch.zeros(4, 12, 53)
    for i, (z, age) in enumerate([(8, 6), (8, 20), (8, 46), (4, 46)]):
        grid[i, z, age] = 1.0
    av = torch.tensor([0.2, 0.8, 0.3, 0.3])
    wavelength = channels(REDSHIFT)
    flux = integrate(decoder.fine_spectra(grid, av).double().numpy(), edges(wavelength) / (1 + REDSHIFT))
    noisy = flux * (1 + 0.02 * np.random.default_rng(2).normal(size=flux.shape))
    result = fit_spectra(wavelength, noisy, (0.02 * flux) ** 2, redshift=REDSHIFT)
    true_age = decoder.log_ages[[6, 20, 46, 46]]
    assert np.abs(result.log_age - true_age).max() < 0.4
    assert np.abs(result.av - av.numpy()).max() < 0.35
    assert result.metallicity[2] - result.metallicity[3] > 0.5
