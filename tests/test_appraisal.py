"""The appraisal: what it looks at, what it learns, and that it knows what it does not know."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from galprote.model import appraisal_training, lessons
from galprote.model.anomalies import ANOMALIES
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
from galprote.model.kinematics import KinematicTemplates, move
from galprote.model.masses import MassScale
from galprote.model.populations import APPRAISED, derived
from galprote.model.predictor import Predictions, Predictor
from galprote.model.refinement import Look, Observation, RefinementConfig
from galprote.model.stream import StreamConfig, TrainingStream
from galprote.model.synthesis import NoiseConfig, SyntheticSpectra
from galprote.model.training_config import read_appraisal_recipe, read_training_config
from galprote.model.transformer import GalProTE, ModelConfig
from tests.libraries import synthetic_decoder

SIZES = {"kernels": (11, 21), "channels": 2, "feedforward": 24, "projection_rank": 8, "av_max": 3.0, "clip": 0.0}
REFINEMENT = RefinementConfig(stages=2, components=24, hidden=48, memory=8)
RECIPE = AppraisalRecipe(
    network=AppraisalConfig(hidden=32), spectra=6144, calibration_spectra=1500, epochs=6, anomalies=0.4, seed=3
)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A small refining network that was taught nothing: whatever it answers, its appraisal must learn."""
    torch.manual_seed(1)
    templates = KinematicTemplates.from_decoder(synthetic_decoder())
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


class Taught(NamedTuple):
    trainer: AppraisalTrainer
    predictor: Predictor
    path: Path


