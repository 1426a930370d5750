"""What the appraisal learns from, and what is made of it: lessons, loss, tables of trust, stretched intervals."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from galprote.model import lessons
from galprote.model.anomalies import ANOMALIES
from galprote.model.appraisal import KINDS, PARTS, SHARES, TABLE_SNR, AppraisalConfig, between, part_masks
from galprote.model.appraisal_recipe import APPRAISAL_STREAM, AppraisalRecipe
from galprote.model.appraisal_training import AppraisalTrainer
from galprote.model.checkpoint import Checkpoint, load_checkpoint
from galprote.model.lessons import Lesson, joined
from galprote.model.masses import MassScale
from galprote.model.populations import APPRAISED, derived
from galprote.model.predictor import Predictor
from galprote.model.stream import StreamConfig
from galprote.model.synthesis import SyntheticSpectra
from tests import surveys

RECIPE = AppraisalRecipe(
    network=AppraisalConfig(hidden=16), spectra=1000, calibration_spectra=150, anomalies=0.45, seed=3
)
N = 2000


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load_checkpoint(surveys.write_checkpoint(tmp_path_factory.mktemp("network") / "w.safetensors", refined=True))


@pytest.fixture(scope="module")
def trainer(network: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> AppraisalTrainer:
    return AppraisalTrainer(network, RECIPE, tmp_path_factory.mktemp("trainer"))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lessons, "SHARD", 200)


def learn_from(trainer: AppraisalTrainer, patch: pytest.MonkeyPatch, **changes: object) -> None:
    recipe = RECIPE.model_copy(update=changes)
    patch.setattr(trainer, "recipe", recipe)
    patch.setattr(trainer.maker, "recipe", recipe)


# --- what is fitted ---


def test_a_lesson_is_the_same_whenever_it_is_made(trainer: AppraisalTrainer) -> None:
    first, other, again = (trainer.maker.lesson(index) for index in (1, 0, 1))
    for name, values in vars(first).items():
        torch.testing.assert_close(values, getattr(again, name), atol=0, rtol=0, equal_nan=True)
    assert not torch.equal(first.inputs, other.inputs)
    assert first.kind.bincount().tolist() == [200 - 10 * len(ANOMALIES)] + [10] * len(ANOMALIES)
    assert torch.isfinite(first.inputs).all()
    for truth in (first.errors, first.parts):
        assert (torch.isnan(truth).all(dim=1) == (first.kind > 0)).all()
        assert torch.isfinite(truth[first.kind == 0]).all()


def test_errors_are_those_of_the_answer_that_is_given(trainer: AppraisalTrainer, network: Checkpoint) -> None:
    """Found minus true, and the rms of the model spectrum's error: as a user of the network would find them."""
    maker = trainer.maker
    maker.stream.generator.manual_seed(5)
    batch = maker.stream.batch(100)
    told = torch.full((100,), 0.02)
    with torch.inference_mode():
        lesson = maker._fit(batch, told, 0, torch.arange(20, 100))
    answer = Predictor(network)(batch.spectra.numpy(), batch.noise.numpy(), 0.02, batch.redshift.numpy())
    scale = MassScale.of(network.decoder)
    found = derived(answer.grid, answer.av, answer.norm, scale)
    true = derived(batch.grid.numpy(), batch.av.numpy(), batch.norm.numpy(), scale)
    for k, name in enumerate(APPRAISED):
        np.testing.assert_allclose(lesson.errors[:, k], (found[name] - true[name])[20:], atol=2e-4, err_msg=name)
        assert lesson.errors[:, k].abs().median() > 0.01, name
    off = (answer.model * answer.gain[:, None] - batch.continuum.numpy())[20:]
    rms = [np.sqrt(np.mean(off[:, mask] ** 2, axis=1)) for mask in part_masks().numpy()]
    np.testing.assert_allclose(lesson.parts, np.stack(rms, axis=1), rtol=1e-3, atol=1e-4)


def asked(
    trainer: AppraisalTrainer, patch: pytest.MonkeyPatch, run: Callable[[], object]
) -> list[tuple[SyntheticSpectra, Tensor, int]]:
    """What the network is asked to fit: spectra, what it is told of the calibration, and the kind."""
    seen: list[tuple[SyntheticSpectra, Tensor, int]] = []
    empty = Lesson(*(torch.zeros(0) for _ in range(5)))

    def fit(batch: SyntheticSpectra, told: Tensor, kind: int, rows: Tensor) -> Lesson:
        if not rows[0]:
            seen.append((batch, told, kind))
        return empty

    with patch.context() as inner:
        inner.setattr(trainer.maker, "_fit", fit)
        run()
    return seen


