"""Velocity and squared dispersion of each spectrum by Gauss-Newton steps, every linear factor free.

What is maximised is the marginal likelihood: factors of the components are integrated over with a Gaussian prior, which
adds the logarithm of their posterior's volume to the best chi-square. Without that term narrow lines, which can follow
the noise better than broad ones, would be favoured, and dispersions come out low. The term is tabulated for uniform
noise; everything else heeds the noise and mask of every sample.

In the templates' frame a velocity of whole samples is an index, and polynomials stay what they are.

Shapes: B spectra, L samples, N padded samples, K components, P polynomials, C = P + K, M terms.
"""

from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from galprote.model.line_search import LineSearch, prior_scatter
from galprote.model.line_spectra import Lines, robust_scatter, with_neighbours
from galprote.model.line_templates import (
    COMPONENTS,
    DISPERSION_ORDERS,
    MARGIN,
    PADDED,
    POLYNOMIALS,
    SAMPLE_KMS,
    SAMPLES,
    SOFTENING_KMS,
    Factors,
    LineTemplates,
    chebyshev_at_nodes,
    chebyshev_polynomials,
    log_square,
    square_nodes,
)

#: Dispersions that a fit may reach, km/s.
MAX_DISPERSION: Final = 400.0
#: Looks at every spectrum, and before which of them the noise is measured and outliers are left out.
LOOKS: Final = 7
CLEANED_BEFORE: Final = (2, 4)
#: Residuals beyond this, in robust standard deviations, are left out with both neighbours.
OUTLIER: Final = 4.5
#: Largest change of the softened squared dispersion in one step.
LARGEST_RATIO: Final = 2.5
#: Unit of the squared dispersion inside, (km/s)^2: both numbers' derivatives are then of one size.
SQUARE_UNIT: Final = 1e4
#: Variance of the polynomials' factors by the prior: as good as free.
_FREE: Final = 1e6


class State(NamedTuple):
    """Where B fits are, each (B,) float64.

    Attributes
    ----------
    velocity : Tensor
        c ln(1 + V / c), km/s.
    square : Tensor
        Squared dispersion, `SQUARE_UNIT`.
    noise : Tensor
        What the stated noise is multiplied by.
    damping : Tensor
        Of the steps in `square`.
    """

    velocity: Tensor
    square: Tensor
    noise: Tensor
    damping: Tensor


class Look(NamedTuple):
    """What a fit sees at its state.

    Attributes
    ----------
    basis : (B, C, N) float32
        Over the noise, like the next two.
    residual : (B, N) float32
    slopes : (B, 2, N) float32
        Derivatives of the model by velocity and squared dispersion.
    known : (B, N) bool
        Samples with weight.
    solved : (B, C, 2) float64
        What the factors would make up for, of each slope.
    curvature : (B, 2, 2) float64
        Of half chi-square, with all factors free.
    step : (B, 2) float64
        Gauss-Newton step, of velocity and squared dispersion.
    gain : (B,) float64
        By how much chi-square is better than that of the polynomials alone.
    """

    basis: Tensor
    residual: Tensor
    slopes: Tensor
    known: Tensor
    solved: Tensor
    curvature: Tensor
    step: Tensor
    gain: Tensor


