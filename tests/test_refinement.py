"""Refining stages: what they look at, and that filled samples cannot mislead them."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from galprote.model.kinematics import KinematicTemplates
from galprote.model.refinement import Answer, Observation, Refinement, RefinementConfig, arcsinh
from galprote.model.stream import StreamConfig, TrainingStream
from galprote.model.synthesis import NoiseConfig, SyntheticSpectra
from galprote.model.transformer import GalProTE, ModelConfig
from tests.libraries import synthetic_decoder

CONFIG = RefinementConfig(stages=3, components=24, hidden=48, memory=8)


@pytest.fixture(scope="module")
def templates() -> KinematicTemplates:
    return KinematicTemplates.from_decoder(synthetic_decoder())


@pytest.fixture(scope="module")
def batch(templates: KinematicTemplates) -> SyntheticSpectra:
    stream = TrainingStream(synthetic_decoder(), StreamConfig(), NoiseConfig(), 2, templates)
    return stream.quiet(stream.populations(64), stream.circumstances(64)[0], torch.full((64,), 50.0))


@pytest.fixture(scope="module")
def refinement(templates: KinematicTemplates, batch: SyntheticSpectra) -> Refinement:
    torch.manual_seed(0)
    module = Refinement(CONFIG, templates)
    module.set_components(batch.clean)
    return module.eval()


def right(batch: SyntheticSpectra) -> Answer:
    logits = batch.grid.flatten(1).clamp(min=1e-9).log()
    return Answer(logits, batch.av, batch.dispersion, batch.velocity, torch.zeros(len(batch), CONFIG.memory))


def seen(
    batch: SyntheticSpectra, *, flux: torch.Tensor | None = None, noise: torch.Tensor | None = None
) -> Observation:
    return Observation(
        batch.spectra if flux is None else flux,
        batch.noise if noise is None else noise,
        batch.calibration,
        batch.redshift,
        batch.template_error,
    )


def test_components_are_orthonormal_and_sorted(refinement: Refinement) -> None:
    gram = refinement.components.T @ refinement.components
    torch.testing.assert_close(gram, torch.eye(24), atol=1e-4, rtol=0)
    assert (refinement.scatter.diff() <= 0).all()


def test_the_right_answer_leaves_noise_and_a_wrong_one_does_not(
    refinement: Refinement, batch: SyntheticSpectra
) -> None:
    k = CONFIG.components
    with torch.inference_mode():
        good = refinement.features(seen(batch), right(batch))
        bad = refinement.features(seen(batch), replace(right(batch), av=batch.av + 0.7))
    in_noise = torch.sinh(good[:, k : 2 * k])
    assert float(in_noise.std()) == pytest.approx(0.75, abs=0.1)  # noise's own outliers are held back too
    assert float(torch.sinh(bad[:, k : 2 * k]).abs().amax(1).median()) > 10
    excess = good[:, -CONFIG.memory - 4]
    torch.testing.assert_close(excess.exp(), torch.ones(64), atol=0.15, rtol=0)


def test_what_stands_in_filled_samples_does_not_matter(refinement: Refinement, batch: SyntheticSpectra) -> None:
    noise = batch.noise.clone()
    noise[:, 300:360] = torch.inf
    spoiled = batch.spectra.clone()
    spoiled[:, 300:360] = 3.0
    with torch.inference_mode():
        one = refinement(seen(batch, flux=batch.spectra, noise=noise), right(batch))[-1]
        two = refinement(seen(batch, flux=spoiled, noise=noise), right(batch))[-1]
    assert torch.equal(one.grid_logits, two.grid_logits)
    assert torch.equal(one.av, two.av)


def test_an_outlier_is_held_back(refinement: Refinement, batch: SyntheticSpectra) -> None:
    spoiled = batch.spectra.clone()
    spoiled[:, 400] += 40 * batch.noise[:, 400]
    k = CONFIG.components
    with torch.inference_mode():
        clean, outlier = (
            torch.sinh(
                refinement.features(
                    seen(batch, flux=flux, noise=batch.noise),
                    right(batch),
                )[:, k : 2 * k]
            )
            for flux in (batch.spectra, spoiled)
        )
    assert float((outlier - clean).abs().max()) < 2.0


def test_flux_and_noise_of_any_size_stay_finite(refinement: Refinement, batch: SyntheticSpectra) -> None:
    for noise in (1e-9, 1e-3, 1.0, 50.0):
        level = torch.full_like(batch.noise, noise)
        level[0, 10:] = torch.inf
        with torch.inference_mode():
            features = refinement.features(seen(batch, flux=batch.spectra, noise=level), right(batch))
        assert torch.isfinite(features).all()


def network(templates: KinematicTemplates, batch: SyntheticSpectra, **changes: object) -> GalProTE:
    torch.manual_seed(1)
    config = ModelConfig(channels=2, projection_rank=8, av_max=3.0, refinement=CONFIG.model_copy(update=changes))
    model = GalProTE(config, templates)
    assert model.refinement is not None
    model.refinement.set_components(batch.clean)
    for stage in model.refinement.stages:
        torch.nn.init.normal_(stage.last.weight, std=0.05)  # type: ignore[union-attr,arg-type]
    return model.eval()


def test_a_spectrum_does_not_feel_its_neighbours(templates: KinematicTemplates, batch: SyntheticSpectra) -> None:
    model = network(templates, batch)
    other = batch.spectra.clone()
    other[1:] = other[1:].flip(0) * 1.1
    with torch.inference_mode():
        alone = model.populations(model(batch.spectra, batch.noise, batch.calibration))
        among = model.populations(model(other, batch.noise, batch.calibration))
    for one, two in zip(alone, among, strict=True):
        assert torch.equal(one[0], two[0])


def test_shared_stages_have_one_set_of_weights(templates: KinematicTemplates, batch: SyntheticSpectra) -> None:
    shared, own = network(templates, batch, shared=True), network(templates, batch)
    assert shared.refinement is not None
    assert own.refinement is not None
    assert len(shared.refinement.stages) == 1
    assert len(own.refinement.stages) == 3
    with torch.inference_mode():
        assert len(shared(batch.spectra, batch.noise).answers) == 4


def test_noise_is_wanted_where_it_is_used(templates: KinematicTemplates, batch: SyntheticSpectra) -> None:
    with pytest.raises(ValueError, match="noise"):
        network(templates, batch)(batch.spectra)
    with pytest.raises(ValueError, match="templates"):
        GalProTE(ModelConfig(refinement=CONFIG))


def test_answers_are_possible(templates: KinematicTemplates, batch: SyntheticSpectra) -> None:
    model = network(templates, batch)
    with torch.inference_mode():
        fit = model.populations(model(batch.spectra, batch.noise))
    torch.testing.assert_close(fit.grid.sum((1, 2)), torch.ones(len(batch)))
    assert ((fit.av >= 0) & (fit.av <= 3)).all()
    assert (fit.dispersion >= 0).all()


def test_the_survey_recipe_is_within_the_budget(templates: KinematicTemplates, batch: SyntheticSpectra) -> None:
    from pathlib import Path

    from galprote.model.training_config import read_training_config

    recipe = read_training_config(Path(__file__).parents[1] / "configs" / "train" / "survey.yaml")
    model = GalProTE(recipe.model, templates).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(batch.spectra, batch.noise, batch.calibration)
    assert counter.get_total_flops() / len(batch) <= 0.09e9


def test_arcsinh_is_that_of_any_number() -> None:
    size = torch.logspace(-30, 15, 1000)
    both = torch.cat([-size, torch.zeros(1), size])
    torch.testing.assert_close(arcsinh(both), both.double().asinh().float(), rtol=3e-7, atol=0.0)
    assert torch.isfinite(arcsinh(torch.tensor([1e30, -torch.inf]))).all(), "its square is not a number"
    assert torch.isnan(arcsinh(torch.tensor(torch.nan)))