@pytest.fixture(scope="module")
def taught(network: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Taught:
    made: list[AppraisalTrainer] = []

    class Remembered(AppraisalTrainer):
        def run(self, *report: object) -> GalProTE:
            made.append(self)
            return super().run()

    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        patch.setattr(appraisal_training, "AppraisalTrainer", Remembered)
        path = appraised_checkpoint(network, RECIPE, tmp_path_factory.mktemp("taught") / "new.safetensors")
    return Taught(made[0], Predictor(replace(network, model=made[0].model)), path)


@pytest.fixture(scope="module")
def ordinary(taught: Taught) -> Predictions:
    """Of spectra like those that were learned from."""
    return ask(taught.predictor, TrainingStream(synthetic_decoder(), RECIPE.stream, RECIPE.noise, 78).batch(1500))


def ask(predictor: Predictor, batch: SyntheticSpectra) -> Predictions:
    return predictor(batch.spectra.numpy(), batch.noise.numpy(), 0.01, batch.redshift.numpy())


# --- what it looks at ---


@pytest.mark.parametrize("velocity", [0.0, -1000.0, 1000.0, 3000.0])
def test_the_search_finds_the_velocity(velocity: float) -> None:
    decoder, kept, search = synthetic_decoder(), torch.from_numpy(KEPT), VelocitySearch()
    search.set_basis(decoder.templates()[:, kept])
    spectra = decoder.coefficients.double().numpy()[::9] @ decoder.components.double().numpy()
    moved = torch.from_numpy(move(spectra, 0.0, np.array([velocity]))[0]).float()[:, kept]
    _, found = search(moved / moved.median(dim=1, keepdim=True).values, torch.zeros(len(moved)))
    off = (found - velocity).abs()
    assert (off < search.step).float().mean() > 0.9
    assert (off < 2 * search.step).all()


def look(residual: torch.Tensor, noise: torch.Tensor) -> Look:
    one = torch.ones(len(residual))
    return Look(residual, residual, one, residual / noise, one, torch.ones_like(residual), one)


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


def test_intervals_hold_their_share(taught: Taught) -> None:
    """Within three standard deviations, of 1,500 spectra and of as many that the stretch was found on."""
    predictor = taught.predictor
    scale, n = MassScale.of(predictor.checkpoint.decoder), 1500
    batch = TrainingStream(synthetic_decoder(), RECIPE.survey, NoiseConfig(), 77).batch(n)
    answer = ask(predictor, batch)
    found = derived(answer.grid, answer.av, answer.norm, scale)
    true = derived(batch.grid.numpy(), batch.av.numpy(), batch.norm.numpy(), scale)
    for k, name in enumerate(APPRAISED):
        error = np.abs(found[name] - true[name])
        for column, (share, slack) in enumerate(((0.6827, 0.06), (0.9545, 0.025))):
            assert np.mean(error <= answer.widths[:, k, column]) == pytest.approx(share, abs=slack), name
        wide = answer.widths[:, k, 0] > np.median(answer.widths[:, k, 0])
        if not name.startswith("metallicity"):  # for which so small a network has little to go by
            assert error[wide].mean() > 1.2 * error[~wide].mean(), name


def test_trust_is_uniform_for_ordinary_spectra_and_low_for_others(taught: Taught, ordinary: Predictions) -> None:
    levels = np.linspace(0.1, 0.9, 9)
    taught.trainer.maker.stream.generator.manual_seed(80)
    np.testing.assert_allclose([np.mean(ordinary.trust <= level) for level in levels], levels, atol=0.08)
    others = {kind: ask(taught.predictor, taught.trainer.maker.anomalies.make(kind, 128)).trust for kind in ANOMALIES}
    better = {kind: np.mean(ordinary.trust[:, None] > trust[None, :]) for kind, trust in others.items()}
    assert np.mean(list(better.values())) > 0.7
    assert all(better[kind] > 0.8 for kind in ("star", "agn", "dusty", "dead", "sky", "noise")), better
    assert better["redshift"] > 0.7  # so small a network does not see blends and steps


def test_errors_follow_the_residuals_where_the_noise_is_misstated(taught: Taught) -> None:
    predictor = taught.predictor
    config = StreamConfig(paper=0.0, quiet=1.0)
    batch = TrainingStream(synthetic_decoder(), config, NoiseConfig(), 79).batch(600)
    right = ask(predictor, batch)
    wrong = ask(predictor, replace(batch, noise=batch.noise / 3))
    assert np.median(wrong.noise_scale / right.noise_scale) == pytest.approx(3.0, rel=0.1)
    ratio = np.median(sigmas(wrong.widths) / sigmas(right.widths), axis=0)
    assert (np.abs(np.log(ratio)) < 0.35).all()  # not a third


def test_a_spectrum_does_not_feel_its_neighbours(taught: Taught) -> None:
    predictor, batch = taught.predictor, taught.trainer.maker.stream.batch(40)
    alone = ask(predictor, SyntheticSpectra(**{name: values[7:8] for name, values in vars(batch).items()}))
    among = ask(predictor, batch)
    for one, many in zip(alone, among, strict=True):
        np.testing.assert_array_equal(one[0], many[7])


# --- that it can be stopped, kept and refused ---


def test_resumed_is_uninterrupted_and_another_recipe_is_refused(network: Checkpoint, tmp_path: Path) -> None:
    small = RECIPE.model_copy(update={"spectra": 1024, "calibration_spectra": 128, "epochs": 2})
    whole = AppraisalTrainer(network, small, tmp_path / "one").run().state_dict()
    folder = tmp_path / "two"

    def stop(words: str) -> None:
        raise InterruptedError(words)

    with pytest.raises(InterruptedError, match="512 of 1,024 spectra"):
        AppraisalTrainer(network, small.model_copy(update={"epochs": 1}), folder).run(stop)  # epochs may differ
    assert [path.name for path in folder.glob("*.pt")] == ["00000.pt"]
    with pytest.raises(ConfigError, match="another recipe"):
        AppraisalTrainer(network, small.model_copy(update={"seed": 4}), folder).run()
    said: list[str] = []
    resumed = AppraisalTrainer(network, small, folder)
    torch.rand(7)  # whoever else draws random numbers
    again = resumed.run(said.append).state_dict()
    assert [words.split(",")[0] for words in said if "fitted" in words] == ["1"]  # one shard was there
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    resumed.clear()
    assert not folder.exists()


def test_a_checkpoint_keeps_its_appraisal_and_its_network(network: Checkpoint, taught: Taught) -> None:
    new = load_checkpoint(taught.path)
    old_state, new_state = network.model.state_dict(), new.model.state_dict()
    assert all(torch.equal(old_state[name], new_state[name]) for name in old_state)
    assert new.metadata["appraisal"]["network_sha256"] == network.weights_sha256
    assert new.metadata["training"] == {"step": 1}
    assert "errors and trust" in new.metadata["card"]
    batch = TrainingStream(synthetic_decoder(), StreamConfig(), NoiseConfig(), 5).batch(100)
    kept, made = ask(Predictor(new), batch), ask(taught.predictor, batch)
    for name in ("grid", "av", "dispersion", "velocity", "model", "norm", "gain", "noise_scale", "shift"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(made, name))
    np.testing.assert_allclose(kept.widths, made.widths, rtol=0.01)
    np.testing.assert_allclose(kept.model_error, made.model_error, rtol=0.01)
    np.testing.assert_allclose(kept.kinds, made.kinds, atol=0.01)
    np.testing.assert_allclose(kept.trust, made.trust, atol=0.02)


def test_weights_without_an_appraisal_give_bare_numbers(network: Checkpoint, taught: Taught) -> None:
    batch = TrainingStream(synthetic_decoder(), StreamConfig(), NoiseConfig(), 5).batch(20)
    assert network.model.appraisal is None
    bare, made = ask(Predictor(network), batch), ask(taught.predictor, batch)
    for one, two in zip(bare[:7], made[:7], strict=True):
        np.testing.assert_array_equal(one, two)
    assert all(np.isnan(values).all() for values in bare[7:])
    assert all(np.isfinite(values).all() for values in made)
    assert (made.widths > 0).all()
    assert ((made.trust > 0) & (made.trust <= 1)).all()
    np.testing.assert_allclose(made.kinds.sum(axis=1), 1.0, rtol=1e-5)


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