class LineFit:
    """Fits of lines.

    Parameters
    ----------
    templates : LineTemplates
    search : LineSearch
        Knows the lines' directions.
    starlight_N : (N,) bool
        Padded samples of the templates' frame without gas.
    max_velocity : float
        c ln(1 + V / c), km/s.
    """

    def __init__(self, templates: LineTemplates, search: LineSearch, starlight_N: Tensor, max_velocity: float) -> None:
        self.templates = templates
        self.max_velocity = max_velocity
        self._starlight = starlight_N
        self._reach = int(np.ceil(max_velocity / SAMPLE_KMS)) + 1
        device = starlight_N.device
        self._prior_mean = torch.zeros(POLYNOMIALS + 1 + COMPONENTS, dtype=torch.float64, device=device)
        self._prior_mean[POLYNOMIALS] = 1.0
        free = torch.full((POLYNOMIALS,), _FREE, dtype=torch.float64, device=device)
        self._precision = torch.cat([free, prior_scatter(device).square()]).reciprocal()
        squares = torch.from_numpy(square_nodes()).to(device)
        nodes = templates.basis(templates.factors(torch.zeros_like(squares), squares).value)
        variances = search.directions(nodes[:, POLYNOMIALS:, MARGIN:-MARGIN])[1]
        to_orders = torch.from_numpy(np.linalg.inv(chebyshev_at_nodes(DISPERSION_ORDERS))).to(device)
        self._log_variance = to_orders @ variances.log()  # (orders, K)
        self._clear = float(search.clear.sum())

    def __call__(self, lines: Lines, shift_B: Tensor, square_B: Tensor) -> tuple[State, Look]:
        """Fit from whole-sample velocities (B,) and squared dispersions (B,) in (km/s)^2."""
        one = torch.ones_like(square_B)
        state = State(shift_B.double() * SAMPLE_KMS, square_B / SQUARE_UNIT, one, one)
        stars = self._without_gas(lines, state)
        look = self._look(stars, state)
        for number in range(1, LOOKS):
            if number in CLEANED_BEFORE:
                # The gas moves about as the stars do; where that is, is settled by the first time.
                around = self._without_gas(lines, state) if number == CLEANED_BEFORE[0] else stars
                state, stars = self._cleaned(around, state, look)
            state, before = self._moved(state, look.step), look.step[:, 1]
            look = self._look(stars, state)
            # A step back and forth was too long.
            damping = torch.where(look.step[:, 1] * before < 0, state.damping / 2, state.damping)
            state = state._replace(damping=damping)
        return state, look

    def _shift(self, state: State) -> Tensor:
        return torch.round(state.velocity / SAMPLE_KMS).long()

    def _without_gas(self, lines: Lines, state: State) -> Lines:
        place_BL = torch.arange(MARGIN, MARGIN + SAMPLES, device=lines.depth.device) - self._shift(state)[:, None]
        return Lines(lines.depth, lines.weight * self._starlight[place_BL])

    def _in_frame(self, values_BL: Tensor, shift_B: Tensor) -> Tensor:
        """Samples in the templates' frame, (B, N); zero beyond the ends."""
        side = MARGIN + self._reach
        place_BN = torch.arange(PADDED, device=values_BL.device) + (shift_B + self._reach)[:, None]
        return pad(values_BL, (side, side)).gather(1, place_BN)

    def _look(self, lines: Lines, state: State) -> Look:
        shift_B = self._shift(state)
        factors = self.templates.factors(state.velocity - shift_B * SAMPLE_KMS, state.square * SQUARE_UNIT)
        weight_BN = self._in_frame(lines.weight, shift_B) / state.noise.square().float()[:, None]
        root_BN = weight_BN.sqrt()
        target_BN = self._in_frame(lines.depth, shift_B) * root_BN
        basis_BCN = self.templates.basis(factors.value).mul_(root_BN[:, None])
        gram_BCC = torch.bmm(basis_BCN, basis_BCN.mT).double()
        right_BC = torch.bmm(basis_BCN, target_BN[:, :, None])[:, :, 0].double()
        triangle_BCC = torch.linalg.cholesky_ex(gram_BCC + torch.diag(self._precision)).L
        drawn_BC = right_BC + self._precision * self._prior_mean
        best_BC = torch.cholesky_solve(drawn_BC[:, :, None], triangle_BCC)[:, :, 0]
        residual_BN = target_BN - torch.bmm(best_BC[:, None].float(), basis_BCN)[:, 0]
        slopes_B2N = self._slopes(factors, best_BC) * root_BN[:, None]
        cross_BC2 = torch.bmm(basis_BCN, slopes_B2N.mT).double()
        solved_BC2 = torch.cholesky_solve(cross_BC2, triangle_BCC)
        curvature_B22 = torch.bmm(slopes_B2N, slopes_B2N.mT).double() - torch.bmm(cross_BC2.mT, solved_BC2)
        curvature_B22 = curvature_B22 + 1e-9 * torch.eye(2, dtype=torch.float64, device=weight_BN.device)
        downhill_B2 = torch.bmm(slopes_B2N, residual_BN[:, :, None])[:, :, 0].double()
        downhill_B2[:, 1] -= self._volume_slope(state.square, weight_BN) / 2
        chi_B = residual_BN.square().sum(1) + (self._precision * (best_BC - self._prior_mean).square()).sum(1)
        return Look(
            basis_BCN,
            residual_BN,
            slopes_B2N,
            weight_BN > 0,
            solved_BC2,
            curvature_B22,
            _step(curvature_B22, downhill_B2, state.square <= 0),
            _continuum_chi_square(gram_BCC, right_BC, target_BN) - chi_B,
        )

    def _slopes(self, factors: Factors, best_BC: Tensor) -> Tensor:
        weights_BK = best_BC[:, POLYNOMIALS:].float()
        kinds = (factors.by_velocity, factors.by_square * SQUARE_UNIT)
        slopes = [self.templates.combined(by, weights_BK) for by in kinds]
        return torch.stack(slopes, dim=1)

    def _volume_slope(self, square_B: Tensor, weight_BN: Tensor) -> Tensor:
        """Derivative of the logarithm of det(1 + lines' variance / noise's variance) by the squared dispersion."""
        t_B, by_square_B = log_square(square_B * SQUARE_UNIT)
        value_BO, slope_BO = chebyshev_polynomials(t_B, DISPERSION_ORDERS)
        signal_BK = (value_BO @ self._log_variance).exp() * (weight_BN.sum(1).double() / self._clear)[:, None]
        share_BK = signal_BK / (1 + signal_BK)
        return (share_BK * (slope_BO @ self._log_variance)).sum(1) * by_square_B * SQUARE_UNIT

    def _moved(self, state: State, step_B2: Tensor) -> State:
        step_B2 = step_B2.nan_to_num(0.0)  # of spectra that no number does justice to
        velocity = state.velocity + step_B2[:, 0].clamp(-SAMPLE_KMS, SAMPLE_KMS)
        softening = SOFTENING_KMS**2 / SQUARE_UNIT
        soft = state.square + softening
        square = (soft + step_B2[:, 1] * state.damping).clamp(soft / LARGEST_RATIO, soft * LARGEST_RATIO) - softening
        return state._replace(
            velocity=velocity.clamp(-self.max_velocity, self.max_velocity),
            square=square.clamp(0.0, MAX_DISPERSION**2 / SQUARE_UNIT),
        )

    def _cleaned(self, lines: Lines, state: State, look: Look) -> tuple[State, Lines]:
        """Measure the noise on the residuals, and give outliers no weight."""
        scatter_B1 = robust_scatter(look.residual, look.known).nan_to_num(1.0).clamp(min=1e-3)
        bad_BN = look.known & (look.residual.abs() > OUTLIER * scatter_B1)
        bad_BN = with_neighbours(bad_BN)
        good_BN = look.known & ~bad_BN
        square_B = torch.where(good_BN, look.residual, 0.0).square().sum(1).double() / good_BN.sum(1).clamp(min=1)
        noise_B = state.noise * square_B.sqrt().clamp(min=1e-3)
        place_BL = torch.arange(MARGIN, MARGIN + SAMPLES, device=bad_BN.device) - self._shift(state)[:, None]
        kept_BL = ~bad_BN.gather(1, place_BL)
        return state._replace(noise=noise_B), Lines(lines.depth, lines.weight * kept_BL)


