"""The model spectrum's error on native channels, and that of what is left when the model is subtracted."""

from dataclasses import replace

import numpy as np
import pytest

from galprote.model.appraisal import PARTS, part_masks
from galprote.model.checkpoint import load_checkpoint
from galprote.model.grids import EMISSION_BANDS, WAVELENGTH
from galprote.model.predictor import Predictor
from galprote.model.refinement import WINDOWS
from galprote.pipeline.block import finish_block, native_continuum_error, predict_block, prepare_block
from galprote.pipeline.continuum_error import spread_parts
from galprote.pipeline.preprocess import foreground_extinction
from tests import surveys
from tests.test_spectra import settings

NATIVE = surveys.FIRST_CHANNEL + 1.25 * np.arange(surveys.CHANNELS)


def test_every_wavelength_has_one_error() -> None:
    weights = spread_parts(np.linspace(4700, 7150, 3001))
    assert weights.shape == (3001, PARTS)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-6)
    assert (weights >= 0).all()


def test_bands_have_their_own_and_windows_share() -> None:
    for number, (_, first, last) in enumerate(EMISSION_BANDS):
        inside = spread_parts(np.array([first, (first + last) / 2, last]))
        assert (inside[:, WINDOWS + number] == 1).all()
        assert spread_parts(np.array([first - 0.1, last + 0.1]))[:, WINDOWS:].max() == 0
    middles = np.array([WAVELENGTH[mask].mean() for mask in part_masks().numpy()[:WINDOWS]])
    clear = [k for k in range(WINDOWS) if not any(a <= middles[k] <= b for _, a, b in EMISSION_BANDS)]
    np.testing.assert_allclose(spread_parts(middles)[clear][:, :WINDOWS], np.eye(WINDOWS)[clear], atol=1e-6)


def test_errors_move_with_the_galaxy_and_stand_behind_the_dust() -> None:
    chosen = settings(NATIVE, ebv=0.3).preprocess
    parts = np.zeros((1, PARTS), np.float32)
    parts[0, WINDOWS] = 0.02  # H-beta's band
    error = native_continuum_error(parts, np.array([500.0], np.float32), chosen)[:, 0]
    rest = NATIVE / (1 + chosen.redshift)
    _, first, last = EMISSION_BANDS[0]
    np.testing.assert_array_equal(error > 0, (rest >= first) & (rest <= last))
    dim = 10 ** (-0.4 * foreground_extinction(chosen))
    np.testing.assert_allclose(error[error > 0], (10.0 * dim)[error > 0], rtol=1e-5)


@pytest.mark.parametrize("appraised", [True, False])
def test_the_cubes_error_is_noise_and_model(appraised: bool) -> None:
    checkpoint = load_checkpoint()
    predictor = Predictor(checkpoint)
    if not appraised:
        predictor.model.appraisal = None
    flux, variance = (values.reshape(-1, 3, 4) for values in surveys.spectra(12))
    variance = variance.copy()
    variance[300:310, 1, 1] = -1.0
    chosen = replace(settings(NATIVE), residual=False, grid=False)
    fitted = predict_block(prepare_block(flux, variance, None, chosen), chosen, predictor)
    products = finish_block(fitted, chosen)
    error = products.cubes["continuum_subtracted_error"]
    usable = variance > 0
    assert np.isnan(error[~usable]).all()
    assert fitted.continuum_error is not None
    model = fitted.continuum_error.reshape(error.shape)
    assert bool((model > 0).any()) == appraised
    np.testing.assert_allclose(error[usable], np.sqrt(variance[usable] + model[usable] ** 2), rtol=1e-5)
