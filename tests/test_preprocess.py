"""Physics of the preprocessing: a spectrum that was redshifted, reddened and integrated over pixels comes back."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.special import ndtr

from galprote.model.checkpoint import load_checkpoint
from galprote.model.decoder import FINE_EDGES
from galprote.model.extinction import EXTINCTION_LAWS, extinction_curve
from galprote.model.grids import EDGES, KEPT, STEP, WAVELENGTH
from galprote.model.medians import pick, row_median
from galprote.pipeline.line_filter import clean_spectra, template_allowance
from galprote.pipeline.line_filter_config import LineFilterConfig
from galprote.pipeline.preprocess import OF_FITTED, TILE, preprocess
from galprote.pipeline.quality import Status
from galprote.pipeline.rebin import edges_of, rebin_matrix
from galprote.pipeline.rest_frame import PreprocessSettings, rebin_to_rest
from galprote.pipeline.running_median import running_median
from tests.libraries import synthetic_decoder

TEMPLATES = (0, 25, 5 * 53 + 20, 8 * 53 + 45, 11 * 53 + 52)


def options(wavelength: NDArray[np.float64], redshift: float = 0.0, **changes: object) -> PreprocessSettings:
    values: dict[str, object] = {
        "wavelength": tuple(wavelength.tolist()),
        "redshift": redshift,
        "ebv": 0.0,
        "law": "O94",
        "r_v": 3.1,
        "line_filter": LineFilterConfig(),
        "snr_min": 0.0,
        "max_filled": 0.25,
    }
    return PreprocessSettings(**(values | changes))  # type: ignore[arg-type]


def channels(redshift: float, sampling: float = 1.25, offset: float = 0.0) -> NDArray[np.float64]:
    """Native channels that cover the window with a little to spare."""
    first = (EDGES[0] - 4) * (1 + redshift) + offset
    return first + sampling * np.arange(int((EDGES[-1] - EDGES[0] + 8) * (1 + redshift) / sampling))


def fine_templates(av: float = 0.0) -> NDArray[np.float64]:
    grid = torch.eye(636)[list(TEMPLATES)].reshape(-1, 12, 53)
    spectra = synthetic_decoder().fine_spectra(grid, torch.full((len(TEMPLATES),), av))
    return spectra.double().numpy()


def integrate(fine: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean flux density of fine spectra in bins of rest-frame wavelength, exact to far below a permille."""
    total = np.concatenate([np.zeros((len(fine), 1)), np.cumsum(fine * np.diff(FINE_EDGES), axis=1)], axis=1)
    return np.diff(CubicSpline(FINE_EDGES, total, axis=1)(edges), axis=1) / np.diff(edges)


@settings(max_examples=40)
@given(
    redshift=st.floats(0.0, 0.1),
    sampling=st.floats(0.3, 1.25),
    offset=st.floats(-1.0, 1.0),
    ebv=st.floats(0.0, 0.5),
    law=st.sampled_from(EXTINCTION_LAWS),
)
def test_a_redshifted_reddened_template_comes_back(
    redshift: float, sampling: float, offset: float, ebv: float, law: str
) -> None:
    wavelength = channels(redshift, sampling, offset)
    fine = fine_templates(av=0.4)
    observed = integrate(fine, edges_of(wavelength) / (1 + redshift))
    observed *= 10 ** (-0.4 * 3.1 * ebv * extinction_curve(wavelength, law))  # type: ignore[arg-type]
    flux = observed.T.astype(np.float32)
    chosen = options(wavelength, redshift, ebv=ebv, law=law)
    rest, _ = rebin_to_rest(flux, np.ones_like(flux), np.ones_like(flux, bool), chosen)
    wanted = integrate(fine, EDGES)
    rms = np.sqrt(np.mean((rest / wanted - 1) ** 2, axis=1))
    assert (rms < 2e-3).all()


