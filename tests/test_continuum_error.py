"""The model spectrum's error on native channels, and that of what is left when the model is subtracted."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from galprote.model.appraisal import PARTS, part_masks
from galprote.model.checkpoint import load_checkpoint
from galprote.model.grids import EMISSION_BANDS, WAVELENGTH
from galprote.model.predictor import Predictor
from galprote.model.refinement import WINDOWS
from galprote.pipeline.block import finish_block, predict_block, prepare_block
from galprote.pipeline.continuum_error import spread_parts
from galprote.pipeline.native_continuum import native_continuum_error
from galprote.pipeline.rest_frame import foreground_extinction
from tests import surveys
from tests.test_spectra import settings

NATIVE = np.asarray(surveys.FIRST_CHANNEL + 1.25 * np.arange(surveys.CHANNELS), dtype=np.float64)


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


def test_between_the_windows_middles_errors_are_interpolated() -> None:
    """Of neighbours, in proportion to the distance; beyond the outer middles the outer windows' own."""
    middles = np.array([WAVELENGTH[mask].mean() for mask in part_masks().numpy()[:WINDOWS]])
    assert (np.diff(middles) > 0).all()
    checked = 0
    for k, share in product(range(WINDOWS - 1), (0.1, 0.5, 0.8)):
        wavelength = middles[k] + share * (middles[k + 1] - middles[k])
        if any(first <= wavelength <= last for _, first, last in EMISSION_BANDS):
            continue
        wanted = np.zeros(PARTS)
        wanted[[k, k + 1]] = 1 - share, share
        np.testing.assert_allclose(spread_parts(np.array([wavelength]))[0], wanted, atol=1e-5)
        checked += 1
    assert checked > 2 * WINDOWS
    np.testing.assert_array_equal(spread_parts(np.array([3000.0, 9000.0])), np.eye(PARTS)[[0, WINDOWS - 1]])


@pytest.mark.parametrize("redshift", [0.0, 0.02])
def test_one_error_everywhere_is_one_error_on_every_channel(redshift: float) -> None:
    """Bands or not, whatever the redshift; dimmed as the light is, in proportion to the flux, spectrum by spectrum."""
    chosen = replace(settings(NATIVE, ebv=0.2).preprocess, redshift=redshift)
    parts = np.array([[0.01], [0.04], [np.nan]], np.float32).repeat(PARTS, axis=1)
    error = native_continuum_error(parts, np.array([500.0, 2.0, 7.0], np.float32), chosen)
    assert error.shape == (len(NATIVE), 3)
    dim = 10 ** (-0.4 * foreground_extinction(chosen))
    assert dim.max() < 0.8
    np.testing.assert_allclose(error, dim[:, None] * [5.0, 0.08, 0.0], rtol=1e-5)


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
    variance[500, 0, 2], variance[501, 0, 2] = 0.0, np.nan
    chosen = replace(settings(NATIVE), residual=False, grid=False)
    fitted = predict_block(prepare_block(flux, variance, None, chosen), chosen, predictor)
    products = finish_block(fitted, chosen)
    error = products.cubes["continuum_subtracted_error"]
    usable = variance > 0
    assert np.isnan(error[~usable]).all()
    assert fitted.continuum_error is not None
    model = fitted.continuum_error.reshape(error.shape)
    assert (model > 0).all() if appraised else (model == 0).all()
    np.testing.assert_allclose(error[usable], np.sqrt(variance[usable] + model[usable] ** 2), rtol=1e-5)
