"""Kinematics: exact motions come back within their errors, and nothing but the stars' lines has a say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from astropy.io import fits
from numpy.typing import NDArray
from scipy.integrate import quad

from galprote.model.checkpoint import load_checkpoint
from galprote.model.decoder import Decoder
from galprote.model.errors import ConfigError
from galprote.model.kinematics import C_KMS
from galprote.model.line_of_sight import KinematicFitter, Kinematics, Outcome, positive_root
from galprote.model.line_spectra import starlight
from galprote.model.line_templates import MARGIN, POLYNOMIALS, SAMPLES, LineTemplates
from galprote.pipeline.mock import MockConfig, make_mock, truth_path
from tests.moving_spectra import MUSE_CHANNELS, REDSHIFT, noisy, observed, rebinned

Array = NDArray[Any]
CELLS = (100, 230, 310, 330, 360, 420, 470, 500, 540, 600)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return load_checkpoint().decoder


@pytest.fixture(scope="module")
def fitter(decoder: Decoder) -> KinematicFitter:
    return KinematicFitter(decoder)


def fine_spectra(decoder: Decoder, n: int) -> Array:
    """Mixtures of an older and a younger template, (n, 3952)."""
    random = np.random.default_rng(3)
    templates = (decoder.coefficients @ decoder.components).double().numpy()
    share = random.uniform(0.5, 1.0, n)[:, None]
    return share * templates[random.choice(CELLS, n)] + (1 - share) * templates[random.choice(CELLS, n)]


@pytest.fixture(scope="module")
def still(decoder: Decoder, fitter: KinematicFitter) -> tuple[Array, Array, Array, Array]:
    """Flux and variance at S/N 40 on the fitter's samples, velocity and dispersion: 60 spectra."""
    random = np.random.default_rng(4)
    velocity, dispersion = random.uniform(-300, 300, 60), np.resize([30.0, 90.0, 160.0], 60)
    light = observed(fine_spectra(decoder, 60), velocity, dispersion)
    return (*rebinned(fitter, *noisy(light, 40, 5)), velocity, dispersion)


def pulls(found: Kinematics, velocity: Array, dispersion: Array) -> tuple[Array, Array]:
    square = (found.squared_dispersion - dispersion**2) / found.squared_dispersion_error
    return (found.velocity - velocity) / found.velocity_error, square


def same(first: Kinematics, second: Kinematics) -> bool:
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("dispersion", [0.0, 25.0, 70.0, 150.0, 250.0, 350.0])
def test_an_exact_motion_comes_back_within_its_error(
    decoder: Decoder, fitter: KinematicFitter, dispersion: float
) -> None:
    velocity = np.linspace(-490, 490, 32)
    width = np.full(32, dispersion)
    spectra = rebinned(fitter, *noisy(observed(fine_spectra(decoder, 32), velocity, width), 150, 1))
    found = fitter(*spectra)
    assert (found.outcome == Outcome.MEASURED).all()
    speed, square = pulls(found, velocity, width)
    assert np.abs(speed).max() < 3.7
    assert np.abs(square).max() < 4.0
    assert np.abs(found.velocity - velocity).max() < 4 + 0.03 * dispersion
    if dispersion > 50:
        np.testing.assert_allclose(found.dispersion, width, rtol=0.1)
        assert np.mean(found.dispersion) == pytest.approx(dispersion, rel=0.02)
    else:
        assert np.abs(found.dispersion - width).max() < 20


def test_velocities_are_shifts_of_wavelength_not_of_its_logarithm(decoder: Decoder) -> None:
    velocity = np.repeat([-950.0, 950.0], 20)
    fitter = KinematicFitter(decoder, max_velocity_kms=1000)
    light = observed(fine_spectra(decoder, 40), velocity, np.full(40, 40.0))
    found = fitter(*rebinned(fitter, *noisy(light, 300, 2)))
    off = found.velocity - velocity  # c ln(1 + V / c) is 1.5 km/s smaller on both sides
    assert abs(off[:20].mean()) < 0.75
    assert abs(off[20:].mean()) < 0.75


