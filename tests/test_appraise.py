"""The appraisal from end to end: what it is shown of a spectrum, how it is kept, and the commands that use it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from astropy.io import fits
from torch import Tensor

from galprote.model import appraisal_training, lessons
from galprote.model.appraisal import (
    LAGS,
    LARGEST_INPUT,
    N_DIAGNOSTICS,
    WIDTHS,
    AppraisalConfig,
    residual_numbers,
)
from galprote.model.appraisal_recipe import AppraisalRecipe
from galprote.model.appraisal_training import AppraisalTrainer
from galprote.model.checkpoint import load_checkpoint, save_checkpoint
from galprote.model.errors import LibraryError
from galprote.model.grids import N_KEPT
from galprote.model.lessons import Lesson, LessonMaker
from galprote.model.predictor import Predictor
from galprote.model.refinement import Look, Observation
from galprote.model.stars import read_stars
from galprote.model.stream import INGREDIENTS, StreamConfig
from galprote.pipeline.block import predict_block, prepare_block
from galprote.workflows.cli import main
from tests import surveys
from tests.test_spectra import settings

B = 64


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with an appraisal that was taught nothing."""
    path = tmp_path_factory.mktemp("weights") / "appraised.safetensors"
    return surveys.write_checkpoint(path, refined=True, appraisal=AppraisalConfig(hidden=8))


