"""Attention over the wavelengths of one spectrum: equation 3 as it stands, and in O(L) as a ratio of power series.

Tensor names carry their shape: B spectra, L wavelength samples, P powers in the series.
"""

import math
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from numpy.polynomial import chebyshev
from torch import Tensor, nn

from galprote.model.grids import N_KEPT

#: Terms of the attention's power series, and the largest |q k / sqrt(L)| for which they suffice. The series is not
#: Taylor's but Chebyshev's, which with as many terms is 500 times closer at the ends: off by 2 (1.7 / 2)**10 / 10!
#: = 1.1e-7 at most, where Taylor's would need 14. Spectra beyond the bound take the exact softmax.
SERIES_TERMS: Final = 10
SERIES_BOUND: Final = 1.7


@cache
def series_coefficients() -> tuple[float, ...]:
    """Coefficients c_p with which sum_p c_p t^p is exp(t) for |t| <= `SERIES_BOUND`."""
    nodes = chebyshev.chebpts1(SERIES_TERMS)
    scaled = chebyshev.cheb2poly(chebyshev.chebfit(nodes, np.exp(SERIES_BOUND * nodes), SERIES_TERMS - 1))
    return tuple((scaled / SERIES_BOUND ** np.arange(SERIES_TERMS)).tolist())


def softmax_attention(q_BL: Tensor, k_BL: Tensor, v_BL: Tensor) -> Tensor:
    """Equation 3 as it stands: q_i, k_j and v_j are scalars, the scores an L x L matrix per spectrum."""
    scores_BLL = q_BL[:, :, None] * k_BL[:, None, :] / math.sqrt(q_BL.shape[1])
    return (scores_BLL.softmax(dim=-1) @ v_BL[:, :, None]).squeeze(-1)


class _SeriesAttention(torch.autograd.Function):
    """Equation 3 as a ratio of power series in a = q / sqrt(L), with its gradient.

    context(a) = U(a) / D(a),  U(a) = sum_p c_p M_p a^p,  M_p = sum_j k_j^p v_j,  and D alike with v = 1. Written out,
    so that no power of a spectrum is kept between the forward and the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, a_BL: Tensor, k_BL: Tensor, v_BL: Tensor) -> Tensor:
        power_BL, weighted_BL = torch.ones_like(v_BL), v_BL.clone()
        counts, moments = [power_BL.sum(1)], [weighted_BL.sum(1)]
        for _ in range(SERIES_TERMS - 1):
            counts.append(power_BL.mul_(k_BL).sum(1))
            moments.append(weighted_BL.mul_(k_BL).sum(1))
        coefficients_P1 = counts[0].new_tensor(series_coefficients())[:, None]
        counts_PB, moments_PB = torch.stack(counts) * coefficients_P1, torch.stack(moments) * coefficients_P1
        d_BL = _polynomial(counts_PB, a_BL, out=power_BL)
        context_BL = _polynomial(moments_PB, a_BL, out=weighted_BL).div_(d_BL)
        ctx.save_for_backward(a_BL, k_BL, v_BL, moments_PB, counts_PB, d_BL, context_BL)
        return context_BL

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a_BL, k_BL, v_BL, moments_PB, counts_PB, d_BL, context_BL = ctx.saved_tensors
        u_grad_BL = gradients[0] / d_BL
        d_grad_BL = -u_grad_BL * context_BL
        order_P1 = torch.arange(1, SERIES_TERMS, device=a_BL.device, dtype=a_BL.dtype)[:, None]
        # A derivative multiplies the p-th coefficient by p.
        a_grad_BL = u_grad_BL * _polynomial(moments_PB[1:] * order_P1, a_BL)
        a_grad_BL += d_grad_BL * _polynomial(counts_PB[1:] * order_P1, a_BL)
        u_moments, d_moments = [], []
        power_BL = torch.ones_like(a_BL)
        for p, coefficient in enumerate(series_coefficients()):
            if p:
                power_BL = power_BL.mul_(a_BL)
            u_moments.append(coefficient * (power_BL * u_grad_BL).sum(1))
            d_moments.append(coefficient * (power_BL * d_grad_BL).sum(1))
        u_PB, d_PB = torch.stack(u_moments), torch.stack(d_moments)
        v_grad_BL = _polynomial(u_PB, k_BL)
        k_grad_BL = v_BL * _polynomial(u_PB[1:] * order_P1, k_BL) + _polynomial(d_PB[1:] * order_P1, k_BL)
        return a_grad_BL, k_grad_BL, v_grad_BL


def _polynomial(coefficients_PB: Tensor, x_BL: Tensor, out: Tensor | None = None) -> Tensor:
    """Polynomials in x by Horner's rule, one for each spectrum."""
    value_BL = torch.empty_like(x_BL) if out is None else out
    first, *others = reversed(coefficients_PB[..., None].unbind())
    value_BL.copy_(first.expand_as(x_BL))
    for coefficient_B1 in others:
        torch.addcmul(coefficient_B1, value_BL, x_BL, out=value_BL)
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

    Parameters
    ----------
    rank : int or None
        Of the linear maps; None: full rank.
    """

    excess: Tensor

    def __init__(self, rank: int | None) -> None:
        super().__init__()
        self.reduce: nn.Module | None = nn.Linear(N_KEPT, 3 * rank, bias=False) if rank else None
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
