"""The appraisal: what it looks at, what it learns, and that it knows what it does not know."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from galprote.model import appraisal_training, lessons
from galprote.model.appraisal import (
    TABLE_SNR,
    AppraisalConfig,
    VelocitySearch,
    between,
    part_masks,
    residual_numbers,
    sigmas,
)
from galprote.model.appraisal_recipe import AppraisalRecipe
from galprote.model.appraisal_training import AppraisalTrainer, appraised_checkpoint
from galprote.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from galprote.model.errors import ConfigError
from galprote.model.grids import KEPT, N_KEPT
from galprote.model.kinematics import KinematicTemplates
from galprote.model.masses import MassScale
from galprote.model.populations import APPRAISED, derived
from galprote.model.predictor import Predictor
from galprote.model.refinement import Look, Observation, RefinementConfig
from galprote.model.stream import StreamConfig, TrainingStream
from galprote.model.synthesis import NoiseConfig, SyntheticSpectra
from galprote.model.training_config import read_appraisal_recipe, read_training_config
from galprote.model.transformer import GalProTE, ModelConfig
from tests.libraries import synthetic_decoder

SIZES = {"kernels": (11, 21), "channels": 2, "feedforward": 24, "projection_rank": 8, "av_max": 3.0, "clip": 0.0}
REFINEMENT = RefinementConfig(stages=1, components=24, hidden=32, memory=8)
RECIPE = AppraisalRecipe(
    network=AppraisalConfig(hidden=32), spectra=6144, calibration_spectra=2000, epochs=8, anomalies=0.4, seed=3
)


@pytest.fixture(scope="module")
def templates() -> KinematicTemplates:
    return KinematicTemplates.from_decoder(synthetic_decoder())


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, templates: KinematicTemplates) -> Checkpoint:
    """A small refining network that was taught nothing: whatever it answers, its appraisal must learn."""
    torch.manual_seed(1)
    model = GalProTE(ModelConfig.model_validate(SIZES | {"refinement": REFINEMENT}), templates)
    batch = TrainingStream(synthetic_decoder(), StreamConfig(), NoiseConfig(), 2, templates).batch(512)
    model.input_mean.copy_(batch.spectra.mean(dim=0))
    assert model.refinement is not None
    model.refinement.set_components(batch.clean)
    path = tmp_path_factory.mktemp("network") / "network.safetensors"
    save_checkpoint(path, model.eval(), synthetic_decoder(), {"training": {"step": 1}, "metrics": {}})
    return load_checkpoint(path)


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Small shards and steps, so that a few thousand spectra are a lesson."""
    for module in (lessons, appraisal_training):
        patch.setattr(module, "SHARD", 512)
    patch.setattr(appraisal_training, "STEP", 128)
    patch.setattr(appraisal_training, "WARMUP", 20)


@pytest.fixture(autouse=True)
def small_lessons(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)