def command(*arguments: object) -> int:
    """Status that a command ends with."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


# --- what it is shown ---


def told(z: Tensor, *, unknown: slice = slice(0)) -> dict[str, Tensor]:
    """Numbers of residuals (B, 876) in units of a noise of 5 %."""
    noise = torch.full_like(z, 0.05)
    noise[:, unknown] = torch.inf
    one = torch.ones(len(z))
    look = Look(z, 0.05 * z, one, 0.05 * z / noise, one, torch.ones_like(z), 0.05 * one)
    numbers = residual_numbers(Observation(1 + 0.05 * z, noise, 0 * one, 0 * one, 0 * one), look)
    sizes = {"excess": 1, "chi2": 1, "means": 3 * len(WIDTHS), "lags": len(LAGS), "missing": 1, "runs": 4, "walk": 1}
    assert numbers.shape[1] == sum(sizes.values()) + 12 == N_DIAGNOSTICS - 5 - 2
    return dict(zip([*sizes, "windows"], numbers.split([*sizes.values(), 12], dim=1), strict=True))


def white(seed: int = 1) -> Tensor:
    return torch.randn(B, N_KEPT, generator=torch.Generator().manual_seed(seed))


def test_nothing_stands_out_of_white_noise() -> None:
    found = told(white())
    squares, highest, lowest = found["means"].unflatten(1, (len(WIDTHS), 3)).unbind(2)
    for values in (found["excess"], found["chi2"], found["lags"]):
        assert values.mean(dim=0).abs().max() < 0.03
    assert found["windows"].sinh().std() == pytest.approx(30 * 0.05 / 73**0.5, rel=0.15)
    # The wider, the fewer independent means: their square scatters by the root of 2 width / 876.
    scatter = torch.tensor([(2 * width / N_KEPT) ** 0.5 for width in WIDTHS])
    assert (squares.exp().mean(dim=0) - 1).abs().lt(4 * scatter / B**0.5).all()
    assert (highest.sinh().mean(dim=0) + lowest.sinh().mean(dim=0)).abs().max() < 0.2
    assert (found["missing"] == 0).all()


def test_residuals_that_hang_together_are_told_lag_by_lag() -> None:
    noise, before = white(1), white(1).roll(1, dims=1)
    for b, sign in ((0.5, 1), (0.5, -1), (0.2, 1)):
        lags = told((noise + sign * b * before) / (1 + b**2) ** 0.5)["lags"].mean(dim=0)
        wanted = torch.tensor([sign * b / (1 + b**2), 0.0, 0.0, 0.0])
        torch.testing.assert_close(lags, wanted, atol=0.015, rtol=0)
    every_third = torch.zeros(B, N_KEPT)
    every_third[:, ::3] = 1.0
    torch.testing.assert_close(told(every_third)["lags"][0], torch.tensor([0.0, 0.0, 1 / 3, 0.0]), atol=2e-3, rtol=0)


def test_an_offset_shows_in_wide_means_most() -> None:
    found = told(0.5 + white())["means"].unflatten(1, (len(WIDTHS), 3))
    wanted = torch.tensor([1 + width * 0.25 for width in WIDTHS])
    torch.testing.assert_close(found[:, :, 0].exp().mean(dim=0), wanted, rtol=0.1, atol=0.0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_hole_is_no_bump(sign: float) -> None:
    z = torch.zeros(1, N_KEPT)
    z[:, 400:407] = sign * 6.0
    found = told(z)
    highest, lowest = found["means"].unflatten(1, (len(WIDTHS), 3))[0, :, 1:].unbind(1)
    grown, other = (highest, lowest) if sign > 0 else (lowest, highest)
    assert float(sign * grown[WIDTHS.index(7)].sinh()) == pytest.approx(6.0 * 7**0.5, rel=1e-4)
    assert (other == 0).all()
    high, low = found["runs"][0].unflatten(0, (2, 2)).unbind(1)  # of 7 and of 31 samples
    grown, other = (high, low) if sign > 0 else (low, high)
    torch.testing.assert_close(sign * grown.sinh() / 10, torch.tensor([0.3, 0.3 * 7 / 31]), atol=1e-5, rtol=1e-4)
    assert (other == 0).all()
    assert float(found["walk"].expm1()) == pytest.approx(42 / N_KEPT**0.5, rel=1e-3)
    assert found["windows"].nonzero()[:, 1].tolist() == [400 // 73]


def test_missing_samples_are_counted_and_not_summed() -> None:
    found = told(white(), unknown=slice(100, 319))
    torch.testing.assert_close(found["missing"], torch.full((B, 1), 0.25))
    assert found["chi2"].mean().abs() < 0.03
    assert found["lags"].mean(dim=0).abs().max() < 0.02


def test_what_is_far_out_is_as_far_as_it_can_be(weights: Path) -> None:
    appraisal = load_checkpoint(weights).model.appraisal
    assert appraisal is not None
    with torch.inference_mode():
        at_the_end, beyond, inside = (
            appraisal.judge(torch.full((1, len(appraisal.input_mean)), LARGEST_INPUT * factor))
            for factor in (1.0, 1e4, 0.5)
        )
    for one, two, three in zip(at_the_end, beyond, inside, strict=True):
        assert torch.equal(one, two)
        assert not torch.equal(one, three)


def test_what_stands_in_channels_without_variance_changes_nothing() -> None:
    """Neither the answer nor what it is worth: the pipeline fills them whatever they hold."""
    flux, variance = surveys.spectra(8, seed=4)
    variance = variance.copy()
    variance[500:540], variance[900:910, ::2], variance[1300] = 0.0, np.nan, -1.0
    nowhere = ~(variance > 0)
    chosen = settings(np.asarray(surveys.FIRST_CHANNEL + 1.25 * np.arange(surveys.CHANNELS), dtype=np.float64))
    predictor = Predictor(load_checkpoint())
    values = []
    for garbage in (0.0, 1e6, -4e3):
        spoiled = np.where(nowhere, np.float32(garbage), flux)
        block = prepare_block(spoiled[:, :, None], variance[:, :, None], None, chosen)
        fitted = predict_block(block, chosen, predictor)
        values.append(fitted.values | {"remarks": fitted.remarks, "model": fitted.model})
    assert len(values[0]["trust"]) == 8
    for name, first in values[0].items():
        for other in values[1:]:
            np.testing.assert_array_equal(first, other[name], err_msg=name)


# --- how it is kept ---


def test_kept_once_it_is_kept_for_ever(weights: Path, tmp_path: Path) -> None:
    """Half precision loses something once; after that every copy is the same file."""
    first = load_checkpoint(weights)
    assert first.model.appraisal is not None
    copy = tmp_path / "copy.safetensors"
    save_checkpoint(copy, first.model, first.decoder, {name: first.metadata[name] for name in ("training", "metrics")})
    assert copy.read_bytes() == weights.read_bytes()
    small = {"scores", "stretch", "input_mean", "input_scale", "widths.bias"}
    made = surveys.random_model(7, refined=True, appraisal=AppraisalConfig(hidden=8)).state_dict()
    for name in small:  # in single precision
        assert torch.equal(first.model.state_dict()[f"appraisal.{name}"], made[f"appraisal.{name}"]), name


# --- the commands ---


@pytest.mark.parametrize("suite", ["coverage", "anomalies"])
def test_any_appraised_network_can_be_evaluated(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suite: str
) -> None:
    found, plots = tmp_path / "found.json", tmp_path / "plots"
    options = ("--limit", 64, "--output", found, "--plots", plots, "--device", "cpu")
    assert command("evaluate", weights, "--suite", suite, *options) == 0
    shown = capsys.readouterr().out.splitlines()
    table = shown[: next(k for k, line in enumerate(shown) if str(plots) in line or "Figure" in line)]
    assert max(map(len, table)) <= 100
    cases = json.loads(found.read_text())[suite]
    assert {case["spectra"] for case in cases.values()} == {64}  # and a fifth of five times as many
    assert [path.name for path in plots.iterdir()] == [f"{suite}.png"]


def recipe(folder: Path, **section: object) -> Path:
    path = folder / "recipe.yaml"
    sizes = {"spectra": 1000, "calibration_spectra": 100, "epochs": 1, "network": {"hidden": 8}}
    path.write_text(yaml.safe_dump({"appraisal": sizes | section}))
    return path


def test_an_interrupted_command_says_how_to_go_on(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = LessonMaker.lesson

    def lesson(maker: LessonMaker, index: int) -> Lesson:
        if index == 1:
            raise KeyboardInterrupt
        return made(maker, index)

    monkeypatch.setattr(LessonMaker, "lesson", lesson)
    for module in (lessons, appraisal_training):
        monkeypatch.setattr(module, "SHARD", 100)
    output = tmp_path / "new.safetensors"
    options = ("--checkpoint", weights, "--output", output, "--device", "cpu")
    assert command("appraise", recipe(tmp_path), *options) == 3
    said = capsys.readouterr().out
    assert "SIGINT: stopped; at most the last shard of spectra is lost. To go on:\n  galprote-pipeline" in said
    assert not output.exists()
    kept = output.with_name("new.safetensors.spectra")
    assert [path.name for path in kept.glob("*.pt")] == ["00000.pt"]
    monkeypatch.setattr(LessonMaker, "lesson", made)
    assert command("appraise", recipe(tmp_path, seed=5), *options) == 2
    assert "spectra of another recipe" in capsys.readouterr().err


def test_what_cannot_be_appraised_is_refused(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = surveys.write_checkpoint(tmp_path / "plain.safetensors")
    output = tmp_path / "new.safetensors"
    assert command("appraise", recipe(tmp_path), "--checkpoint", plain, "--output", output, "--device", "cpu") == 2
    assert "no refining stages" in capsys.readouterr().err
    stars = ("--stars", tmp_path / "nowhere")
    assert command("appraise", recipe(tmp_path), "--checkpoint", weights, "--output", output, *stars) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not output.exists()


# --- found, and not right yet ---


def test_a_folder_for_an_output_is_refused_at_once(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[int] = []

    def lesson(maker: LessonMaker, index: int) -> Lesson:
        fitted.append(index)
        raise KeyboardInterrupt

    monkeypatch.setattr(LessonMaker, "lesson", lesson)
    (tmp_path / "out").mkdir()
    options = ("--checkpoint", weights, "--output", tmp_path / "out", "--device", "cpu")
    assert command("appraise", recipe(tmp_path), *options) == 2
    assert not fitted


def test_a_finished_run_leaves_no_spectra(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appraisal_training, "SHARD", 100)
    longer = AppraisalRecipe(spectra=1400, network=AppraisalConfig(hidden=8), calibration_spectra=100)
    trainer = AppraisalTrainer(load_checkpoint(weights), longer, tmp_path / "spectra")
    empty = Lesson(*(torch.zeros(0) for _ in range(5)))
    monkeypatch.setattr(trainer.maker, "lesson", lambda index: empty)
    monkeypatch.setattr(trainer.maker, "calibration_lesson", lambda: empty)
    for step in ("learn", "tabulate", "stretch"):
        monkeypatch.setattr(trainer, step, lambda lesson, *report: None)
    trainer.fit()  # and stopped
    monkeypatch.setattr(trainer, "recipe", longer.model_copy(update={"spectra": 1000}))
    trainer.run()
    trainer.clear()
    assert not trainer.folder.exists()


def test_the_same_settings_are_the_same_text_in_every_process() -> None:
    stream = StreamConfig(paper=0.0, without=frozenset(INGREDIENTS))
    assert stream.model_dump(mode="json")["without"] == sorted(INGREDIENTS)


@pytest.mark.parametrize("damage", ["no axis", "no FITS", "no wave", "no npz"])
def test_files_that_are_no_stars_are_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "star.fits"
    match damage:
        case "no axis":
            fits.PrimaryHDU(np.ones(4000)).writeto(path)
        case "no FITS":
            path.write_text("a star")
        case "no wave":
            np.savez(tmp_path / "stars.npz", flux=np.ones((2, 4000)))
        case "no npz":
            (tmp_path / "stars.npz").write_text("stars")
    with pytest.raises(LibraryError, match=r"star.*\.(fits|npz)"):
        read_stars(tmp_path if path.exists() else tmp_path / "stars.npz")
