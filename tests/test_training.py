"""Training: the loss, resuming, reproducibility, and that it learns."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from galprote.model import appraisal_training, lessons
from galprote.model.appraisal import AppraisalConfig
from galprote.model.appraisal_recipe import AppraisalRecipe
from galprote.model.checkpoint import default_checkpoint, load_checkpoint
from galprote.model.errors import ConfigError, LibraryError
from galprote.model.losses import GridAxes, LossConfig, loss_terms, marginal_correlation, ranked_score, total_loss
from galprote.model.refinement import Answer, RefinementConfig
from galprote.model.stream import StreamConfig
from galprote.model.synthesis import NoiseConfig, SyntheticSpectra
from galprote.model.training import Trainer
from galprote.model.training_config import LibraryConfig, TrainingConfig, read_training_config
from galprote.model.transformer import GalProTE, ModelConfig, Prediction
from tests.libraries import fine_wavelength, synthetic_flux

SMALL = ModelConfig(channels=2, projection_rank=8)
REFINED = SMALL.model_copy(
    update={"av_max": 3.0, "refinement": RefinementConfig(stages=2, components=16, hidden=32, memory=8)}
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic templates as a library file, continued beyond the decoder's range."""
    path = tmp_path_factory.mktemp("library") / "synthetic.npz"
    inner, flux = fine_wavelength(), synthetic_flux()
    wave = np.arange(4600.0, 7260.0, 0.9)
    wide = np.stack([np.interp(wave, inner, row) for row in flux.reshape(-1, flux.shape[-1])])
    from galprote.model.grids import AGES_GYR, METALLICITIES

    np.savez(path, flux=wide.reshape(12, 53, -1), wave=wave, age=AGES_GYR, metallicity=METALLICITIES)
    return path


def config(library: Path, output: Path, **changes: object) -> TrainingConfig:
    values: dict[str, object] = {
        "library": LibraryConfig(path=library),
        "output": output,
        "model": SMALL,
        "noise": NoiseConfig(gap_fraction=0.3),
        "steps": 4,
        "batch": 16,
        "warmup": 2,
        "validate_every": 2,
        "validation_spectra": 64,
        "bfloat16": False,
    }
    return TrainingConfig(**(values | changes))  # type: ignore[arg-type]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path).model.state_dict()