@pytest.mark.parametrize(("snr", "dispersion"), [(15.0, 60.0), (35.0, 120.0)])
def test_errors_are_what_noise_does(decoder: Decoder, fitter: KinematicFitter, snr: float, dispersion: float) -> None:
    n = 320
    velocity, width = np.random.default_rng(6).uniform(-400, 400, n), np.full(n, dispersion)
    light = np.resize(fine_spectra(decoder, 16), (n, 3952))
    found = fitter(*rebinned(fitter, *noisy(observed(light, velocity, width), snr, 7)))
    assert (found.outcome == Outcome.MEASURED).mean() > 0.98
    measured = found.outcome == Outcome.MEASURED
    for pull in pulls(found, velocity, width):
        assert abs(pull[measured].mean()) < 0.25
        assert 0.9 < pull[measured].std() < 1.15
    assert 0.9 < np.median(found.noise_scale) < 1.1


def test_errors_heed_noise_that_hangs_together(decoder: Decoder, fitter: KinematicFitter) -> None:
    """As resampling leaves it; the variance is right, and knows nothing of it."""
    n = 256
    velocity, width = np.random.default_rng(8).uniform(-300, 300, n), np.full(n, 150.0)
    light = observed(np.resize(fine_spectra(decoder, 16), (n, 3952)), velocity, width)
    sigma = np.nanmedian(light, axis=1, keepdims=True) / 30
    white = np.random.default_rng(9).standard_normal((n, light.shape[1] + 2))
    together = (white[:, 2:] + 2 * white[:, 1:-1] + white[:, :-2]) / np.sqrt(6)
    variance = sigma**2 * np.ones_like(light)
    found = fitter(*rebinned(fitter, light + sigma * together, variance))
    alone = fitter(*rebinned(fitter, light + sigma * white[:, 1:-1], variance))
    for pull in pulls(found, velocity, width):
        assert 0.85 < pull.std() < 1.2
    assert np.median(found.velocity_error / alone.velocity_error) > 1.3


def test_noise_is_measured_where_the_variance_is_wrong(
    fitter: KinematicFitter, still: tuple[Array, Array, Array, Array]
) -> None:
    flux, variance, *_ = still
    right, wrong = fitter(flux, variance), fitter(flux, variance / 4)
    np.testing.assert_allclose(wrong.noise_scale, 2 * right.noise_scale, rtol=0.02)
    np.testing.assert_allclose(wrong.velocity_error, right.velocity_error, rtol=0.05)
    assert np.abs((wrong.velocity - right.velocity) / right.velocity_error).max() < 0.2


def test_what_is_masked_has_no_say(fitter: KinematicFitter, still: tuple[Array, Array, Array, Array]) -> None:
    flux, variance, velocity, dispersion = still
    bad = np.random.default_rng(10).random(flux.shape) < 0.1
    bad[:, 940:1080] = True  # the adaptive optics' notch
    gone = np.where(bad, np.nan, flux).astype(np.float32)
    for value in (np.nan, 0.0, -1.0, np.inf):
        assert same(fitter(gone, variance), fitter(flux, np.where(bad, value, variance).astype(np.float32)))
    spoiled = np.where(bad, 1e3, flux).astype(np.float32)
    found = fitter(spoiled, np.where(bad, np.nan, variance).astype(np.float32))
    assert same(fitter(gone, variance), found)
    speed, square = pulls(found, velocity, dispersion)
    assert np.abs(speed).max() < 3.5
    assert np.abs(square).max() < 3.5
    assert np.median(found.velocity_error / fitter(flux, variance).velocity_error) > 1.02


def test_spoiled_channels_hardly_matter(fitter: KinematicFitter, still: tuple[Array, Array, Array, Array]) -> None:
    flux, variance, *_ = still
    before = fitter(flux, variance)
    spoiled = flux.copy()
    for place, height in ((150, 1.5), (700, -0.6), (1200, 8.0), (1600, 0.5)):
        spoiled[:, place : place + 3] += height * np.median(flux, axis=1, keepdims=True)
    spoiled[:, 500] = 1e14
    after = fitter(spoiled, variance)
    assert (after.outcome == before.outcome).all()
    assert np.median(np.abs(after.velocity - before.velocity) / before.velocity_error) < 0.3
    assert np.abs((after.velocity - before.velocity) / before.velocity_error).max() < 1.5
    np.testing.assert_allclose(after.velocity_error, before.velocity_error, rtol=0.2)