@pytest.mark.parametrize("known", [0.0, 0.5, 1.0])
def test_the_calibration_is_told_of_some(
    trainer: AppraisalTrainer, monkeypatch: pytest.MonkeyPatch, known: float
) -> None:
    learn_from(trainer, monkeypatch, known_calibration=known, default_calibration=0.0123)
    for batch, told, _ in asked(trainer, monkeypatch, lambda: trainer.maker.lesson(0)):
        own, default = told == batch.calibration, told == torch.tensor(0.0123)
        assert (own | default).all()
        if known in {0.0, 1.0}:
            assert (own if known else default).all()
    batch, told, _ = asked(trainer, monkeypatch, lambda: trainer.maker.lesson(0))[0]
    assert abs(float((told == torch.tensor(0.0123)).float().mean()) - (1 - known)) < 0.2
    assert batch.calibration.std() > 1e-3


def test_what_is_expected_of_the_stars_does_not_tell_the_kinds_apart(
    trainer: AppraisalTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lessons, "SHARD", 4000)
    learn_from(trainer, monkeypatch, anomalies=0.9)
    low, high = APPRAISAL_STREAM.artefacts.mismatch or (0.0, 0.0)
    seen = asked(trainer, monkeypatch, lambda: trainer.maker.lesson(0))
    assert [KINDS[kind] for *_, kind in seen] == list(KINDS)
    for batch, _, kind in seen:
        expected = batch.template_error
        some = expected[expected > 0]
        assert ((some >= low) & (some <= high)).all()
        assert abs(float((expected > 0).float().mean()) - 0.5 * (0.9 if kind == 0 else 1)) < 0.1, KINDS[kind]
        assert float(some.log().mean()) == pytest.approx(np.log(low * high) / 2, abs=0.25)


