"""`fit_spectra`, and the block that it shares with the cubes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from galprote.model.checkpoint import save_checkpoint
from galprote.model.grids import KEPT
from galprote.model.transformer import GalProTE, ModelConfig
from galprote.pipeline import fit_spectra
from galprote.pipeline.block import BlockSettings, finish_block, predict_block, prepare_block
from galprote.pipeline.line_filter import LineFilterConfig, template_allowance
from galprote.pipeline.preprocess import PreprocessSettings, rebin_to_rest
from galprote.pipeline.quality import NOT_FITTED, Status
from galprote.pipeline.readers.axis import vacuum_to_air
from tests.libraries import synthetic_decoder
from tests.test_preprocess import channels, fine_templates, integrate
from tests.test_preprocess import edges_of as edges

REDSHIFT = 0.01


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_checkpoint(path, GalProTE(ModelConfig(channels=2, projection_rank=8)).eval(), synthetic_decoder(), {})
    return path


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
    return BlockSettings(preprocess, residual=True, continuum_subtracted=True, light_grid=True)


def test_spectra_and_cubes_take_the_same_path(observed, checkpoint: Path) -> None:  # type: ignore[no-untyped-def]
    from galprote.model.predictor import shared_predictor

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
    np.testing.assert_array_equal(products.cubes["light_grid"].reshape(12, 53, 12), np.moveaxis(result.grid, 0, -1))


def test_observed_is_model_plus_residual(observed, checkpoint: Path) -> None:  # type: ignore[no-untyped-def]
    from galprote.model.predictor import shared_predictor

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
    np.testing.assert_array_equal(given.log_age, estimated.log_age)
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
    from galprote.model.predictor import shared_predictor

    wavelength, flux, variance = observed
    chosen = settings(wavelength)
    prepared = prepare_block(flux.T.reshape(-1, 1, 12), variance.T.reshape(-1, 1, 12), None, chosen)

    real = shared_predictor(checkpoint, None, "cpu")

    class Stub:
        checkpoint = real.checkpoint
        model = real.model

        def __call__(self, spectra: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
            grid = np.zeros((12, 12, 53), np.float32)
            grid[:6, 5, 52], grid[6:, 5, 25] = 1.0, 1.0
            av = np.where(np.arange(12) % 2 == 0, 1.49, 0.3).astype(np.float32)
            model = np.ones((12, 948), np.float32)
            model[11] = np.nan
            grid[11] = np.nan
            return grid, av, model

    status = finish_block(predict_block(prepared, chosen, Stub()), chosen).maps["status"][0]  # type: ignore[arg-type]
    assert ((status & Status.AGE_BOUNDARY) > 0).tolist() == [True] * 6 + [False] * 6
    assert ((status & Status.AV_BOUNDARY) > 0).tolist() == [*([True, False] * 6)[:11], False]
    assert status[11] & Status.FAILED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"wavelength": np.arange(10.0)[::-1]}, "one increasing axis"),
        ({"flux": np.ones((2, 7))}, r"flux: shape \(2, 7\)"),
        ({"redshift": 0.5}, r"at redshift 0.5 the model needs"),
        ({"redshift": np.nan}, r"redshift = nan: expected"),
        ({"ebv": -0.1}, r"ebv = -0.1: expected"),
        ({"law": "XX"}, r"law = 'XX': expected one of O94"),
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