def _step(curvature_B22: Tensor, downhill_B2: Tensor, at_zero_B: Tensor) -> Tensor:
    """Gauss-Newton step; where the dispersion is held at zero, of the velocity alone."""
    step_B2 = torch.linalg.solve_ex(curvature_B22, downhill_B2).result
    held_B = at_zero_B & (step_B2[:, 1] < 0)
    alone_B = downhill_B2[:, 0] / curvature_B22[:, 0, 0]
    return torch.stack([torch.where(held_B, alone_B, step_B2[:, 0]), step_B2[:, 1]], dim=1)


def _continuum_chi_square(gram_BCC: Tensor, right_BC: Tensor, target_BN: Tensor) -> Tensor:
    """Chi-square of the polynomials alone, (B,)."""
    gram_BPP = gram_BCC[:, :POLYNOMIALS, :POLYNOMIALS]
    some = torch.eye(POLYNOMIALS, dtype=torch.float64, device=gram_BCC.device) / _FREE
    right_BP1 = right_BC[:, :POLYNOMIALS, None]
    solved_BP1 = torch.cholesky_solve(right_BP1, torch.linalg.cholesky_ex(gram_BPP + some).L)
    return target_BN.square().sum(1).double() - (right_BP1 * solved_BP1).sum((1, 2))
