"""GalProTE: four parallel attention-convolution-transformer blocks (Anwar et al. 2025, section 3.4).

Tensor names carry their shape: B spectra, L wavelength samples (876), P powers in the attention's series, C channels
of the convolution, S pooled samples (L / pool), G cells of the metallicity-age grid, A attenuation classes.
"""

import math
from typing import Any, Final, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from galprote.model.grids import AV_CLASSES, N_KEPT

#: Terms of the attention's power series, and the largest |q k / sqrt(L)| for which they suffice: the remainder is then
#: below 1.3**12 / 12! * exp(1.3) = 2e-7 of the weights' sum. Spectra beyond the bound take the exact softmax.
SERIES_TERMS: Final = 12
SERIES_BOUND: Final = 1.3


class ModelConfig(BaseModel):
    """Sizes of the network.

    The paper gives the kernels, the three heads, the two linear output layers and the sizes of the outputs. Where it is
    silent the choices are: 8 channels; pooling by 4, so that three heads divide the 219 pooled samples; the channels
    are the encoder's tokens; a feed-forward layer twice as wide as a token; softmax over the whole grid; linear maps of
    equation 3 factorised at rank 128, since noise-free spectra span under a hundred dimensions (null: full rank).
    The input is standardised by the mean training spectrum and one scatter, kept with the weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_metallicity: int = 12
    n_age: int = 53
    kernels: tuple[int, ...] = (11, 21, 31, 61)
    channels: int = Field(default=8, ge=1)
    pool: int = 4
    heads: int = 3
    feedforward: int = 438
    projection_rank: int | None = Field(default=128, ge=1)
    clip: float = Field(default=0.05, ge=0.0, lt=1.0)
    """Grid weights under this share of the largest are set to zero (section 3.4.3)."""
    av_readout: Literal["argmax", "mean"] = "mean"
    """A_V of the most probable class (paper), or the mean over the classes, which has the smaller rms error."""

    @model_validator(mode="after")
    def _divides(self) -> "ModelConfig":
        if N_KEPT % self.pool or (N_KEPT // self.pool) % self.heads:
            raise ValueError(f"pool and heads must divide {N_KEPT} samples, one after the other")
        if any(kernel % 2 == 0 for kernel in self.kernels):
            raise ValueError("kernels must be odd, so that the convolution keeps the spectrum's length")
        return self

    @property
    def tokens(self) -> int:
        """Pooled samples S."""
        return N_KEPT // self.pool


class Prediction(NamedTuple):
    """What the network says: `grid_logits` (B, G) and `av_logits` (B, A)."""

    grid_logits: Tensor
    av_logits: Tensor


def softmax_attention(q_BL: Tensor, k_BL: Tensor, v_BL: Tensor) -> Tensor:
    """Equation 3 as it stands: q_i, k_j and v_j are scalars, the scores an L x L matrix per spectrum."""
    scores_BLL = q_BL[:, :, None] * k_BL[:, None, :] / math.sqrt(q_BL.shape[1])
    return (scores_BLL.softmax(dim=-1) @ v_BL[:, :, None]).squeeze(-1)


class _SeriesAttention(torch.autograd.Function):
    """Equation 3 as a ratio of power series in a = q / sqrt(L), with its gradient.

    context(a) = U(a) / D(a),  U(a) = sum_p M_p a^p / p!,  M_p = sum_j k_j^p v_j,  and D alike with v = 1. Written out,
    so that no power of a spectrum is kept between the forward and the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, a_BL: Tensor, k_BL: Tensor, v_BL: Tensor) -> Tensor:
        moments, counts = [v_BL.sum(1)], [torch.full_like(v_BL[:, 0], v_BL.shape[1])]
        power_BL = torch.ones_like(k_BL)
        for p in range(1, SERIES_TERMS):
            power_BL = power_BL.mul_(k_BL).div_(p)
            moments.append((power_BL * v_BL).sum(1))
            counts.append(power_BL.sum(1))
        moments_PB, counts_PB = torch.stack(moments), torch.stack(counts)
        d_BL = _horner(counts_PB, a_BL)
        context_BL = _horner(moments_PB, a_BL).div_(d_BL)
        ctx.save_for_backward(a_BL, k_BL, v_BL, moments_PB, counts_PB, d_BL, context_BL)
        return context_BL

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a_BL, k_BL, v_BL, moments_PB, counts_PB, d_BL, context_BL = ctx.saved_tensors
        u_grad_BL = gradients[0] / d_BL
        d_grad_BL = -u_grad_BL * context_BL
        order_P1 = torch.arange(1, SERIES_TERMS, device=a_BL.device, dtype=a_BL.dtype)[:, None]
        # The p-th coefficient holds 1 / p!, so a derivative multiplies it by p.
        a_grad_BL = u_grad_BL * _horner(moments_PB[1:] * order_P1, a_BL)
        a_grad_BL += d_grad_BL * _horner(counts_PB[1:] * order_P1, a_BL)
        u_moments, d_moments = [u_grad_BL.sum(1)], [d_grad_BL.sum(1)]
        power_BL = torch.ones_like(a_BL)
        for p in range(1, SERIES_TERMS):
            power_BL = power_BL.mul_(a_BL).div_(p)
            u_moments.append((power_BL * u_grad_BL).sum(1))
            d_moments.append((power_BL * d_grad_BL).sum(1))
        u_PB, d_PB = torch.stack(u_moments), torch.stack(d_moments)
        v_grad_BL = _horner(u_PB, k_BL)
        k_grad_BL = v_BL * _horner(u_PB[1:] * order_P1, k_BL) + _horner(d_PB[1:] * order_P1, k_BL)
        return a_grad_BL, k_grad_BL, v_grad_BL


