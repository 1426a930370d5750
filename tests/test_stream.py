"""The survey's stream: each ingredient does what its name says, and nothing when it is left out."""

from typing import cast

import numpy as np
import pytest
import torch

from galprote.model.artefacts import FAINT_LINES, FILTER_SIGMA, NOTCH, SKY_LINES, STRONG_LINES, ArtefactConfig
from galprote.model.grids import KEPT, WAVELENGTH
from galprote.model.kinematics import KinematicTemplates
from galprote.model.stream import INGREDIENTS, Ingredient, StreamConfig, TrainingStream
from galprote.model.synthesis import NoiseConfig, SyntheticSpectra
from galprote.pipeline.line_filter_config import LineFilterConfig
from tests.libraries import synthetic_decoder

REST = torch.from_numpy(WAVELENGTH[KEPT])


@pytest.fixture(scope="module")
def templates() -> KinematicTemplates:
    return KinematicTemplates.from_decoder(synthetic_decoder())


def stream(templates: KinematicTemplates, *only: str, seed: int = 3, **changes: object) -> TrainingStream:
    """A stream with some ingredients and no others."""
    without = frozenset(cast("Ingredient", name) for name in INGREDIENTS if name not in only)
    config = StreamConfig.model_validate({"without": without} | changes)
    return TrainingStream(synthetic_decoder(), config, NoiseConfig(flagged=0.5), seed, templates)


def high_snr(stream: TrainingStream, n: int = 64) -> SyntheticSpectra:
    grid = stream.populations(n)
    return stream.observe(grid, *stream.circumstances(n), snr=torch.full((n,), 1e4))


def excess(batch: SyntheticSpectra) -> torch.Tensor:
    """Observed over true, (n, 876), in median one."""
    clean = batch.clean[:, torch.from_numpy(KEPT)]
    return batch.spectra / clean


def test_with_all_ingredients_a_batch_is_complete_and_finite(templates: KinematicTemplates) -> None:
    batch = stream(templates, *INGREDIENTS).batch(400)
    assert len(batch) == 400
    assert torch.isfinite(batch.spectra).all()
    assert not torch.isnan(batch.noise).any()
    assert (batch.noise > 0).all()
    assert torch.isfinite(batch.noise).any(dim=1).all()
    torch.testing.assert_close(batch.spectra.median(dim=1).values, torch.ones(400))
    assert (batch.av[:120] <= 1.5).all()  # the paper's part
    assert 2.5 < float(batch.av.max()) <= 3.0
    assert float(batch.dispersion.max()) > 250
    assert float(batch.velocity.abs().max()) > 120


def test_the_same_seed_gives_the_same_stream(templates: KinematicTemplates) -> None:
    one, two = (stream(templates, *INGREDIENTS, seed=9).batch(50) for _ in range(2))
    assert torch.equal(one.spectra, two.spectra)
    assert torch.equal(one.noise, two.noise)


def test_without_ingredients_only_populations_dust_and_noise_are_left(templates: KinematicTemplates) -> None:
    batch = high_snr(stream(templates))
    assert float((excess(batch) - 1).abs().max()) < 2e-3
    assert torch.isfinite(batch.noise).all()
    for quantity in (batch.dispersion, batch.velocity, batch.calibration):
        assert not quantity.any()
    assert float(batch.av.max()) <= 1.5


@pytest.mark.parametrize(
    ("name", "quantity", "largest"),
    [("dusty", "av", 3.0), ("dispersion", "dispersion", 300.0), ("velocity", "velocity", 150.0)],
)
def test_labels_reach_as_far_as_their_ingredient(
    templates: KinematicTemplates, name: str, quantity: str, largest: float
) -> None:
    batch = stream(templates, name).batch(400)
    assert 0.9 * largest < float(getattr(batch, quantity).abs().max()) <= largest


def test_noise_is_as_stated_when_known(templates: KinematicTemplates) -> None:
    batch = stream(templates, "coloured_noise").batch(2000)
    z = (batch.spectra - batch.clean[:, torch.from_numpy(KEPT)]) / batch.noise
    spread = z.std(dim=0)
    assert float(spread.median()) == pytest.approx(1.0, abs=0.03)
    assert float((batch.noise.amax(1) / batch.noise.amin(1)).median()) > 1.3
    snr = 1 / batch.noise.median(dim=1).values
    assert float(snr.min()) < 8
    assert float(snr.max()) > 120


def test_calibration_errors_are_smooth_and_of_the_stated_size(templates: KinematicTemplates) -> None:
    batch = high_snr(stream(templates, "calibration"), 2000)
    ratio = excess(batch)
    assert float(ratio.diff(dim=1).abs().max()) < 6e-3
    spread = (ratio / ratio.mean(1, keepdim=True)).std(1)
    stated = batch.calibration > 0
    assert float(stated.float().mean()) == pytest.approx(0.7, abs=0.05)
    assert float(spread[~stated].max()) < 5e-4
    # Scatter of the sum of Legendre polynomials of such coefficients: sqrt(1/3 + 1/20 + 1/63 + 1/144).
    relative = (spread[stated] / batch.calibration[stated]).square().mean().sqrt()
    assert float(relative) == pytest.approx((1 / 3 + 0.25 / 5 + 0.33**2 / 7 + 0.25**2 / 9) ** 0.5, rel=0.08)