def test_intervals_are_stretched_on_what_the_pipeline_tells(
    trainer: AppraisalTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn_from(trainer, monkeypatch, default_calibration=0.0123, calibration_spectra=450)
    seen = asked(trainer, monkeypatch, trainer.maker.calibration_lesson)
    assert [(len(batch), kind) for batch, _, kind in seen] == [(200, 0), (200, 0), (50, 0)]
    assert all((told == 0.0123).all() for _, told, _ in seen)
    assert not any(batch.template_error.any() for batch, *_ in seen)
    assert not torch.equal(seen[0][0].spectra, seen[1][0].spectra)


# --- what is made of it: a network whose answer is put in ---


def pretend(patch: pytest.MonkeyPatch, trainer: AppraisalTrainer, log_width: Tensor | None = None) -> None:
    """Of the inputs the first is the oddness; widths and errors of the model are given, (2,) and one."""
    widths = torch.zeros(2) if log_width is None else log_width

    def judge(inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n = len(inputs)
        kinds = torch.full((n, len(KINDS)), -1e4)
        kinds[:, 0], kinds[:, 1] = 0.0, inputs[:, 0]
        return widths.expand(n, len(APPRAISED), 2), torch.full((n, PARTS), -3.0), kinds

    patch.setattr(trainer.appraisal, "judge", judge)


def invented(snr: float, seed: int, n: int = N) -> Lesson:
    """Ordinary spectra of one signal-to-noise ratio: the better it is, the larger their scores and the fewer errors."""
    random = torch.Generator().manual_seed(seed)
    score = torch.randn(n, 1, generator=random) * (1 + snr / 50) + np.log(snr)
    errors = torch.randn(n, len(APPRAISED), generator=random) / snr * torch.arange(1, 8)
    parts = torch.full((n, PARTS), float(np.exp(-3.0)))
    return Lesson(score, errors, parts, torch.zeros(n, dtype=torch.int64), torch.full((n,), 1 / snr))


def test_trust_is_uniform_at_every_signal_to_noise_ratio(
    trainer: AppraisalTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within Kolmogorov and Smirnov's bound of two samples (chance of 1e-4), and whatever the anomalies are like."""
    pretend(monkeypatch, trainer)
    held = [invented(snr, k) for k, snr in enumerate(TABLE_SNR)]
    trainer.tabulate(joined(held))
    table = trainer.appraisal.scores.clone()
    levels = torch.linspace(0, 1, 201)
    for k, snr in enumerate(TABLE_SNR):
        fresh = invented(snr, 100 + k)
        trust = trainer.appraisal.trust(fresh.inputs[:, 0], fresh.typical)
        share = (trust <= levels[:, None]).float().mean(dim=1)
        assert float((share - levels).abs().max()) < 2.23 * np.sqrt(2 / N), snr
    strange = invented(20.0, 9)
    strange.kind[:] = 3
    trainer.tabulate(joined([*held, strange]))
    assert torch.equal(trainer.appraisal.scores, table)


def test_the_odder_the_less_trusted(trainer: AppraisalTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, trainer)
    trainer.tabulate(joined([invented(snr, k) for k, snr in enumerate(TABLE_SNR)]))
    score = torch.cat([torch.tensor([-1e6]), torch.linspace(-8, 20, 500), torch.tensor([1e6])])

    def trust(snr: float) -> Tensor:
        return trainer.appraisal.trust(score, torch.full_like(score, 1 / snr))

    for snr in (0.5, 3.5, 10.0, 50.0, 1000.0):
        assert (trust(snr).diff() <= 0).all()
        assert trust(snr)[[0, -1]].tolist() == [1.0, 0.0]
    low, middle, high = (trust(snr) for snr in (14.0, 20.0, 28.0))
    assert ((middle >= torch.minimum(low, high)) & (middle <= torch.maximum(low, high))).all()
    assert (trust(1000.0) - trust(TABLE_SNR[-1])).abs().max() < 0.01


def test_where_there_are_few_all_are_taken(trainer: AppraisalTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, trainer)
    trainer.tabulate(joined([invented(14.0, 1), invented(56.0, 2, n=50)]))
    others = trainer.appraisal.scores[[0, 1, 3, 4, 5]]
    assert torch.equal(others, others[:1].expand(5, -1))
    assert not torch.equal(trainer.appraisal.scores[2], others[0])


def test_stretched_intervals_hold_exactly_their_share(
    trainer: AppraisalTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the spectra on which they were stretched, at every signal-to-noise ratio and for every number."""
    pretend(monkeypatch, trainer, torch.tensor([-1.0, 2.0]))
    fresh = joined([invented(snr, 50 + k) for k, snr in enumerate(TABLE_SNR)])
    trainer.stretch(fresh)
    log_widths = torch.tensor([-1.0, 2.0]) + between(trainer.appraisal.stretch, fresh.typical)
    inside = fresh.errors.abs()[:, :, None] <= log_widths.exp()
    share = inside.float().unflatten(0, (len(TABLE_SNR), N)).mean(dim=1)
    torch.testing.assert_close(share, torch.tensor(SHARES).expand_as(share), atol=2e-3, rtol=0)
    width = torch.tensor([1.0, 2.0]) * torch.arange(1, 8)[:, None]
    for k, snr in enumerate(TABLE_SNR):
        torch.testing.assert_close(log_widths.exp()[k * N] * snr, width, rtol=0.1, atol=0)


def test_the_loss_is_least_for_the_right_widths(trainer: AppraisalTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """One and two standard deviations of Gaussian errors; a plain error of the model spectrum."""
    lesson, rows = invented(10.0, 1), torch.arange(N)
    lesson = Lesson(**(vars(lesson) | {"errors": lesson.errors / torch.arange(1, 8)}))

    def loss(one: float = 0.0, two: float = 0.0, parts: float = 0.0) -> float:
        pretend(monkeypatch, trainer, torch.tensor([0.1, 0.2]).log() + torch.tensor([one, two]))
        changed = Lesson(**(vars(lesson) | {"parts": lesson.parts * float(np.exp(parts))}))
        return float(trainer.loss(changed, rows))

    best = loss()
    for change in (-0.2, 0.2):
        for worse in (loss(one=change), loss(two=change), loss(parts=change)):
            assert worse > best + 1e-3


def test_anomalies_have_no_errors_to_learn_from(trainer: AppraisalTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """But they count among the kinds: the loss of spectra and of anomalies, which are told for certain, is the half."""
    pretend(monkeypatch, trainer, torch.tensor([0.1, 0.2]).log())
    plain, odd = invented(10.0, 1), invented(10.0, 2)
    plain.inputs[:] = -50.0
    odd.inputs[:] = 50.0
    odd.kind[:] = 1
    odd.errors[:], odd.parts[:] = np.nan, np.nan
    alone = trainer.loss(plain, torch.arange(N))
    torch.testing.assert_close(trainer.loss(joined([plain, odd]), torch.arange(2 * N)), alone, atol=1e-5, rtol=0)
    odd.kind[:] = 2  # another kind than what it is taken for
    assert trainer.loss(joined([plain, odd]), torch.arange(2 * N)) > alone + 100


# --- which spectra belong to which recipe ---


def test_spectra_belong_to_what_they_were_made_with(
    trainer: AppraisalTrainer, network: Checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = trainer._identity
    for name, value in {
        "spectra": 2000, "epochs": 3, "learning_rate": 0.1, "weight_decay": 0.0, "calibration_spectra": 500,
        "network": AppraisalConfig(hidden=8), "survey": StreamConfig(paper=0.2),
    }.items():  # fmt: skip
        learn_from(trainer, monkeypatch, **{name: value})
        assert trainer._identify(network) == own, name
    for name, value in {
        "seed": 4, "anomalies": 0.3, "known_calibration": 0.4, "default_calibration": 0.02, "stream": StreamConfig(),
    }.items():  # fmt: skip
        learn_from(trainer, monkeypatch, **{name: value})
        assert trainer._identify(network) != own, name
    first = tmp_path / "first"
    first.mkdir()
    (first / "star.fits").write_text("a star")
    identities = [own]
    for folder in (first, shutil.copytree(first, tmp_path / "second")):
        learn_from(trainer, monkeypatch, stars=folder)
        identities.append(trainer._identify(network))
    (first / "star.fits").write_text("another star")
    learn_from(trainer, monkeypatch, stars=first)
    identities.append(trainer._identify(network))
    assert identities[1] == identities[2]
    assert len(set(identities)) == 3