def test_gas_does_not_matter(fitter: KinematicFitter, still: tuple[Array, Array, Array, Array]) -> None:
    """Not even 80 km/s off the stars."""
    flux, variance, velocity, _ = still
    before = fitter(flux, variance)
    centres = np.sqrt(fitter.edges[1:] * fitter.edges[:-1])
    gas = np.zeros_like(flux, dtype=float)
    lines = ((4861.33, 3.0), (4958.91, 1.0), (5006.84, 3.0), (5199.1, 0.1), (5875.6, 0.4), (6300.3, 0.3))
    lines += ((6548.05, 1.0), (6562.8, 9.0), (6583.45, 3.0), (6716.44, 1.0), (6730.82, 1.0))
    for rest, height in lines:
        place = rest * (1 + (velocity[:, None] + 80) / C_KMS)
        gas += height * np.exp(-0.5 * ((centres - place) / 1.3) ** 2)
    after = fitter((flux + gas * np.median(flux, axis=1, keepdims=True)).astype(np.float32), variance)
    assert (after.outcome == before.outcome).all()
    assert np.median(np.abs(after.velocity - before.velocity) / before.velocity_error) < 0.15
    assert np.abs((after.velocity - before.velocity) / before.velocity_error).max() < 1.0


def test_brightness_and_smooth_factors_do_not_matter(
    fitter: KinematicFitter, still: tuple[Array, Array, Array, Array]
) -> None:
    flux, variance, *_ = still
    before = fitter(flux, variance)
    for scale in (np.float32(2.0**-50), np.float32(2.0**40)):  # exactly the same digits
        assert same(before, fitter(flux * scale, variance * scale**2))
    x = np.linspace(-1, 1, SAMPLES)
    curve = np.exp(0.6 * x - 0.3 * x**2 + 0.1 * np.sin(3 * x)).astype(np.float32)
    after = fitter(flux * curve, variance * curve**2)
    assert np.abs((after.velocity - before.velocity) / before.velocity_error).max() < 0.25
    assert np.abs((after.dispersion - before.dispersion) / before.dispersion_error).max() < 0.35


def test_a_spectrum_does_not_feel_its_neighbours(
    fitter: KinematicFitter, still: tuple[Array, Array, Array, Array]
) -> None:
    flux, variance = (np.tile(part, (3, 1)) for part in still[:2])
    flux[7] = np.nan
    variance[11] = 0.0
    flux[13] = np.random.default_rng(11).lognormal(0, 20, SAMPLES)
    together = fitter(flux, variance)
    order = np.random.default_rng(12).permutation(len(flux))
    assert same(fitter(flux[order], variance[order]), Kinematics._make(part[order] for part in together))
    for i in (0, 13, 63, 64, 179):
        assert same(
            fitter(flux[i : i + 1], variance[i : i + 1]), Kinematics._make(part[i : i + 1] for part in together)
        )
    assert fitter(flux[:0], variance[:0]).velocity.shape == (0,)