def test_the_notch_lies_where_adaptive_optics_puts_it(templates: KinematicTemplates) -> None:
    sure = ArtefactConfig(notch_fraction=1.0, redshift=(0.01, 0.0100001))
    batch = high_snr(stream(templates, "notch", artefacts=sure))
    lost = torch.isinf(batch.noise)
    observed = REST * 1.01
    inside = (observed > NOTCH[0]) & (observed < NOTCH[1])
    assert lost[:, inside].all()
    assert not lost[:, (observed < NOTCH[0] - 5) | (observed > NOTCH[1] + 5)].any()
    assert float((excess(batch) - 1)[:, ~inside].abs().max()) < 0.02


def test_sky_residuals_lie_at_the_lines_observed_wavelengths(templates: KinematicTemplates) -> None:
    fixed = ArtefactConfig(redshift=(0.015, 0.0150001), sky_sigma=(3.0, 4.0))
    still = stream(templates, "sky", artefacts=fixed)
    grid = still.populations(300)
    batch = still.observe(grid, *still.circumstances(300), snr=torch.full((300,), 50.0))
    z = (batch.spectra - batch.clean[:, torch.from_numpy(KEPT)]) * 50
    distance = (REST[:, None] * 1.015 - torch.tensor(SKY_LINES)).abs().amin(1)
    assert float(z[:, distance < 1.5].std()) > 1.5
    assert float(z[:, distance > 9].std()) == pytest.approx(1.0, abs=0.02)
    assert torch.isinf(batch.noise)[:, distance < 3].any()
    assert not torch.isinf(batch.noise)[:, distance > 15].any()


def test_emission_leaks_only_near_lines_and_bright_lines_are_found(templates: KinematicTemplates) -> None:
    batch = high_snr(stream(templates, "emission"), 400)
    change = excess(batch) - 1
    distance = (REST[:, None] - torch.tensor(STRONG_LINES + FAINT_LINES)).abs().amin(1)
    found = torch.isinf(batch.noise)
    assert found.any()
    assert not found[:, distance > 40].any()
    away = (distance > 60) & ~found.any(0)
    assert float(change[:, away].abs().max()) < 0.01
    loud = (change > 0.05) & ~found
    assert float(loud.float().sum() / (change > 0.05).float().sum().clamp(min=1)) < 0.5


def test_gaps_are_runs_of_filled_samples(templates: KinematicTemplates) -> None:
    sure = ArtefactConfig(gap_fraction=1.0)
    batch = high_snr(stream(templates, "gaps", artefacts=sure), 200)
    lost = torch.isinf(batch.noise).sum(1)
    assert (lost <= 81).all()
    assert float((lost >= 10).float().mean()) > 0.8


def test_the_flat_prior_is_flatter(templates: KinematicTemplates) -> None:
    log_ages = torch.from_numpy(synthetic_decoder().log_ages).float()

    def counts(*only: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        means = stream(templates, "smooth", "bursts", *only).populations(6000).sum(1) @ log_ages
        return np.histogram(means, bins=8, range=(float(log_ages[0]), float(log_ages[-1])))[0] / 6000

    assert counts("flat").std() < 0.7 * counts().std()


def test_quiet_spectra_have_noise_and_nothing_else(templates: KinematicTemplates) -> None:
    everything = stream(templates, *INGREDIENTS)
    batch = everything.quiet(everything.populations(500), everything.circumstances(500)[0])
    z = (batch.spectra - batch.clean[:, torch.from_numpy(KEPT)]) / batch.noise
    assert float(z.std()) == pytest.approx(1.0, abs=0.02)
    assert not batch.calibration.any()
    assert not batch.dispersion.any()


def test_paper_batches_tell_a_share_of_what_was_filled(templates: KinematicTemplates) -> None:
    batch = TrainingStream(synthetic_decoder(), None, NoiseConfig(flagged=0.5), 4).batch(400)
    told = torch.isinf(batch.noise).any(1)
    assert float(told.float().mean()) == pytest.approx(0.5, abs=0.08)
    blind = TrainingStream(synthetic_decoder(), None, NoiseConfig(), 4).batch(100)
    assert torch.isfinite(blind.noise).all()


def test_unknown_ingredients_are_refused() -> None:
    with pytest.raises(ValueError, match="without"):
        StreamConfig.model_validate({"without": ["dispersions"]})


def test_what_stands_out_is_what_the_pipeline_replaces() -> None:
    assert LineFilterConfig().threshold == FILTER_SIGMA


@pytest.mark.parametrize("name", INGREDIENTS)
def test_without_an_ingredient_everything_is_still_in_order(name: Ingredient, templates: KinematicTemplates) -> None:
    config = StreamConfig(without=frozenset({name}))
    stream = TrainingStream(synthetic_decoder(), config, NoiseConfig(), 5, templates)
    for _ in range(2):
        batch = stream.batch(64)
        assert all(bool(values.isfinite().all()) for key, values in vars(batch).items() if key != "noise")
        assert bool((batch.noise > 0).all())
        assert bool((batch.noise.isfinite().sum(dim=1) > 876 // 2).all())