@given(st.integers(0, 2**31), st.floats(0.8, 3.0), st.floats(0.0, 1.0))
def test_rebinning_conserves_flux_whatever_the_spectrum(seed: int, sampling: float, offset: float) -> None:
    random = np.random.default_rng(seed)
    inner = np.arange(5000.0, 5200.0, sampling)
    output = np.arange(5010.0 + offset, 5180.0, 2.48)
    flux = random.normal(1, 0.5, len(inner) - 1)
    total = (rebin_matrix(inner, output) @ flux) @ np.diff(output)
    # Between the same two edges the input's own flux, with what the cubic says of the two pixels that are cut.
    cumulative = np.concatenate([[0], np.cumsum(flux * np.diff(inner))])
    low, high = (np.interp(edge, inner, cumulative) for edge in (output[0], output[-1]))
    assert total == pytest.approx(high - low, abs=3 * sampling)
    whole = rebin_matrix(inner, inner[[0, *range(3, len(inner) - 3, 4), -1]])
    np.testing.assert_allclose(
        (whole @ flux) @ np.diff(inner[[0, *range(3, len(inner) - 3, 4), -1]]), cumulative[-1], rtol=1e-5
    )


def test_rebinning_is_the_identity_between_equal_samples() -> None:
    edges = np.arange(5000.0, 5100.0, 1.25)
    np.testing.assert_allclose(rebin_matrix(edges, edges).toarray(), np.eye(len(edges) - 1), atol=1e-6)


def test_a_constant_stays_constant_and_half_a_sample_may_stick_out() -> None:
    edges = np.arange(5001.24, 5100.0, 1.25)
    coverage = np.asarray(rebin_matrix(edges, np.arange(5000.0, 5090.0, 2.48)).sum(axis=1))
    assert coverage[0] == pytest.approx(0.5, abs=1e-5)
    np.testing.assert_allclose(coverage[1:], 1.0, atol=1e-6)