@pytest.fixture(scope="module")
def taught(network: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> AppraisalTrainer:
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        trainer = AppraisalTrainer(network, RECIPE, tmp_path_factory.mktemp("taught") / "spectra")
        trainer.run()
    return trainer


@pytest.fixture(scope="module")
def predictor(network: Checkpoint, taught: AppraisalTrainer) -> Predictor:
    return Predictor(replace(network, model=taught.model))


def ask(predictor: Predictor, batch: SyntheticSpectra):  # type: ignore[no-untyped-def]
    return predictor(batch.spectra.numpy(), batch.noise.numpy(), 0.01, batch.redshift.numpy())


# --- what it looks at ---


@pytest.mark.parametrize("velocity", [0.0, -1000.0, 1000.0, 3000.0])
def test_the_search_finds_the_velocity(velocity: float) -> None:
    decoder = synthetic_decoder()
    kept = torch.from_numpy(KEPT)
    search = VelocitySearch()
    search.set_basis(decoder.templates()[:, kept])
    from galprote.model.kinematics import move

    spectra = (decoder.coefficients.double().numpy()[::9] @ decoder.components.double().numpy()).astype(np.float64)
    moved = torch.from_numpy(move(spectra, 0.0, np.array([velocity]))[0]).float()[:, kept]
    _, found = search(moved / moved.median(dim=1, keepdim=True).values, torch.zeros(len(moved)))
    assert ((found - velocity).abs() < 1.6 * search.step).float().mean() > 0.95


def look(residual: torch.Tensor, noise: torch.Tensor) -> Look:
    one = torch.ones(len(residual))
    precision = noise.square().reciprocal()
    return Look(torch.ones(len(residual), 948), residual, one, one, precision, one, torch.ones_like(residual), one)


def test_filled_samples_say_nothing_of_the_residuals() -> None:
    generator = torch.Generator().manual_seed(2)
    residual = 0.05 * torch.randn(4, N_KEPT, generator=generator)
    noise = torch.full_like(residual, 0.05)
    noise[:, 200:260] = torch.inf
    other = residual.clone()
    other[:, 200:260] = 7.0
    seen = Observation(residual, noise, *[torch.zeros(4)] * 3)
    torch.testing.assert_close(
        residual_numbers(seen, look(residual, noise)), residual_numbers(seen, look(other, noise))
    )
    smooth = residual + 0.03 * torch.sin(torch.linspace(0, 20, N_KEPT))
    assert not torch.allclose(
        residual_numbers(seen, look(smooth, noise)), residual_numbers(seen, look(residual, noise)), atol=0.1
    )


def test_tables_are_read_between_their_nodes() -> None:
    table = torch.arange(float(len(TABLE_SNR)))
    at_nodes = between(table, 1 / torch.tensor(TABLE_SNR))
    torch.testing.assert_close(at_nodes[:-1], table[:-1], atol=1e-4, rtol=0)
    middle = between(table, 1 / torch.tensor([(TABLE_SNR[1] * TABLE_SNR[2]) ** 0.5]))
    assert float(middle) == pytest.approx(1.5, abs=1e-4)
    ends = between(table, torch.tensor([1.0, 1e-4]))
    torch.testing.assert_close(ends, table[[0, -1]], atol=2e-3, rtol=0)


def test_one_error_for_both_intervals() -> None:
    assert float(sigmas(np.array([[0.1, 0.2]]))[0]) == pytest.approx(0.1)
    assert 0.1 < float(sigmas(np.array([[0.1, 0.3]]))[0]) < 0.15


def test_parts_cover_what_they_should() -> None:
    masks = part_masks().numpy()
    assert (masks[:12].sum(axis=0) == KEPT).all()
    assert ((masks[12:].sum(axis=0) == 1) == ~KEPT).all()


# --- what it learns ---


def test_intervals_hold_their_share(predictor: Predictor) -> None:
    scale, n = MassScale.of(predictor.checkpoint.decoder), 1500
    batch = TrainingStream(synthetic_decoder(), RECIPE.survey, NoiseConfig(), 77).batch(n)
    answer = ask(predictor, batch)
    found = derived(answer.grid, answer.av, answer.norm, scale)
    true = derived(batch.grid.numpy(), batch.av.numpy(), batch.norm.numpy(), scale)
    for k, name in enumerate(APPRAISED):
        error = np.abs(found[name] - true[name])
        for column, (share, slack) in enumerate(((0.6827, 0.05), (0.9545, 0.025))):
            assert np.mean(error <= answer.widths[:, k, column]) == pytest.approx(share, abs=slack), name
        # They tell sure answers from unsure ones.
        wide = answer.widths[:, k, 0] > np.median(answer.widths[:, k, 0])
        assert error[wide].mean() > 1.1 * error[~wide].mean(), name


def test_trust_is_uniform_for_ordinary_spectra_and_low_for_others(
    predictor: Predictor, taught: AppraisalTrainer
) -> None:
    ordinary = ask(predictor, TrainingStream(synthetic_decoder(), RECIPE.stream, RECIPE.noise, 78).batch(1500)).trust
    levels = np.linspace(0.1, 0.9, 9)
    np.testing.assert_allclose([np.mean(ordinary <= level) for level in levels], levels, atol=0.08)
    for kind in ("dead", "agn", "noise"):
        trust = ask(predictor, taught.maker.anomalies.make(kind, 300)).trust
        better = (ordinary[:, None] > trust[None, :]).mean() + 0.5 * (ordinary[:, None] == trust[None, :]).mean()
        assert better > 0.7, kind


def test_errors_follow_the_residuals_where_the_noise_is_misstated(predictor: Predictor) -> None:
    config = StreamConfig(paper=0.0, quiet=1.0)
    batch = TrainingStream(synthetic_decoder(), config, NoiseConfig(), 79).batch(600)
    right = ask(predictor, batch)
    wrong = ask(predictor, replace(batch, noise=batch.noise / 3))
    assert np.median(wrong.noise_scale / right.noise_scale) == pytest.approx(3.0, rel=0.1)
    ratio = np.median(sigmas(wrong.widths) / sigmas(right.widths), axis=0)
    assert (np.abs(np.log(ratio)) < 0.35).all()  # not a third


def test_a_spectrum_does_not_feel_its_neighbours(predictor: Predictor, taught: AppraisalTrainer) -> None:
    batch = taught.maker.stream.batch(40)
    alone = ask(predictor, SyntheticSpectra(**{name: values[7:8] for name, values in vars(batch).items()}))
    among = ask(predictor, batch)
    for one, many in zip(alone, among, strict=True):
        np.testing.assert_array_equal(one[0], many[7])


# --- that it can be stopped, kept and refused ---


def small(**changes: object) -> AppraisalRecipe:
    return RECIPE.model_copy(update={"spectra": 1500, "calibration_spectra": 400, "epochs": 1, **changes})


def test_resumed_is_uninterrupted(network: Checkpoint, tmp_path: Path) -> None:
    whole = AppraisalTrainer(network, small(), tmp_path / "one").run().state_dict()

    def stop() -> Callable[[str], None]:
        def report(_: str) -> None:
            raise KeyboardInterrupt

        return report

    with pytest.raises(KeyboardInterrupt):
        AppraisalTrainer(network, small(), tmp_path / "two").run(stop())
    assert len(list((tmp_path / "two").glob("*.pt"))) == 1
    again = AppraisalTrainer(network, small(), tmp_path / "two").run().state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert not (tmp_path / "two").exists()


def test_spectra_of_another_recipe_are_refused(network: Checkpoint, tmp_path: Path) -> None:
    trainer = AppraisalTrainer(network, small(), tmp_path / "spectra")
    trainer.fit()
    with pytest.raises(ConfigError, match="another recipe"):
        AppraisalTrainer(network, small(seed=4), tmp_path / "spectra").fit()
    AppraisalTrainer(network, small(epochs=2), tmp_path / "spectra").fit()  # the spectra are the same


def test_a_checkpoint_keeps_its_appraisal_and_its_network(network: Checkpoint, tmp_path: Path) -> None:
    path = appraised_checkpoint(network, small(), tmp_path / "new.safetensors")
    new = load_checkpoint(path)
    old_state, new_state = network.model.state_dict(), new.model.state_dict()
    assert all(torch.equal(old_state[name], new_state[name]) for name in old_state)
    assert new.metadata["appraisal"]["network_sha256"] == network.weights_sha256
    assert new.metadata["training"] == {"step": 1}
    assert "errors and trust" in new.metadata["card"]
    batch = TrainingStream(synthetic_decoder(), StreamConfig(), NoiseConfig(), 5).batch(20)
    with_errors, without = ask(Predictor(new), batch), ask(Predictor(network), batch)
    np.testing.assert_array_equal(with_errors.av, without.av)
    assert (with_errors.widths > 0).all()
    assert ((with_errors.trust > 0) & (with_errors.trust <= 1)).all()
    assert all(np.isnan(values).all() for values in without[7:])


def test_what_makes_no_sense_is_refused(network: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="needs refinement"):
        ModelConfig(appraisal=AppraisalConfig())
    plain = GalProTE(ModelConfig.model_validate(SIZES))
    with pytest.raises(ConfigError, match="no refining stages"):
        AppraisalTrainer(replace(network, model=plain), RECIPE, tmp_path)
    path = tmp_path / "recipe.yaml"
    for text, problem in (
        ("seed: 1\n", "no section `appraisal`"),
        ("appraisal: {spectre: 5}\n", r"appraisal\.spectre"),
        ("appraisal: {anomalies: 2}\n", r"appraisal\.anomalies.*found 2"),
        ("appraisal: [\n", "not valid YAML"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=problem):
            read_appraisal_recipe(path)
    path.write_text("library: {path: x}\noutput: o\nmodel: {refinement: {}, appraisal: {}}\n")
    with pytest.raises(ConfigError, match="has its own section"):
        read_training_config(path)
    path.write_text("library: {path: x}\noutput: o\nappraisal: {}\n")
    with pytest.raises(ConfigError, match=r"appraisal needs model\.refinement"):
        read_training_config(path)


def test_stars_lie_beside_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("appraisal: {stars: stars/miles}\n")
    assert read_appraisal_recipe(path).stars == tmp_path / "stars" / "miles"
    assert read_appraisal_recipe(path, stars=Path("other")).stars == Path("other")