def test_what_cannot_be_measured_is_nan_and_says_why(
    fitter: KinematicFitter, still: tuple[Array, Array, Array, Array]
) -> None:
    random, one = np.random.default_rng(13), np.ones(SAMPLES)
    few = np.full(SAMPLES, np.nan)
    few[:150] = still[0][0][:150]
    cases = {
        "nothing": (np.nan * one, one, Outcome.NO_DATA),
        "no light": (0 * one, one, Outcome.NO_DATA),
        "negative": (-still[0][0], one, Outcome.NO_DATA),
        "no variance": (still[0][0], 0 * one, Outcome.NO_DATA),
        "few samples": (few, still[1][0], Outcome.NO_DATA),
        "no lines": (np.linspace(1, 2, SAMPLES) + 0.02 * random.standard_normal(SAMPLES), 4e-4 * one, Outcome.NO_LINES),
        "noise": (1 + random.standard_normal(SAMPLES), one, Outcome.NO_LINES),
        "flat": (one, 1e-4 * one, Outcome.NO_LINES),
        "stars": (still[0][0], still[1][0], Outcome.MEASURED),
    }
    flux, variance = (np.array([case[k] for case in cases.values()], dtype=np.float32) for k in (0, 1))
    found = fitter(flux, variance)
    assert [Outcome(value) for value in found.outcome] == [case[2] for case in cases.values()]
    for part in found[:6]:
        assert np.isnan(part[:-1]).all()
        assert np.isfinite(part[-1])
    no_data = found.outcome == Outcome.NO_DATA
    assert np.isnan(found.noise_scale[no_data]).all()
    assert np.isfinite(found.noise_scale[~no_data]).all()


def test_beyond_the_range_there_is_no_answer(decoder: Decoder, fitter: KinematicFitter) -> None:
    fine = fine_spectra(decoder, 16)
    fast = observed(fine, np.full(16, 640.0), np.full(16, 60.0))
    assert (fitter(*rebinned(fitter, *noisy(fast, 40, 14))).outcome == Outcome.VELOCITY_EDGE).mean() > 0.9
    wide = observed(fine, np.zeros(16), np.full(16, 600.0))
    found = fitter(*rebinned(fitter, *noisy(wide, 100, 15)))
    assert (found.outcome == Outcome.DISPERSION_EDGE).mean() > 0.9
    assert np.isnan(found.velocity[found.outcome != Outcome.MEASURED]).all()


def test_errors_at_low_signal_are_honest_or_there_is_no_answer(decoder: Decoder, fitter: KinematicFitter) -> None:
    n = 256
    velocity, width = np.random.default_rng(16).uniform(-450, 450, n), np.full(n, 60.0)
    light = observed(np.resize(fine_spectra(decoder, 16), (n, 3952)), velocity, width)
    found = fitter(*rebinned(fitter, *noisy(light, 3.0, 17)))
    measured = found.outcome == Outcome.MEASURED
    pull = ((found.velocity - velocity) / found.velocity_error)[measured]
    assert measured.sum() > 20
    assert (np.abs(pull) > 5).mean() < 0.05
    others = set(found.outcome[~measured].tolist())
    assert {Outcome.NO_LINES, Outcome.AMBIGUOUS} <= others


def test_shapes_and_ranges_are_checked(decoder: Decoder, fitter: KinematicFitter) -> None:
    with pytest.raises(ValueError, match=rf"variance: shape \(2, 7\), expected \(n, {SAMPLES}\)"):
        fitter(np.ones((2, SAMPLES), np.float32), np.ones((2, 7), np.float32))
    for reach in (20.0, 2000.0, np.nan):
        with pytest.raises(ConfigError, match=r"max_velocity_kms = .*expected 100 to 1000"):
            KinematicFitter(decoder, max_velocity_kms=reach)


@pytest.mark.parametrize("notch", [False, True])
def test_a_rotating_galaxy(tmp_path: Path, decoder: Decoder, fitter: KinematicFitter, notch: bool) -> None:
    """Gas, sky residuals, bad variances and all, at S/N 30 to 40 per channel: at most 10 km/s rms, and truly 3."""
    config = MockConfig(shape=(22, 22), peak_snr=90, sky_noise=6.0, rotation_kms=200, ao_notch=notch)
    path = make_mock(config, tmp_path / "mock.fits", decoder)
    with fits.open(path) as cube, fits.open(truth_path(path)) as truth:
        snr = truth["SNR"].data / np.sqrt(2.4827 * (1 + config.redshift) / 1.25)
        chosen = (snr > 25) & (snr < 45)
        flux, variance = (cube[name].data[:, chosen].T.astype(float) for name in ("DATA", "STAT"))
        velocity = truth["V_STARS"].data[chosen].astype(float)
    assert chosen.sum() > 30
    assert np.ptp(velocity) > 250
    found = fitter(*rebinned(fitter, flux, variance, redshift=config.redshift, channels=config.wavelength))
    assert (found.outcome == Outcome.MEASURED).mean() > 0.97
    good = found.outcome == Outcome.MEASURED
    off = (found.velocity - velocity)[good]
    assert np.sqrt(np.mean(off**2)) < 4
    assert np.polyfit(velocity[good], found.velocity[good], 1)[0] == pytest.approx(1, abs=0.02)
    assert 0.7 < (off / found.velocity_error[good]).std() < 1.3
    assert np.median(found.dispersion[good]) < 25  # the mock's stars have none