def _horner(coefficients_PB: Tensor, x_BL: Tensor) -> Tensor:
    """Polynomials in x, one for each spectrum."""
    value_BL = coefficients_PB[-1, :, None].expand_as(x_BL).clone()
    for coefficient_B in reversed(coefficients_PB[:-1].unbind()):
        value_BL.mul_(x_BL).add_(coefficient_B[:, None])
    return value_BL


def series_attention(q_BL: Tensor, k_BL: Tensor, v_BL: Tensor) -> Tensor:
    """Equation 3 in O(L): the scores have rank one, so exp(a k) is a short power series in a = q / sqrt(L).

    Exact to single precision while |a k| <= `SERIES_BOUND`.
    """
    context_BL: Tensor = _SeriesAttention.apply(  # type: ignore[no-untyped-call]
        q_BL / math.sqrt(q_BL.shape[1]), k_BL, v_BL
    )
    return context_BL


def score_bound(q_BL: Tensor, k_BL: Tensor) -> Tensor:
    """Largest |q_i k_j / sqrt(L)| of each spectrum, (B,)."""
    return q_BL.abs().amax(dim=1) * k_BL.abs().amax(dim=1) / math.sqrt(q_BL.shape[1])


def attend(q_BL: Tensor, k_BL: Tensor, v_BL: Tensor) -> Tensor:
    """Attention over wavelength within each spectrum; the method is chosen spectrum by spectrum, never by batch."""
    context_BL = series_attention(q_BL, k_BL, v_BL)
    beyond_B = score_bound(q_BL, k_BL) > SERIES_BOUND
    if bool(beyond_B.any()):
        rows = beyond_B.nonzero().squeeze(1)
        # Spectrum by spectrum, so that neighbours in the batch cannot change the order of summation.
        exact = [softmax_attention(q_BL[row : row + 1], k_BL[row : row + 1], v_BL[row : row + 1]) for row in rows]
        context_BL = context_BL.index_copy(0, rows, torch.cat(exact))
    return context_BL


class SelfAttention(nn.Module):
    """Section 3.4.1: linear maps of the spectrum, layer-normalised, and equation 3.

    Training uses the series for every spectrum and keeps `excess`, the mean square by which scores came near its
    bound: the loss holds it down, so that the exact form is hardly ever wanted afterwards.
    """

    excess: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        rank = config.projection_rank
        self.reduce = nn.Linear(N_KEPT, 3 * rank, bias=False) if rank else None
        inner = rank or N_KEPT
        self.query = nn.Linear(inner, N_KEPT)
        self.key = nn.Linear(inner, N_KEPT)
        self.value = nn.Linear(inner, N_KEPT)
        self.norms = nn.ModuleList(nn.LayerNorm(N_KEPT) for _ in range(3))

    def forward(self, x_BL: Tensor) -> Tensor:
        """Context of equation 3, (B, L)."""
        parts = self.reduce(x_BL).chunk(3, dim=1) if self.reduce is not None else (x_BL, x_BL, x_BL)
        maps = (self.query, self.key, self.value)
        projected = [linear(part) for linear, part in zip(maps, parts, strict=True)]
        with torch.autocast(x_BL.device.type, enabled=False):
            q_BL, k_BL, v_BL = (norm(p.float()) for norm, p in zip(self.norms, projected, strict=True))
            if not self.training:
                return attend(q_BL, k_BL, v_BL)
            self.excess = (score_bound(q_BL, k_BL) - 0.9 * SERIES_BOUND).relu().square().mean()
            return series_attention(q_BL, k_BL, v_BL)


