"""The network as it is run says what the trained one says: exactly in float32, within bounds in fewer bits."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from galprote.model import quantised
from galprote.model.artefacts import ArtefactConfig
from galprote.model.checkpoint import Checkpoint, load_checkpoint
from galprote.model.inference import for_inference
from galprote.model.populations import grid_means
from galprote.model.precision import Precision
from galprote.model.quantised import Int8Linear, linear
from galprote.model.stream import StreamConfig, TrainingStream
from galprote.model.synthesis import NoiseConfig, SyntheticSpectra
from galprote.model.transformer import GalProTE, ModelConfig

SPECTRA = 4096


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint()


@pytest.fixture(scope="module")
def batch(checkpoint: Checkpoint) -> SyntheticSpectra:
    assert checkpoint.model.refinement is not None
    config = StreamConfig(av=(1.5, 3.0), artefacts=ArtefactConfig(snr=(5, 200)))
    templates = checkpoint.model.refinement.templates
    return TrainingStream(checkpoint.decoder, config, NoiseConfig(), 77, templates=templates).batch(SPECTRA)


@torch.inference_mode()
def answers(model: GalProTE, batch: SyntheticSpectra, checkpoint: Checkpoint) -> np.ndarray:
    """Log age, [M/H] and A_V, (n, 3)."""
    found = []
    for rows in torch.arange(len(batch)).split(256):
        fit = model.populations(model(batch.spectra[rows], batch.noise[rows], batch.calibration[rows]))
        means = grid_means(fit.grid.numpy(), checkpoint.decoder.log_ages, checkpoint.decoder.metallicities)
        found.append(np.stack([*means, fit.av.numpy()], axis=1))
    return np.concatenate(found)


@pytest.fixture(scope="module")
def reference(checkpoint: Checkpoint, batch: SyntheticSpectra) -> np.ndarray:
    return answers(checkpoint.model.eval(), batch, checkpoint)


@pytest.mark.parametrize(
    ("precision", "median", "rare"), [("float32", 1e-5, 2e-4), ("int8", 0.002, 0.03), ("bfloat16", 0.002, 0.03)]
)
def test_answers_move_by_no_more_than_is_said(
    checkpoint: Checkpoint,
    batch: SyntheticSpectra,
    reference: np.ndarray,
    precision: Precision,
    median: float,
    rare: float,
) -> None:
    moved = np.abs(answers(for_inference(checkpoint.model, precision), batch, checkpoint) - reference)
    assert (np.median(moved, axis=0) <= median).all()
    assert (np.quantile(moved, 0.999, axis=0) <= rare).all()
    assert precision == "float32" or moved.max() > 1e-4  # it is another precision


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(),
        ModelConfig(channels=3, pool=2, heads=2, kernels=(1, 61), projection_rank=None, feedforward=64),
        ModelConfig(channels=2, pool=1, heads=1, kernels=(5,), projection_rank=16, feedforward=32),
        ModelConfig(channels=1, pool=12, heads=1, kernels=(201,), projection_rank=16, feedforward=32),
    ],
)
def test_folding_changes_nothing(config: ModelConfig) -> None:
    torch.manual_seed(3)
    model = GalProTE(config)
    spectra = 1 + 0.1 * torch.randn(16, 876)
    with torch.no_grad():
        for _ in range(20):  # the normalisation is to have something to fold
            model(spectra)
    model.eval()
    fast = for_inference(model, "float32")
    with torch.inference_mode():
        for one, two in zip(model(spectra)[:2], fast(spectra)[:2], strict=True):
            torch.testing.assert_close(one, two, atol=2e-5, rtol=2e-5)


def test_what_becomes_of_the_trained_network_is_nothing_to_the_copy() -> None:
    torch.manual_seed(4)
    model = GalProTE(ModelConfig(channels=2, pool=4, heads=1, kernels=(5,), projection_rank=16, feedforward=32))
    spectra = 1 + 0.1 * torch.randn(4, 876)
    assert model.training
    fast = for_inference(model, "float32")
    with torch.inference_mode():
        before = fast(spectra).grid_logits
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data.zero_()
        assert torch.equal(fast(spectra).grid_logits, before)
    assert not any(module.training for module in fast.modules())
    assert not any(parameter.requires_grad for parameter in fast.parameters())


def rows(n: int, m: int, seed: int) -> Tensor:
    return torch.randn(n, m, generator=torch.Generator().manual_seed(seed))


def test_integers_are_multiplied_exactly_with_and_without_instructions_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, bias, x = rows(64, 1116, 1), rows(1, 64, 2)[0], rows(32, 1116, 3)
    with_them = Int8Linear(weight, bias)(x)
    monkeypatch.setattr(quantised, "has_integers", lambda: False)
    torch.testing.assert_close(Int8Linear(weight, bias)(x), with_them, atol=2e-6, rtol=1e-6)
    exact = nn.functional.linear(x, weight, bias)
    assert 0.001 < float((with_them - exact).std() / exact.std()) < 0.02


@pytest.mark.parametrize(("precision", "instructions"), [("int8", True), ("int8", False), ("bfloat16", True)])
def test_a_row_does_not_feel_the_others(
    precision: Precision, instructions: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not instructions:
        monkeypatch.setattr(quantised, "has_integers", lambda: False)
    layer = linear(rows(31, 219, 1), rows(1, 31, 2)[0], precision)
    x = rows(8, 219, 3)
    alone = layer(x)
    x[3], x[4], x[5] = torch.nan, 1e6 * x[4], 0.0
    among = layer(x)
    assert torch.equal(alone[[0, 1, 2, 6, 7]], among[[0, 1, 2, 6, 7]])
    assert torch.isnan(among[3]).all()
    torch.testing.assert_close(among[5], layer.bias.float())


def test_tokens_keep_their_places() -> None:
    x, layer = rows(6, 40, 1).view(2, 3, 40), linear(rows(7, 40, 2), None, "int8")
    assert torch.equal(layer(x)[1, 2], layer(x[1, 2]))