@pytest.mark.parametrize(
    "changes", [{}, *({"model": REFINED, "stream": StreamConfig(), "block_steps": steps} for steps in (1, 2, 3))]
)
def test_resumed_equals_uninterrupted(library: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    whole = Trainer(config(library, tmp_path / "whole", **changes)).run()
    stopped = Trainer(config(library, tmp_path / "stopped", **changes))

    class Stop(Exception):
        pass

    def stop(progress: object) -> None:
        raise Stop

    with pytest.raises(Stop):
        stopped.run(stop)
    resumed = Trainer(config(library, tmp_path / "stopped", **changes))
    path = resumed.run()
    assert resumed.step == 4
    one, two = weights(whole), weights(path)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert whole.read_bytes() == path.read_bytes()


def test_a_run_that_is_killed_between_validations_goes_on(library: Path, tmp_path: Path) -> None:
    whole = Trainer(config(library, tmp_path / "whole", steps=5, validate_every=5)).run()
    stopped = Trainer(config(library, tmp_path / "stopped", steps=5, validate_every=5))
    step = stopped.train_step

    def killed(batch: SyntheticSpectra) -> float:
        if stopped.step == 3:
            raise KeyboardInterrupt
        return step(batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("galprote.model.training.SAVE_SECONDS", 0.0)
        patch.setattr(stopped, "train_step", killed)
        with pytest.raises(KeyboardInterrupt):
            stopped.run()
    again = Trainer(config(library, tmp_path / "stopped", steps=5, validate_every=5))
    again.load_state()
    assert again.step == 3
    assert again.run().read_bytes() == whole.read_bytes()


def test_a_state_of_another_configuration_is_refused(library: Path, tmp_path: Path) -> None:
    Trainer(config(library, tmp_path, steps=2)).run()
    with pytest.raises(ConfigError, match=r"another training configuration; changed: seed, loss\."):
        Trainer(config(library, tmp_path, steps=2, seed=9, loss=LossConfig(ranked=1.0))).run()


def test_a_moved_library_is_the_same_and_another_one_is_not(library: Path, tmp_path: Path) -> None:
    Trainer(config(library, tmp_path, steps=2)).run()
    moved = tmp_path / "moved.npz"
    moved.write_bytes(library.read_bytes())
    again = Trainer(config(moved, tmp_path, steps=2))
    again.load_state()
    assert again.step == 2
    arrays = dict(np.load(library))
    np.savez(moved, **(arrays | {"flux": 1.5 * arrays["flux"]}))
    with pytest.raises(ConfigError, match="changed: library"):
        Trainer(config(moved, tmp_path, steps=2)).load_state()


def test_the_log_has_a_line_for_every_validation_also_after_an_interruption(library: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(progress: object) -> None:
        raise Stop

    with pytest.raises(Stop):
        Trainer(config(library, tmp_path)).run(stop)
    Trainer(config(library, tmp_path)).run()
    with (tmp_path / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4"]
    assert all(float(row["log_age_rms"]) > 0 for row in rows)


def test_tensorboard_is_missed_before_anything_is_computed(library: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("galprote.model.training_log.find_spec", lambda name: None)
        with pytest.raises(ConfigError, match="pip install tensorboard"):
            Trainer(config(library, tmp_path, tensorboard=True))


def test_a_stalled_run_of_two_phases_stops_in_the_second_only(library: Path, tmp_path: Path) -> None:
    changes = {"model": REFINED, "stream": StreamConfig(), "block_steps": 4, "steps": 12, "validate_every": 1}
    trainer = Trainer(config(library, tmp_path, patience=2, learning_rate=1e-12, **changes))
    for error in (0.1, 0.2, 0.2, 0.2):
        trainer._watch(error)
    assert not trainer._stalled()
    trainer.run()
    assert 4 + 2 <= trainer.step < 12  # nothing is learned, but the stages had their chance


def test_hidden_samples_do_not_weaken_the_loss() -> None:
    grid, av = torch.full((2, 12, 53), 1 / 636), torch.tensor([0.5, 1.0])
    model, guess = GalProTE(SMALL), Prediction(torch.zeros(2, 636), torch.zeros(2, 16))
    whole = truth(grid, av)
    noise = torch.full((2, 876), 0.005)
    hidden = noise.clone()
    hidden[:, :500] = torch.inf
    rule = LossConfig(noise_weight=0.7)
    one, two = (loss_terms(model, guess, replace(whole, noise=values), AXES, rule)["av"] for values in (noise, hidden))
    assert one > loss_terms(model, guess, whole, AXES, rule)["av"]
    torch.testing.assert_close(one, two)


def test_a_loss_that_is_not_finite_ends_the_run_and_spoils_nothing(library: Path, tmp_path: Path) -> None:
    trainer = Trainer(config(library, tmp_path))
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    batch = trainer.stream.batch(16)
    with pytest.raises(ConfigError, match="step 1: the loss is not finite"):
        trainer.train_step(replace(batch, spectra=torch.full_like(batch.spectra, torch.nan)))
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.named_parameters())


def test_training_learns(library: Path, tmp_path: Path) -> None:
    quiet = NoiseConfig(levels=(0.01,), patches=(0, 0))
    trainer = Trainer(config(library, tmp_path, steps=60, batch=64, ema=0.9, noise=quiet, learning_rate=3e-3, warmup=5))
    before = trainer.validate()
    for batch, _ in zip(trainer.stream.batches(64), range(60), strict=False):
        trainer.train_step(batch)
    after = trainer.validate()
    for name in ("log_age_rms", "av_rms"):
        assert after[name] < 0.8 * before[name]


def test_early_stopping_counts_validations_without_gain(library: Path, tmp_path: Path) -> None:
    trainer = Trainer(config(library, tmp_path, patience=3))
    for error in (1.0, 0.9, 0.95, 0.92, 0.91):
        assert not trainer._stalled()
        trainer._watch(error)
    assert trainer._stalled()


def test_the_checkpoint_tells_where_it_comes_from(library: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(Trainer(config(library, tmp_path, steps=2)).run())
    training = checkpoint.metadata["training"]
    assert training["config"]["library"]["path"] == library.name
    assert len(training["library_sha256"]) == 64
    assert training["spectra"] == 32
    assert "output" not in training["config"]
    assert checkpoint.metadata["metrics"]["validation"]["log_age_rms"] > 0


def test_training_ends_with_the_appraisal_and_teaches_it_once(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (lessons, appraisal_training):
        monkeypatch.setattr(module, "SHARD", 512)
    recipe = AppraisalRecipe(network=AppraisalConfig(hidden=8), spectra=1000, calibration_spectra=100, epochs=1)
    chosen = config(library, tmp_path, model=REFINED, stream=StreamConfig(), block_steps=1, appraisal=recipe)
    said: list[str] = []
    path = Trainer(chosen).run(tell=said.append)
    assert any("spectra fitted" in words for words in said)
    checkpoint = load_checkpoint(path)
    assert checkpoint.model.config.appraisal == recipe.network
    assert checkpoint.metadata["appraisal"]["recipe"]["spectra"] == 1000
    assert "errors and trust" in (tmp_path / "model-card.md").read_text()
    bytes_before = path.read_bytes()
    said.clear()
    assert Trainer(chosen).run(tell=said.append) == path
    assert not said
    assert path.read_bytes() == bytes_before


def truth(grid: torch.Tensor, av: torch.Tensor) -> SyntheticSpectra:
    n, zero = len(av), torch.zeros_like(av)
    return SyntheticSpectra(
        torch.ones(n, 876), torch.ones(n, 948), grid, av, zero, zero, torch.full((n, 876), 0.03), zero,
        torch.ones(n, 948), torch.ones(n), zero, zero,
    )  # fmt: skip


AXES = GridAxes(torch.linspace(7, 10, 53), torch.linspace(-2, 0.4, 12))


def test_the_right_answer_has_no_loss_but_its_entropy() -> None:
    grid = torch.zeros(3, 12, 53)
    grid[:, 4, 20] = 1.0
    av = torch.tensor([0.0, 0.7, 1.5])
    classes = (av * 10).round().long()
    right = Prediction(50 * grid.flatten(1), 50 * torch.nn.functional.one_hot(classes, 16).float())
    model = GalProTE(SMALL)
    terms = loss_terms(model, right, truth(grid, av), AXES, LossConfig())
    weights = set(LossConfig.model_fields) - {"noise_weight", "early_stages"}
    assert set(terms) == weights - {"kinematics"}
    assert all(abs(float(term.detach())) < 1e-5 for term in terms.values())
    wrong = Prediction(50 * grid.flatten(1).roll(60, 1), right.av_logits.roll(3, 1))
    worse = loss_terms(model, wrong, truth(grid, av), AXES, LossConfig())
    assert all(worse[name] > 1e-3 for name in worse)
    alone = total_loss(worse, LossConfig(**dict.fromkeys(weights, 0.0) | {"moments": 2.0}))
    assert float(alone) == pytest.approx(2 * float(worse["moments"]))


def test_every_stage_is_judged_and_the_last_one_most() -> None:
    grid = torch.zeros(3, 12, 53)
    grid[:, 4, 20] = 1.0
    av, zero = torch.tensor([0.0, 0.7, 1.5]), torch.zeros(3)
    right = Answer(50 * grid.flatten(1), av, zero, zero, zero[:, None])
    wrong = Answer(right.grid_logits.roll(60, 1), av + 0.5, zero + 100.0, zero - 50.0, zero[:, None])
    logits = torch.zeros(3, 16)
    config = LossConfig(early_stages=0.25, noise_weight=0.7)

    def moments(*answers: Answer) -> dict[str, torch.Tensor]:
        return loss_terms(
            GalProTE(SMALL), Prediction(right.grid_logits, logits, answers), truth(grid, av), AXES, config
        )

    late, early = moments(right, wrong), moments(wrong, right)
    for name in ("moments", "av", "kinematics", "ranked", "cross_entropy"):
        assert float(early[name]) == pytest.approx(0.25 * float(late[name]), rel=1e-4)
    assert float(late["kinematics"]) == pytest.approx(1.25)
    assert float(late["av"]) == pytest.approx(0.25)


def test_the_ranked_score_grows_with_distance() -> None:
    def at(age: int) -> torch.Tensor:
        grid = torch.zeros(1, 12, 53)
        grid[:, 4, age] = 1.0
        return grid

    scores = [float(ranked_score(at(age), at(10), AXES)) for age in (10, 11, 20, 40)]
    assert scores == pytest.approx([0.0, 3 / 52, 30 / 52, 90 / 52], abs=1e-5)


def test_correlation_of_marginals() -> None:
    grid = torch.rand(4, 12, 53)
    torch.testing.assert_close(marginal_correlation(grid, 3 * grid, 1), torch.ones(4))
    assert (marginal_correlation(grid, 1 - grid, 2) < -0.999).all()


def test_the_model_must_fit_the_library(library: Path, tmp_path: Path) -> None:
    wrong = SMALL.model_copy(update={"n_age": 50})
    with pytest.raises(LibraryError, match=r"12 metallicities x 53 ages, but the model has 12 x 50"):
        Trainer(config(library, tmp_path, model=wrong))


def test_frozen_blocks_keep_their_weights_and_the_stages_learn(library: Path, tmp_path: Path) -> None:
    trainer = Trainer(config(library, tmp_path, model=REFINED, stream=StreamConfig(), block_steps=1))
    batches = trainer.stream.batches(16)
    for _ in range(2):
        trainer.train_step(next(batches))
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.train_step(next(batches))
    changed = {name for name, tensor in trainer.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith("refinement.stages") for name in changed)


def test_fine_tuning_starts_with_the_weights_that_fit(library: Path, tmp_path: Path) -> None:
    first = Trainer(config(library, tmp_path / "first", model=REFINED, stream=StreamConfig(), steps=2)).run()
    again = Trainer(config(library, tmp_path / "again", model=REFINED, stream=StreamConfig(), start_from=first, seed=5))
    kept = weights(first)
    small = {name for name, value in again.model.named_parameters() if value.numel() <= 4096}
    assert small
    assert all(torch.equal(dict(again.model.named_parameters())[name], kept[name]) for name in small)
    wider = REFINED.model_copy(update={"channels": 3})
    partly = Trainer(config(library, tmp_path / "partly", model=wider, stream=StreamConfig(), start_from=first))
    assert torch.equal(partly.model.grid_head.bias, kept["grid_head.bias"])
    assert partly.model.blocks[0].convolution.weight.shape[0] == 3  # type: ignore[union-attr,index]


def test_fine_tuning_starts_where_the_known_model_stands(library: Path, tmp_path: Path) -> None:
    first = Trainer(config(library, tmp_path / "first", model=REFINED, stream=StreamConfig(), steps=3)).run()
    again = Trainer(config(library, tmp_path / "again", model=REFINED, stream=StreamConfig(), start_from=first, seed=5))
    known = load_checkpoint(first).model
    batch = again.stream.batch(64)
    with torch.inference_mode():
        one, two = (m.eval()(batch.spectra, batch.noise, batch.calibration) for m in (known, again.model))
    torch.testing.assert_close(two.answers[-1].grid_logits, one.answers[-1].grid_logits, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(two.answers[-1].av, one.answers[-1].av, atol=1e-4, rtol=1e-4)


def test_the_fine_tuning_recipe_continues_the_shipped_weights(tmp_path: Path) -> None:
    folder = Path(__file__).parents[1] / "configs" / "train"
    tuned, shipped = (read_training_config(folder / f"{name}.yaml") for name in ("instrument", "survey"))
    assert tuned.start_from == default_checkpoint()
    known = load_checkpoint().model.config
    assert known.model_copy(update={"appraisal": None}) == tuned.model == shipped.model
    assert shipped.appraisal is not None
    assert tuned.appraisal is not None
    assert known.appraisal == shipped.appraisal.network == tuned.appraisal.network
    assert tuned.loss == shipped.loss
    (tmp_path / "mine.yaml").write_text("library: {path: x}\noutput: y\nstart_from: known.safetensors\n")
    assert read_training_config(tmp_path / "mine.yaml").start_from == tmp_path / "known.safetensors"


def test_the_stages_learn_behind_the_averaged_blocks(library: Path, tmp_path: Path) -> None:
    trainer = Trainer(config(library, tmp_path, model=REFINED, stream=StreamConfig(), block_steps=2, steps=9))
    batches = trainer.stream.batches(16)
    for _ in range(2):
        trainer.train_step(next(batches))
    averaged = {name: value.clone() for name, value in trainer.average.state_dict().items()}
    assert not torch.equal(averaged["grid_head.weight"], trainer.model.grid_head.weight)
    trainer.train_step(next(batches))
    assert torch.equal(averaged["grid_head.weight"], trainer.model.grid_head.weight)
    torch.testing.assert_close(trainer.average.grid_head.weight, averaged["grid_head.weight"])


def test_block_steps_must_leave_something_to_refine(library: Path, tmp_path: Path) -> None:
    for changes in ({"block_steps": 2}, {"block_steps": 4, "model": REFINED, "stream": StreamConfig()}):
        with pytest.raises(ValueError, match="block_steps"):
            config(library, tmp_path, **changes)


def test_the_shipped_recipe_is_read_and_paths_are_relative_to_it() -> None:
    path = Path(__file__).parents[1] / "configs" / "train" / "paper.yaml"
    recipe = read_training_config(path)
    assert recipe.model.kernels == (11, 21, 31, 61)
    assert recipe.noise.levels == (0.0, 0.02, 0.04)
    assert recipe.output == path.parent / "../../runs/paper"
    assert read_training_config(path, library=Path("x.npz")).library.path == Path("x.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stepps": 3}, r"stepps: unknown key; did you mean steps?"),
        ({"steps": -1}, r"steps: .*\(found -1\)"),
        ({"model": {"pool": 7}}, "model"),
        ({"model": {"pool": 0}}, r"model.pool: .*greater than or equal to 1 \(found 0\)"),
        ({"model": {"kernels": [11, -3]}}, "kernels must be odd and positive"),
        ({"model": {"window": [0, 5600]}}, r"model: .*\[0, 5600\]: window and masks must be .* within 4748 to 7102"),
        ({"model": {"av_max": 0.5}}, "the paper's spectra reach 1.5 mag"),
        ({"model": {"refinement": {}, "av_readout": "argmax"}}, "av_readout: argmax is for the plain network"),
        ({"stream": {"paper": 0.9, "quiet": 0.3}, "model": {"av_max": 3.0}}, r"paper \+ quiet = 1.2"),
        ({"stream": {"artefacts": {"snr": [0, 200]}}, "model": {"av_max": 3.0}}, r"stream.artefacts.snr: .*logarithm"),
        ({"stream": {"histories": {"start": [14, 1]}}, "model": {"av_max": 3.0}}, r"expected \[lowest, highest\]"),
        ({"noise": {"levels": []}}, "noise.levels"),
        ({"seed": 20_250_302}, "seed: .*less than 10000000"),
    ],
)
def test_mistakes_in_a_recipe_are_told(change: dict[str, object], message: str, tmp_path: Path) -> None:
    raw = {"library": {"path": "x"}, "output": "y"} | change
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match=message):
        read_training_config(tmp_path / "train.yaml")