class Block(nn.Module):
    """One of the parallel blocks (section 3.4.2, figure 3)."""

    def __init__(self, config: ModelConfig, kernel: int) -> None:
        super().__init__()
        self.pool = config.pool
        self.attention = SelfAttention(config)
        self.convolution = nn.Conv1d(1, config.channels, kernel, padding=kernel // 2)
        self.normalisation = nn.BatchNorm1d(config.channels)
        self.encoder = nn.TransformerEncoderLayer(
            config.tokens, config.heads, config.feedforward, dropout=0.0, batch_first=True, norm_first=True
        )

    def forward(self, x_BL: Tensor) -> Tensor:
        """Features (B, C * S)."""
        x_BL = self.attention(x_BL) + x_BL  # equation 4
        x_BCL = F.relu(self.normalisation(self.convolution(x_BL[:, None, :])))  # equation 5
        x_BCS = F.avg_pool1d(x_BCL, self.pool)  # equation 6
        encoded: Tensor = self.encoder(x_BCS)  # equation 7
        return encoded.flatten(1)


class GalProTE(nn.Module):
    """The network: a spectrum's 876 samples to a metallicity-age grid and an attenuation.

    Parameters
    ----------
    config : ModelConfig
    """

    input_mean: Tensor
    input_scale: Tensor
    av_classes: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(Block(config, kernel) for kernel in config.kernels)
        width = len(config.kernels) * config.channels * config.tokens
        self.grid_head = nn.Linear(width, config.n_metallicity * config.n_age)
        self.av_head = nn.Linear(width, len(AV_CLASSES))
        self.register_buffer("input_mean", torch.zeros(N_KEPT))
        self.register_buffer("input_scale", torch.ones(()))
        self.register_buffer("av_classes", torch.from_numpy(AV_CLASSES).float(), persistent=False)

    def forward(self, spectra_BL: Tensor) -> Prediction:
        """Logits of the grid's cells and of the attenuation classes.

        Parameters
        ----------
        spectra_BL : (B, 876) float32
            Rest-frame spectra without the emission bands, divided by their median.
        """
        x_BL = (spectra_BL - self.input_mean) / self.input_scale
        features = torch.cat([block(x_BL) for block in self.blocks], dim=1)
        return Prediction(self.grid_head(features).float(), self.av_head(features).float())

    def score_excess(self) -> Tensor:
        """How far the last training batch went beyond the attention's series, all blocks together."""
        attentions = [module for module in self.modules() if isinstance(module, SelfAttention)]
        return torch.stack([attention.excess for attention in attentions]).sum()

    def clip_grid(self, grid_BG: Tensor) -> Tensor:
        """Section 3.4.3: drop weights under 5 % of the largest and normalise the rest to a sum of one."""
        kept = torch.where(grid_BG >= self.config.clip * grid_BG.amax(dim=1, keepdim=True), grid_BG, 0.0)
        return kept / kept.sum(dim=1, keepdim=True)

    def populations(self, prediction: Prediction) -> tuple[Tensor, Tensor]:
        """The answer: the clipped grid (B, n_metallicity, n_age) of light fractions, and A_V (B,) in magnitudes."""
        grid_BG = self.clip_grid(prediction.grid_logits.softmax(dim=1))
        probability_BA = prediction.av_logits.softmax(dim=1)
        if self.config.av_readout == "argmax":
            av_B = self.av_classes[probability_BA.argmax(dim=1)]
        else:
            av_B = probability_BA @ self.av_classes
        return grid_BG.unflatten(1, (self.config.n_metallicity, self.config.n_age)), av_B