@pytest.mark.parametrize(("square", "error"), [(1e4, 200.0), (900.0, 600.0), (0.0, 400.0), (-700.0, 500.0)])
def test_a_dispersion_is_the_mean_of_what_is_possible(square: float, error: float) -> None:
    def density(sigma: float) -> float:
        return float(np.exp(-0.5 * ((sigma**2 - square) / error) ** 2))

    end = np.sqrt(max(square, 0) + 8 * error)
    total = quad(density, 0, end, limit=200, points=[np.sqrt(max(square, 1))])[0]
    mean = quad(lambda s: s * density(s), 0, end, limit=200, points=[np.sqrt(max(square, 1))])[0] / total
    second = quad(lambda s: s**2 * density(s), 0, end, limit=200, points=[np.sqrt(max(square, 1))])[0] / total
    found = positive_root(*(torch.tensor([value], dtype=torch.float64) for value in (square, error)))
    assert float(found[0]) == pytest.approx(mean, rel=1e-3)
    assert float(found[1]) == pytest.approx(np.sqrt(second - mean**2), rel=5e-3)


def test_slopes_of_the_lines_are_their_derivatives(decoder: Decoder) -> None:
    templates = LineTemplates(decoder, torch.device("cpu"))
    inner = slice(MARGIN, -MARGIN)
    for delta, square in ((-20.0, 900.0), (5.0, 1e4), (29.0, 9e4)):

        def lines(delta: float, square: float) -> Array:
            both = (torch.tensor([value], dtype=torch.float64) for value in (delta, square))
            return templates.basis(templates.factors(*both).value)[0, POLYNOMIALS:, inner].double().numpy()

        point = templates.factors(*(torch.tensor([value], dtype=torch.float64) for value in (delta, square)))
        for slope, h, v in ((point.by_velocity, 0.5, 1.0), (point.by_square, 0.0, square / 50)):
            step = (h, 0.0) if h else (0.0, v)
            ends = [lines(delta + sign * step[0], square + sign * step[1]) for sign in (-1, 1)]
            wanted = (ends[1] - ends[0]) / (2 * (h or v))
            found = torch.einsum("m,mkn->kn", slope[0], templates.terms)[:, inner].double().numpy()
            assert np.sqrt(np.mean((found - wanted) ** 2)) < 0.02 * np.sqrt(np.mean(wanted**2))


def test_starlight_is_where_no_gas_can_be() -> None:
    lines = np.array([4861.33, 5006.84, 6562.8, 6583.45, 6730.82])
    for velocity in (-200, 0, 200):
        assert not starlight(lines * (1 + velocity / C_KMS), 200.0).any()
    assert starlight(np.array([5170.0, 5270.0, 6100.0]), 700.0).all()
    assert starlight(np.array([5540.0, 6250.0]), 200.0).all()  # the table's sky bands are not in the galaxy


def test_the_samples_reach_over_the_model_window(fitter: KinematicFitter) -> None:
    steps = C_KMS * np.diff(np.log(fitter.edges))
    np.testing.assert_allclose(steps, 60.0, rtol=1e-9)
    assert fitter.edges[0] * (1 + REDSHIFT) > MUSE_CHANNELS[0]
    assert fitter.edges[0] == pytest.approx(4748.13, abs=0.1)
    assert 7099 < fitter.edges[-1] <= 7101.8
