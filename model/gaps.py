"""Fill samples without data, the same way in training and in the pipeline."""

from typing import Final

import numpy as np
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


def seen_median(flux: Tensor, used: Tensor) -> Tensor:
    """Median of spectra (n, m) of which a network uses only some samples (m,), the others filled like gaps: (n,)."""
    filled = fill_gaps(flux, used.expand_as(flux))
    if filled.device.type != "cpu":
        return filled.median(dim=1).values
    middle = (filled.shape[1] - 1) // 2  # as torch counts, but NumPy's partition takes an eighth of its time
    return torch.from_numpy(np.partition(filled.numpy(), middle, axis=1)[:, middle])


def _fill_rows(flux: Tensor, valid: Tensor) -> Tensor:
    """Fill spectra of which each has a gap."""
    n, m = flux.shape
    zero = torch.zeros(n, 1, dtype=torch.float64, device=flux.device)
    known = torch.where(valid, flux, torch.zeros((), dtype=flux.dtype, device=flux.device))
    flux_sum = torch.cat([zero, known.cumsum(1, dtype=torch.float64)], dim=1)
    count = torch.cat([zero, valid.cumsum(1, dtype=torch.float64)], dim=1)

    row, column = (~valid).nonzero(as_tuple=True)
    starts = torch.ones_like(row, dtype=torch.bool)
    starts[1:] = (row[1:] != row[:-1]) | (column[1:] != column[:-1] + 1)
    gap = starts.cumsum(0) - 1
    gap_row, begin = row[starts], column[starts]
    stop = begin + torch.bincount(gap)

    def mean(first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        number = count[gap_row, last] - count[gap_row, first]
        return (flux_sum[gap_row, last] - flux_sum[gap_row, first]) / number.clamp(min=1.0), number > 0

    left, has_left = mean((begin - ANCHOR).clamp(min=0), begin)
    right, has_right = mean(stop, (stop + ANCHOR).clamp(max=m))
    left, right = torch.where(has_left, left, right), torch.where(has_right, right, left)
    fraction = (column - begin[gap] + 1).double() / (stop - begin + 1)[gap].double()
    line = left[gap] + (right - left)[gap] * fraction
    filled = flux.clone()
    filled[row, column] = line.to(flux.dtype)
    return filled
