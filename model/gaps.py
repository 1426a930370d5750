"""Fill samples without data, the same way in training and in the pipeline."""

from typing import Final

import torch
from torch import Tensor

#: Valid samples on each side of a gap whose mean anchors the line drawn across it.
ANCHOR: Final = 15


def fill_gaps(flux: Tensor, valid: Tensor) -> Tensor:
    """Draw a straight line across every gap of a spectrum.

    The line joins the mean flux of the valid samples among the last `ANCHOR` before the gap to that among the first
    `ANCHOR` after it; a gap at an end continues the one mean there is.

    Parameters
    ----------
    flux : (n, m) float
        Spectra; what stands in invalid samples does not matter, not even NaN.
    valid : (n, m) bool

    Returns
    -------
    (n, m) float
        `flux` where valid, the line elsewhere; zero in a spectrum without any valid sample.
    """
    incomplete = ~valid.all(dim=1)
    if not bool(incomplete.any()):
        return flux
    filled = flux.clone()
    filled[incomplete] = _fill_rows(flux[incomplete], valid[incomplete])
    return filled


def _fill_rows(flux: Tensor, valid: Tensor) -> Tensor:
    """Fill spectra of which each has a gap."""
    n, m = flux.shape
    known = torch.where(valid, flux, torch.zeros((), dtype=flux.dtype, device=flux.device))
    zero = torch.zeros(n, 1, dtype=torch.float64, device=flux.device)
    flux_sum = torch.cat([zero, known.double().cumsum(1)], dim=1)
    count = torch.cat([zero, valid.double().cumsum(1)], dim=1)
    index = torch.arange(m, device=flux.device).expand(n, m)
    before = torch.where(valid, index, -1).cummax(dim=1).values
    after = torch.where(valid, index, m).flip(1).cummin(dim=1).values.flip(1)

    def mean(first: Tensor, stop: Tensor) -> tuple[Tensor, Tensor]:
        number = count.gather(1, stop) - count.gather(1, first)
        total = flux_sum.gather(1, stop) - flux_sum.gather(1, first)
        return total / number.clamp(min=1.0), number > 0

    left, has_left = mean((before + 1 - ANCHOR).clamp(min=0), before + 1)
    right, has_right = mean(after.clamp(max=m), (after + ANCHOR).clamp(max=m))
    left, right = torch.where(has_left, left, right), torch.where(has_right, right, left)
    fraction = (index - before).double() / (after - before).clamp(min=1).double()
    line = left + (right - left) * fraction
    return torch.where(valid, flux, line.to(flux.dtype))
