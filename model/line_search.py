"""Where a spectrum's lines fit best: the marginal likelihood at all nodes of a grid of velocities and dispersions.

With an orthonormal basis of each node's lines, kept beside the prior's weight of every direction, the likelihood at all
nodes follows from one matrix product of all spectra with all bases. For that, the noise of a spectrum counts as
uniform, and missing samples are filled with the best model so far, twice.

Shapes: B spectra, L samples, K components, P polynomials, V nodes.
"""

from typing import Final, NamedTuple

import torch
from torch import Tensor

from galprote.model.line_spectra import NOISY, PEAK, Lines, robust_scatter, with_neighbours
from galprote.model.line_templates import COMPONENTS, MARGIN, POLYNOMIALS, SAMPLES, LineTemplates

#: Dispersions of the grid, km/s; its velocities are whole samples.
SEARCH_DISPERSIONS: Final = (0.0, 90.0, 160.0, 240.0, 340.0)

#: Scatter that the prior allows: of the mean's factor around one, and of the components' in units of the templates'.
MEAN_SCATTER: Final = 0.3
COMPONENT_SCATTER: Final = 1.5

#: Nodes at least so many samples away from the best one are another velocity.
AWAY: Final = 3
#: A sample that is off the model by as much of the continuum, and by `PEAK` scatters, is damaged.
GROSS: Final = 0.3
_FILLINGS: Final = 2


class Found(NamedTuple):
    """Best nodes of B spectra, (B,) each unless said otherwise.

    Attributes
    ----------
    shift : (B,) int64
        Velocity, samples.
    square : (B,) float64
        Squared dispersion, (km/s)^2.
    rival : (B,) float32
        By how much -2 ln likelihood is worse at the best node of another velocity.
    gross : (B, L) bool
        Samples that no stars explain, and their neighbours.
    """

    shift: Tensor
    square: Tensor
    rival: Tensor
    gross: Tensor


def prior_scatter(device: torch.device) -> Tensor:
    """Standard deviations of the components' factors around (1, 0, 0, ...), (K,) float64."""
    scatter = torch.full((1 + COMPONENTS,), COMPONENT_SCATTER, dtype=torch.float64, device=device)
    scatter[0] = MEAN_SCATTER
    return scatter


class LineSearch:
    """A grid of velocities and dispersions.

    Parameters
    ----------
    templates : LineTemplates
    clear_L : (L,) bool
        Samples to use.
    reach : int
        Velocities go this many samples to either side.
    """

    def __init__(self, templates: LineTemplates, clear_L: Tensor, reach: int) -> None:
        self.clear = clear_L
        device = clear_L.device
        polynomials_PL = templates.polynomials[:, MARGIN:-MARGIN].double() * clear_L
        self.continuum = torch.linalg.qr(polynomials_PL.T)[0]  # (L, P)
        self._scatter = prior_scatter(device)
        squares = torch.tensor(SEARCH_DISPERSIONS, dtype=torch.float64, device=device).square()
        basis_DKN = templates.basis(templates.factors(torch.zeros_like(squares), squares).value)[:, POLYNOMIALS:]
        shifts = torch.arange(-reach, reach + 1, device=device)
        windows = [basis_DKN[:, :, MARGIN - s : MARGIN - s + SAMPLES] for s in shifts.tolist()]
        directions, strengths, means = zip(*(self.directions(window) for window in windows), strict=True)
        self._basis = torch.cat(directions).float()  # (V, K, L), velocities slowest
        self._strength = torch.cat(strengths).float()
        self._mean = torch.cat(means).float()
        self._continuum = self.continuum.float()
        self._shift = shifts.repeat_interleave(len(squares))
        self._square = squares.repeat(len(shifts))

    def directions(self, lines_VKL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Orthonormal directions of lines (V, K, L) beside the continuum, as the prior weighs them.

        Returns
        -------
        directions : (V, K, L) float64
        variances : (V, K) float64
            Of the lines along each direction, by the prior.
        mean : (V, K) float64
            The mean's components.
        """
        lines = lines_VKL.double() * self.clear
        lines = lines - (lines @ self.continuum) @ self.continuum.T
        scaled = lines * self._scatter[:, None]
        variances, vectors = torch.linalg.eigh(scaled @ scaled.mT)
        variances = variances.clamp(min=1e-12)
        directions = (vectors.mT @ scaled) / variances.sqrt()[:, :, None]
        return directions, variances, (directions @ lines[:, 0, :, None])[:, :, 0]

    def __call__(self, lines: Lines) -> Found:
        """Find the best node of every spectrum."""
        known_BL = lines.weight > 0
        variance_BL = torch.where(known_BL, 1 / lines.weight, torch.nan)
        typical_B1 = variance_BL.nanmedian(dim=1, keepdim=True).values.nan_to_num(1.0)
        used_BL = known_BL & self.clear & ~(variance_BL > NOISY**2 * typical_B1)
        filled_BL = torch.where(used_BL, lines.depth, 0.0)
        shrink_BVK = self._strength / (self._strength + typical_B1[:, :, None])
        volume_BV = torch.log1p(self._strength / typical_B1[:, :, None]).sum(2)
        for turn in range(_FILLINGS + 1):
            along_BVK = (filled_BL @ self._basis.flatten(0, 1).T).unflatten(1, self._mean.shape)
            off_BVK = along_BVK - self._mean
            misfit_BV = (self._mean.square() - 2 * along_BVK * self._mean - off_BVK.square() * shrink_BVK).sum(2)
            score_BV = misfit_BV / typical_B1 + volume_BV
            best_B = score_BV.argmin(1)
            if turn == _FILLINGS:
                break
            row_B = torch.arange(len(best_B), device=best_B.device)
            factors_BK = self._mean[best_B] + off_BVK[row_B, best_B] * shrink_BVK[row_B, best_B]
            model_BL = torch.bmm(factors_BK[:, None], self._basis[best_B])[:, 0]
            model_BL = model_BL + (filled_BL @ self._continuum) @ self._continuum.T
            if turn == 0:
                off_BL = (lines.depth - model_BL).abs()
                z_BL = off_BL * lines.weight.sqrt()
                high_BL = used_BL & (z_BL > PEAK * robust_scatter(z_BL, used_BL))
                gross_BL = with_neighbours(high_BL & (off_BL > GROSS))
                used_BL = used_BL & ~high_BL & ~gross_BL
            filled_BL = torch.where(used_BL, lines.depth, model_BL)
        return self._found(score_BV, best_B, gross_BL)

    def _found(self, score_BV: Tensor, best_B: Tensor, gross_BL: Tensor) -> Found:
        shift_B = self._shift[best_B]
        away_BV = (self._shift - shift_B[:, None]).abs() >= AWAY
        rival_B = torch.where(away_BV, score_BV, torch.inf).amin(1) - score_BV.amin(1)
        return Found(shift_B, self._square[best_B], rival_B, gross_BL)
