"""Networks that use a part of the spectrum: a narrower window, more masks; the same in training and in the pipeline."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from galprote.model.checkpoint import checkpoint_config, load_checkpoint
from galprote.model.errors import CheckpointError
from galprote.model.evaluation import evaluate_suites
from galprote.model.grids import EDGES, KEPT, WAVELENGTH, covered, visible_samples
from galprote.model.predictor import Predictor
from galprote.model.reconstruction import Reconstruction
from galprote.model.synthesis import NoiseConfig, Synthesizer, SyntheticSpectra, seen_through
from galprote.model.transformer import Fit, ModelConfig
from galprote.pipeline import fit_spectra
from galprote.pipeline.config import read_survey
from galprote.workflows.planning import plan_survey
from tests import surveys
from tests.libraries import synthetic_decoder

WINDOW, MASKS = (4850.0, 6800.0), ((5870.0, 5910.0),)
CHANNEL = 1.25


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "window.safetensors"
    return surveys.write_checkpoint(path, refined=True, window=WINDOW, masks=MASKS)


def test_a_window_and_masks_hide_what_they_say() -> None:
    assert np.array_equal(visible_samples(), KEPT)
    wave, visible = WAVELENGTH, visible_samples(WINDOW, MASKS)
    (blue, red), ((mask_blue, mask_red),) = WINDOW, MASKS
    assert not visible[(wave < blue) | (wave > red)].any()
    assert not visible[(wave > mask_blue) & (wave < mask_red)].any()
    assert (KEPT & ~visible)[(wave > 4860) & (wave < 5860)].sum() == 0
    first, last = covered(visible)
    assert WINDOW[0] <= first < WINDOW[0] + 20  # H beta's band is next to it
    assert WINDOW[1] - 2.5 < last <= WINDOW[1]
    assert covered(KEPT) == (EDGES[0], EDGES[-1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": (6800.0, 4850.0)}, "ascending"),
        ({"masks": ((5.0, 4.0),)}, "ascending"),
        ({"window": (4850.0, 5000.0)}, "at least a quarter"),
    ],
)
def test_what_leaves_nothing_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig(**changes)  # type: ignore[arg-type]


def test_what_is_hidden_does_not_matter_in_training() -> None:
    visible = visible_samples(WINDOW, MASKS)
    batch = next(Synthesizer(synthetic_decoder(), NoiseConfig(), 3).stream(16))
    other = batch.spectra.clone()
    other[:, ~visible[KEPT]] += 5.0
    one, two = seen_through(batch, visible), seen_through(type(batch)(**(vars(batch) | {"spectra": other})), visible)
    assert torch.equal(one.spectra, two.spectra)
    assert torch.equal(one.noise, two.noise)
    assert bool(one.noise[:, ~visible[KEPT]].isinf().all())
    torch.testing.assert_close(one.spectra.median(dim=1).values, torch.ones(16))
    assert seen_through(batch, KEPT) is batch


def test_what_is_hidden_does_not_matter_to_a_fit_and_need_not_be_there(checkpoint: Path) -> None:
    wavelength = 4720.0 + CHANNEL * np.arange(1940)
    flux, variance = (values[:, :4].T.copy() for values in surveys.spectra(4))
    flux, variance = (np.pad(values, ((0, 0), (0, 1940 - values.shape[1])), mode="edge") for values in (flux, variance))
    z = surveys.REDSHIFT
    whole = fit_spectra(wavelength, flux, variance, redshift=z, checkpoint=checkpoint)
    assert np.isfinite(whole.log_age).all()
    spoiled = flux.copy()
    spoiled[:, (wavelength > 5872 * (1 + z)) & (wavelength < 5908 * (1 + z))] *= 1.5
    masked = fit_spectra(wavelength, spoiled, variance, redshift=z, checkpoint=checkpoint)
    np.testing.assert_array_equal(masked.log_age, whole.log_age)
    inside = (wavelength > 4845 * (1 + z)) & (wavelength < 6805 * (1 + z))
    cut = fit_spectra(wavelength[inside], flux[:, inside], variance[:, inside], redshift=z, checkpoint=checkpoint)
    np.testing.assert_allclose(cut.av, whole.av, atol=2e-3)
    np.testing.assert_allclose(cut.metallicity, whole.metallicity, atol=2e-3)
    assert (cut.status == whole.status).all()
    with pytest.raises(ValueError, match="covers"):
        fit_spectra(wavelength[inside], flux[:, inside], variance[:, inside], redshift=z)


@pytest.mark.parametrize("av", [0.0, 1.5])
def test_the_model_spectrum_has_the_scale_of_what_the_network_saw(av: float, checkpoint: Path) -> None:
    predictor = Predictor(load_checkpoint(checkpoint), batch=32)
    decoder, visible = predictor.checkpoint.decoder, visible_samples(WINDOW, MASKS)
    grid = torch.eye(636)[::20].reshape(-1, 12, 53)
    n = len(grid)
    clean = Synthesizer(decoder, NoiseConfig(), 1).clean(grid, torch.full((n,), av))
    zero = torch.zeros(n)
    noise = torch.full((n, int(KEPT.sum())), 0.01)
    batch = SyntheticSpectra(
        clean[:, KEPT], clean, grid, zero + av, zero, zero, noise, zero, clean, zero + 1, zero, zero
    )
    seen = seen_through(batch, visible)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictor.model, "populations", lambda _: Fit(grid, zero + av, zero, zero))
        found = predictor(seen.spectra.numpy(), seen.noise.numpy())
    used = visible[KEPT]
    off = found.model[:, KEPT][:, used] / seen.spectra.numpy()[:, used] - 1
    assert np.abs(np.median(off, axis=1)).max() < 5e-4  # the expansion in velocity misses some samples
    fine = Reconstruction(decoder, visible)(found.grid, found.av, found.dispersion, found.velocity)
    whole = Reconstruction(decoder)(found.grid, found.av, found.dispersion, found.velocity)
    ratio = (fine / whole)[:, 100]
    np.testing.assert_allclose(ratio, (found.model / clean.numpy())[:, 400], rtol=2e-3)
    assert np.abs(ratio - 1).max() > 2e-3  # or the window would not have mattered


def test_a_windowed_checkpoint_is_evaluated(checkpoint: Path) -> None:
    result = evaluate_suites(Predictor(load_checkpoint(checkpoint), batch=64), "dispersion", limit=64)["dispersion"]
    assert all(np.isfinite(case["log_age"]["rms"]) for case in result.cases.values())


def test_a_cube_that_holds_the_window_is_mapped(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surveys, "FIRST_CHANNEL", 4850.0)
        patch.setattr(surveys, "CHANNELS", 1620)
        surveys.write_cube(tmp_path / "cube.fits", (8, 4))
    galaxy = {"name": "NARROW", "cube": str(tmp_path / "cube.fits")}
    survey = surveys.write_survey(tmp_path, [galaxy], checkpoint)
    (planned,) = plan_survey(read_survey(survey))
    assert planned.plan is not None, planned.problem
    (result,) = surveys.run_here(survey)
    assert result.outcome == "done", result.details
    whole = surveys.write_checkpoint(tmp_path / "whole.safetensors", refined=True)
    wide = surveys.write_survey(tmp_path / "wide", [galaxy], whole)
    (planned,) = plan_survey(read_survey(wide))
    assert "does not cover" in planned.problem


def test_a_checkpoint_tells_its_window_by_its_header(checkpoint: Path, tmp_path: Path) -> None:
    assert checkpoint_config(checkpoint) == load_checkpoint(checkpoint).model.config
    (tmp_path / "no.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        checkpoint_config(tmp_path / "no.safetensors")
