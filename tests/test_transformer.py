"""Laws of the network: the attention's algebra, independence of neighbours, clipping."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from galprote.model.attention import SERIES_BOUND, attend, series_attention, softmax_attention
from galprote.model.transformer import GalProTE, ModelConfig


@pytest.fixture(scope="module")
def model() -> GalProTE:
    torch.manual_seed(0)
    return GalProTE(ModelConfig(channels=3, projection_rank=16)).eval()


def standardised(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 876, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 2**31), strength=st.floats(0.05, 1.0))
def test_series_equals_softmax_within_its_bound(seed: int, strength: float) -> None:
    q, k, v = (standardised(2, seed + i) for i in range(3))
    largest = (q.abs().amax(1) * k.abs().amax(1) / 876**0.5).max()
    q = q * (strength * SERIES_BOUND / largest)
    torch.testing.assert_close(series_attention(q, k, v), softmax_attention(q, k, v), atol=2e-6, rtol=0)


def test_the_gradient_of_the_series_is_that_of_the_softmax() -> None:
    inputs = [standardised(3, i).double().mul(0.3).requires_grad_() for i in range(3)]
    weight = standardised(3, 9).double()
    wanted = torch.autograd.grad((softmax_attention(*inputs) * weight).sum(), inputs)
    found = torch.autograd.grad((series_attention(*inputs) * weight).sum(), inputs)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-6)


def test_beyond_the_bound_the_exact_form_is_used() -> None:
    q, k, v = (standardised(3, i) for i in range(3))
    q = q * torch.tensor([[0.1], [60.0], [0.1]])
    exact = softmax_attention(q, k, v)
    assert (series_attention(q, k, v)[1] - exact[1]).abs().max() > 1e-2
    torch.testing.assert_close(attend(q, k, v), exact, atol=2e-6, rtol=0)


def test_uniform_keys_average_the_values() -> None:
    v = standardised(1, 5)
    context = softmax_attention(standardised(1, 6), torch.ones(1, 876), v)
    torch.testing.assert_close(context, v.mean(1, keepdim=True).expand(1, 876), atol=1e-6, rtol=0)


def test_the_convolution_with_the_pools_stride_is_the_convolution(model: GalProTE) -> None:
    spectra = standardised(4, 3)
    for block in model.blocks:
        plain = block.convolution(spectra[:, None, :])  # type: ignore[operator]
        ordered = block._convolve(spectra).unflatten(2, (4, -1)).transpose(2, 3).flatten(2)  # type: ignore[operator]
        torch.testing.assert_close(ordered, plain, atol=1e-6, rtol=0)


def test_a_spectrum_does_not_feel_its_neighbours(model: GalProTE) -> None:
    spectra = 1 + 0.1 * standardised(8, 1)
    other = spectra.clone()
    other[1:] = 1 + 0.5 * standardised(7, 2)
    with torch.inference_mode():
        alone, among = model(spectra), model(other)
    assert torch.equal(alone.grid_logits[0], among.grid_logits[0])
    assert torch.equal(alone.av_logits[0], among.av_logits[0])


def test_every_wavelength_reaches_the_answer(model: GalProTE) -> None:
    spectrum = (1 + 0.1 * standardised(1, 3)).requires_grad_()
    prediction = model(spectrum)
    (prediction.grid_logits.square().sum() + prediction.av_logits.square().sum()).backward()
    assert spectrum.grad is not None
    assert (spectrum.grad != 0).all()


def test_clipping_follows_section_3_4_3(model: GalProTE) -> None:
    grid = torch.tensor([[1.0, 0.05, 0.049, 0.5]])
    clipped = model.clip_grid(grid)
    assert clipped[0, 2] == 0
    torch.testing.assert_close(clipped[0, [0, 1, 3]], torch.tensor([1.0, 0.05, 0.5]) / 1.55)


def test_populations_are_fractions_of_light_and_a_possible_attenuation(model: GalProTE) -> None:
    with torch.inference_mode():
        grid, av, dispersion, velocity = model.populations(model(1 + 0.1 * standardised(16, 4)))
    assert grid.shape == (16, 12, 53)
    assert (grid >= 0).all()
    torch.testing.assert_close(grid.sum((1, 2)), torch.ones(16))
    assert ((av >= 0) & (av <= 1.5)).all()
    assert not dispersion.any()
    assert not velocity.any()


def test_argmax_readout_gives_a_class() -> None:
    model = GalProTE(ModelConfig(channels=2, projection_rank=8, av_readout="argmax")).eval()
    with torch.inference_mode():
        av = model.populations(model(1 + 0.1 * standardised(16, 4))).av
    assert torch.isin(av, model.av_classes).all()


def test_kernels_and_heads_are_the_papers() -> None:
    model = GalProTE(ModelConfig())
    assert [block.convolution.kernel_size[0] for block in model.blocks] == [11, 21, 31, 61]  # type: ignore[union-attr,index]
    assert all(block.encoder.self_attn.num_heads == 3 for block in model.blocks)  # type: ignore[union-attr]
    assert model.grid_head.out_features == 12 * 53
    assert model.av_head.out_features == 16


def test_cost_of_a_spectrum_is_within_the_budget() -> None:
    model = GalProTE(ModelConfig()).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.ones(4, 876))
    assert counter.get_total_flops() / 4 <= 0.09e9


@pytest.mark.parametrize("sizes", [{"pool": 5}, {"heads": 4}, {"kernels": (10,)}])
def test_sizes_that_cannot_work_are_refused(sizes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"divide|odd"):
        ModelConfig.model_validate(sizes)
