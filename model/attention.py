"""Attention over the wavelengths of one spectrum: equation 3 as it stands, and in O(L) as a ratio of power series.

Tensor names carry their shape: B spectra, L wavelength samples, P powers in the series.
"""

import math
from typing import Any, Final

import torch
from torch import Tensor

#: Terms of the attention's power series, and the largest |q k / sqrt(L)| for which they suffice: the remainder is then
#: below 1.3**12 / 12! * exp(1.3) = 2e-7 of the weights' sum. Spectra beyond the bound take the exact softmax.
SERIES_TERMS: Final = 12
SERIES_BOUND: Final = 1.3


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