def test_more_nodes_keep_lines_narrower() -> None:
    native, output = np.arange(5000.0, 5200.0, 1.25), np.arange(5020.0, 5180.0, 1.1)

    def line(edges: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean flux in the samples of a line two channels wide, of area one."""
        return np.diff(ndtr((edges - 5100.3) / 1.06)) / np.diff(edges)

    missed = []
    for nodes in (4, 6, 8):
        matrix = rebin_matrix(native, output, nodes=nodes)
        assert (matrix @ line(native)) @ np.diff(output) == pytest.approx(1.0, abs=1e-6)
        np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-6)
        missed.append(np.abs(matrix @ line(native) - line(output)).max() / line(output).max())
    assert 0.07 > missed[0] > 1.4 * missed[1] > 1.6 * missed[2]


def test_rebinning_gains_signal_to_noise_and_the_variance_follows() -> None:
    wavelength = channels(0.008)
    random = np.random.default_rng(1)
    sigma = np.linspace(0.02, 0.05, len(wavelength))[:, None].astype(np.float32)
    noise = (1 + sigma * random.normal(size=(len(wavelength), 4000))).astype(np.float32)
    chosen = options(wavelength, 0.008, ebv=0.3)
    rest, variance = rebin_to_rest(noise, np.broadcast_to(sigma**2, noise.shape), np.ones_like(noise, bool), chosen)
    np.testing.assert_allclose(rest.var(axis=0) / variance[0], 1.0, atol=0.12)  # Monte Carlo: 2.2 % each
    assert rest.var(axis=0).sum() / variance[0].sum() == pytest.approx(1.0, abs=0.005)
    gain = (rest.mean(0) / np.sqrt(variance[0])).mean() / np.median(1 / sigma)
    assert gain > 1.3  # two channels and a bit: sqrt(2.0) less the cubic's sharpening


def test_dereddening_multiplies_the_variance_by_the_square() -> None:
    wavelength = channels(0.0)
    flux = np.ones((len(wavelength), 1), np.float32)
    valid = np.ones_like(flux, bool)
    plain = rebin_to_rest(flux, flux, valid, options(wavelength))
    red = rebin_to_rest(flux, flux, valid, options(wavelength, ebv=0.5))
    factor = 10 ** (0.4 * 0.5 * 3.1 * extinction_curve(WAVELENGTH))
    np.testing.assert_allclose(red[0] / plain[0], factor[None], rtol=2e-4)
    np.testing.assert_allclose(red[1] / plain[1], factor[None] ** 2, rtol=4e-4)


def test_foreground_dust_acts_at_observed_wavelengths() -> None:
    wavelength = channels(0.1)
    flux = np.ones((len(wavelength), 1), np.float32)
    rest, _ = rebin_to_rest(flux, flux, np.ones_like(flux, bool), options(wavelength, 0.1, ebv=0.5))
    factor = 10 ** (0.4 * 0.5 * 3.1 * extinction_curve(WAVELENGTH * 1.1))
    np.testing.assert_allclose(rest[0], factor, rtol=3e-4)


@given(st.integers(0, 2**31))
def test_what_stands_in_bad_channels_does_not_matter(seed: int) -> None:
    random = np.random.default_rng(seed)
    wavelength = channels(0.002)
    flux = random.normal(1, 0.03, (len(wavelength), 4)).astype(np.float32)
    variance = np.full_like(flux, 9e-4)
    bad = random.random(flux.shape) < 0.05
    bad[700:760, 2] = True
    one, two = flux.copy(), flux.copy()
    one[bad], two[bad] = np.nan, 1e6
    spoiled = np.where(bad, random.choice([0.0, -1.0, np.nan, np.inf], flux.shape), variance).astype(np.float32)
    a = preprocess(one, variance, options(wavelength, 0.002))
    b = preprocess(two, spoiled, options(wavelength, 0.002))
    np.testing.assert_array_equal(a.spectra, b.spectra)
    np.testing.assert_array_equal(a.noise, b.noise)
    np.testing.assert_array_equal(a.rebinned, b.rebinned)
    np.testing.assert_array_equal(a.snr, b.snr)
    assert ((b.status & Status.BAD_VARIANCE) > 0).all()
    assert ((a.status & Status.BAD_VARIANCE) == 0).all()


def test_the_notch_of_adaptive_optics_is_filled_and_counted() -> None:
    wavelength = channels(0.008)
    flux = np.ones((len(wavelength), 3), np.float32)
    flux[(wavelength > 5806.25) & (wavelength < 5963.75)] = np.nan
    batch = preprocess(flux, np.full_like(flux, 1e-4), options(wavelength, 0.008))
    assert batch.fitted.all()
    expected = (5963.75 - 5806.25) / 1.008 / STEP / KEPT.sum()
    np.testing.assert_allclose(batch.filled_fraction, expected, atol=2 / KEPT.sum())
    assert (batch.status == 0).all()  # or every spaxel of such a galaxy would carry a remark
    np.testing.assert_allclose(batch.spectra, 1.0, atol=1e-5)
    assert np.isnan(batch.rebinned).sum() == 3 * round(expected * KEPT.sum())


def test_more_than_the_notch_is_remarked_on() -> None:
    wavelength = channels(0.008)
    flux = np.ones((len(wavelength), 2), np.float32)
    flux[(wavelength > 5806.25) & (wavelength < 6070)] = np.nan
    assert (preprocess(flux, np.full_like(flux, 1e-4), options(wavelength, 0.008)).status == Status.FILLED).all()


def test_spectra_that_cannot_be_fitted_say_why() -> None:
    wavelength = channels(0.0)
    random = np.random.default_rng(3)
    flux = random.normal(1, 0.02, (len(wavelength), 6)).astype(np.float32)
    variance = np.full_like(flux, 4e-4)
    flux[:, 0] = np.nan
    flux[:, 2] *= -1
    flux[100:900, 3] = np.nan
    variance[:, 4] = 100.0
    excluded = np.array([0, Status.EXCLUDED, 0, 0, 0, 0], dtype=np.int32)
    batch = preprocess(flux, variance, options(wavelength, snr_min=3.0), excluded)
    wanted = [Status.NO_DATA, Status.EXCLUDED, Status.NOT_POSITIVE, Status.INCOMPLETE, Status.LOW_SNR]
    for bits, bit in zip(batch.status, wanted, strict=False):
        assert bits & bit
    assert batch.fitted.tolist() == [False] * 5 + [True]
    assert batch.spectra.shape == (1, 876)
    assert np.isnan(batch.flux[:2]).all()


def noisy(n: int, seed: int = 11) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]:
    """Wavelength, flux (m, n) of levels from 1 to 30 with noise of 3 %, variance."""
    wavelength = channels(0.004)
    level = np.linspace(1, 30, n)
    flux = level * np.random.default_rng(seed).normal(1, 0.03, (len(wavelength), n))
    variance = np.broadcast_to((0.03 * level) ** 2, flux.shape)
    return wavelength, flux.astype(np.float32), variance.astype(np.float32)


def test_noise_is_the_scatter_relative_to_the_median() -> None:
    wavelength, flux, variance = noisy(300)
    batch = preprocess(flux, variance, options(wavelength, 0.004))
    used = batch.used[:, KEPT]
    assert used.mean() > 0.99
    assert batch.noise.dtype == np.float32
    assert batch.noise.shape == batch.spectra.shape
    pull = ((batch.spectra - 1) / batch.noise)[used]
    assert pull.std() == pytest.approx(1.0, abs=0.02)
    np.testing.assert_allclose(np.median(batch.noise, axis=1), 1 / batch.snr, rtol=0.01)
    four = preprocess(flux, 4 * variance, options(wavelength, 0.004))
    np.testing.assert_array_equal(four.noise, 2 * batch.noise)


def test_noise_follows_the_variance_along_the_spectrum() -> None:
    wavelength, flux, variance = noisy(20)
    variance = np.where(wavelength[:, None] > 6000, 9 * variance, variance).astype(np.float32)
    batch = preprocess(flux, variance, options(wavelength, 0.004))
    red = WAVELENGTH[KEPT] * 1.004 > 6000
    noise = np.where(np.isinf(batch.noise), np.nan, batch.noise)
    ratio = np.nanmedian(noise[:, red], axis=1) / np.nanmedian(noise[:, ~red], axis=1)
    np.testing.assert_allclose(ratio, 3.0, rtol=0.02)


def test_the_flux_unit_does_not_change_the_noise() -> None:
    wavelength, flux, variance = noisy(20)
    one = preprocess(flux, variance, options(wavelength, 0.004))
    for factor in (1000.0, 1e-12):
        other = preprocess(flux * np.float32(factor), variance * np.float32(factor**2), options(wavelength, 0.004))
        np.testing.assert_allclose(other.noise, one.noise, rtol=1e-5)


def test_samples_that_say_nothing_have_infinite_noise() -> None:
    """Those without data, those with bad variances and those that the line filter replaced; all others have some."""
    wavelength, flux, variance = noisy(6)
    rest = wavelength / 1.004
    notch, bad, line = (np.abs(rest - centre) < half for centre, half in ((5850, 60), (6100, 15), (5411.5, 1.5)))
    flux[notch, 0] = np.nan
    variance[bad, 1] = (np.arange(bad.sum()) % 3 - 1.0) * np.where(np.arange(bad.sum()) % 3 == 2, np.nan, 1)
    flux[line, 2] *= 3
    batch = preprocess(flux, variance, options(wavelength, 0.004))
    assert batch.fitted.all()
    kept = WAVELENGTH[KEPT]
    for row, (centre, half) in enumerate(((5850, 55), (6100, 12), (5411.5, 1.5))):
        assert np.isinf(batch.noise[row, np.abs(kept - centre) < half]).all()
        assert np.isfinite(batch.noise[row, np.abs(kept - centre) > half + 20]).mean() > 0.99
    assert batch.replaced[2] >= 3
    np.testing.assert_array_equal(np.isfinite(batch.noise), batch.used[:, KEPT])
    assert (batch.noise > 0).all()  # nor is any NaN


@given(st.integers(0, 2**31), st.floats(-44, 36))
def test_noise_is_never_zero_or_nan(seed: int, exponent: float) -> None:
    """Whatever stands in the cube, and however small its unit makes the variances."""
    random = np.random.default_rng(seed)
    wavelength, flux, variance = noisy(4, seed % 1000)
    strange = random.choice([0.0, -1.0, np.nan, np.inf, 1e-45, 1e38], variance.shape)
    variance = np.where(random.random(variance.shape) < 0.02, strange, variance * 10**exponent).astype(np.float32)
    flux[random.random(flux.shape) < 0.02] = np.nan
    with np.errstate(all="ignore"):
        batch = preprocess(flux, variance, options(wavelength, 0.004))
    assert (batch.noise > 0).all()
    assert np.isinf(batch.noise[~batch.used[:, KEPT]]).all()


def test_no_variance_at_all_is_no_data() -> None:
    wavelength = channels(0.0)
    flux = np.ones((len(wavelength), 2), np.float32)
    batch = preprocess(flux, np.zeros_like(flux), options(wavelength))
    assert ((batch.status & Status.NO_DATA) > 0).all()
    assert not batch.fitted.any()


def test_nothing_to_do_is_done_quickly() -> None:
    wavelength = channels(0.0)
    empty = np.full((len(wavelength), 5), np.nan, np.float32)
    batch = preprocess(empty, empty, options(wavelength))
    assert batch.spectra.shape == (0, 876)
    assert (batch.status == Status.NO_DATA).all()


def test_snr_is_that_of_a_sample_of_2_48_angstrom() -> None:
    wavelength = channels(0.0)
    random = np.random.default_rng(4)
    flux = random.normal(1, 0.05, (len(wavelength), 400)).astype(np.float32)
    batch = preprocess(flux, np.full_like(flux, 0.05**2), options(wavelength))
    scatter = (batch.rebinned[:, KEPT] - 1).std()
    assert batch.snr.mean() == pytest.approx(1 / scatter, rel=0.01)


@pytest.mark.parametrize("template", range(len(TEMPLATES)))
def test_stellar_features_are_left_alone(template: int) -> None:
    clean = integrate(fine_templates(), EDGES)[template : template + 1]
    random = np.random.default_rng(template)
    noisy = (clean * (1 + 0.02 * random.normal(size=(200, 948)))).astype(np.float32)
    _, replaced = clean_spectra(noisy, 0.01, LineFilterConfig())
    # Three samples go with one outlier: at 5 sigma noise alone gives next to none.
    assert replaced[:, KEPT].mean() < 0.002


def test_no_shipped_template_loses_anything_even_without_noise() -> None:
    decoder = load_checkpoint().decoder
    spectra = decoder.templates() * 10 ** (-0.4 * 0.7 * decoder.attenuation())
    allowance = template_allowance(decoder, LineFilterConfig())
    assert 0.01 < max(allowance) < 0.2
    # At this redshift no night-sky line falls on a deep stellar one.
    cleaned, replaced = clean_spectra(spectra.numpy(), 0.012, LineFilterConfig(), allowance)
    assert not replaced.any()
    np.testing.assert_array_equal(cleaned[:, KEPT], spectra.numpy()[:, KEPT])
    # Without what is known of the templates, the shoulders of deep lines would pass for emission.
    assert clean_spectra(spectra.numpy(), 0.012, LineFilterConfig())[1].any(axis=1).mean() > 0.3


def test_emission_in_the_bands_spoils_nothing_beside_them() -> None:
    flux = np.random.default_rng(9).normal(1, 0.01, (50, 948)).astype(np.float32)
    bright = np.where(KEPT, flux, np.float32(50.0))
    one, two = (clean_spectra(spectra, 0.0, LineFilterConfig()) for spectra in (flux, bright))
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])


def test_bright_lines_are_replaced_and_absorption_stays() -> None:
    flux = np.random.default_rng(5).normal(1, 0.01, (50, 948)).astype(np.float32)
    line = int(np.argmin(np.abs(WAVELENGTH - 5875.6)))
    flux[:, line - 1 : line + 2] += np.array([0.3, 0.8, 0.3], np.float32)
    absorption = int(np.argmin(np.abs(WAVELENGTH - 5270)))
    flux[:, absorption] -= 0.3
    cleaned, replaced = clean_spectra(flux, 0.0, LineFilterConfig())
    assert replaced[:, line - 1 : line + 2].all()
    np.testing.assert_allclose(cleaned[:, line - 1 : line + 2], 1.0, atol=0.02)
    np.testing.assert_array_equal(cleaned[:, absorption], flux[:, absorption])
    assert not replaced[:, absorption].any()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("redshift", [0.0, 0.02])
def test_sky_residuals_are_replaced_where_the_sky_is_observed(sign: int, redshift: float) -> None:
    flux = np.random.default_rng(6).normal(1, 0.01, (50, 948)).astype(np.float32)
    sky = int(np.argmin(np.abs(WAVELENGTH * (1 + redshift) - 6923.22)))
    flux[:, sky] += sign * 0.3
    _, replaced = clean_spectra(flux, redshift, LineFilterConfig())
    assert replaced[:, sky].all()


def test_running_median_of_a_ramp_is_the_ramp() -> None:
    ramp = np.linspace(0, 1, 200, dtype=np.float32)[None]
    np.testing.assert_allclose(running_median(ramp, 31)[:, 15:-15], ramp[:, 15:-15], atol=1e-6)
    with pytest.raises(ValueError, match="odd"):
        LineFilterConfig(window=30)


@pytest.mark.parametrize("window", [5, 9, 31, 33, 75])
def test_running_medians_are_the_middle_ones_of_sorted_windows(window: int) -> None:
    """Of more spectra than are compared together, of a length that no group divides, with equal values among them."""
    values = np.random.default_rng(window).integers(0, 40, (131, 107)).astype(np.float32)
    padded = np.pad(values, ((0, 0), (window // 2, window // 2)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, window, axis=1)
    np.testing.assert_array_equal(running_median(values, window), np.sort(windows, axis=2)[:, :, window // 2])


def test_medians_of_rows_leave_out_what_is_missing() -> None:
    values = np.random.default_rng(1).normal(size=(50, 33)).astype(np.float32)
    values[np.random.default_rng(2).random(values.shape) < 0.3] = np.nan
    values[3] = np.nan
    known = np.delete(values, 3, axis=0)
    found = row_median(values)
    np.testing.assert_allclose(np.delete(found, 3), np.nanmedian(known, axis=1), rtol=1e-6)
    assert np.isnan(found[3])
    columns = np.random.default_rng(3).random(33) < 0.5
    np.testing.assert_array_equal(pick(values, columns), values[:, columns])


def test_each_spectrum_is_treated_on_its_own() -> None:
    wavelength = channels(0.005)
    random = np.random.default_rng(7)
    n = TILE + 40
    flux = random.normal(1, 0.05, (len(wavelength), n)).astype(np.float32)
    flux[random.random(flux.shape) < 0.01] = np.nan
    flux[:, ::3] = random.normal(1, 0.05, flux[:, ::3].shape)  # complete ones among those with gaps
    flux[:, 5::9] = np.nan  # and some without data
    variance = np.full_like(flux, 25e-4)
    together = preprocess(flux, variance, options(wavelength, 0.005))
    order = random.permutation(n)
    shuffled = preprocess(flux[:, order], variance[:, order], options(wavelength, 0.005))
    some = range(100, n)  # on both sides of where work is divided
    alone = [preprocess(flux[:, [i]], variance[:, [i]], options(wavelength, 0.005)) for i in some]
    row = np.cumsum(together.fitted) - 1
    for field in dataclasses.fields(together):
        whole = getattr(together, field.name)
        if field.name in OF_FITTED:
            places, mine = row[order[together.fitted[order]]], row[[i for i in some if together.fitted[i]]]
        else:
            places, mine = order, np.array(some)
        np.testing.assert_array_equal(whole[places], getattr(shuffled, field.name), err_msg=field.name)
        each = np.concatenate([getattr(one, field.name) for one in alone])
        np.testing.assert_array_equal(whole[mine], each, err_msg=field.name)


def test_scaling_the_flux_scales_only_the_flux() -> None:
    wavelength = channels(0.0)
    flux = np.random.default_rng(8).normal(1, 0.05, (len(wavelength), 8)).astype(np.float32)
    variance = np.full_like(flux, 25e-4)
    one = preprocess(flux, variance, options(wavelength))
    many = preprocess(flux * 1024, variance * 1024**2, options(wavelength))
    for field in dataclasses.fields(one):
        if field.name in {"flux", "rebinned"}:
            np.testing.assert_allclose(getattr(many, field.name), getattr(one, field.name) * 1024, rtol=1e-6)
        else:
            np.testing.assert_allclose(getattr(many, field.name), getattr(one, field.name), rtol=1e-5, atol=1e-6)
