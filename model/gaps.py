"""Fill samples without data, the same way in training and in the pipeline."""

from typing import Final

import numpy as np
import torch
from torch import Tensor

#: Valid samples on each side of a gap whose mean anchors the line drawn across it.
ANCHOR: Final = 15

#: Patterns of gaps that are looked for before spectra are filled one gap at a time: usually all have the same, the
#: emission bands and the notch of the adaptive optics.
PATTERNS: Final = 3


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
    if valid.stride(0) == 0:  # one pattern for all spectra
        return _fill_alike(flux, valid[0]) if len(flux) else flux
    incomplete = ~valid.all(dim=1)
    filled = flux
    for _ in range(PATTERNS):
        rows = incomplete.nonzero()[:, 0]
        if not len(rows):
            return filled
        filled = flux.clone() if filled is flux else filled
        pattern = valid[rows[0]]
        alike = incomplete & (valid == pattern).all(dim=1)
        if bool(alike.all()):
            return _fill_alike(flux, pattern)
        filled[alike] = _fill_alike(flux[alike], pattern)
        incomplete = incomplete & ~alike
    filled[incomplete] = _fill_rows(flux[incomplete], valid[incomplete])
    return filled


def seen_median(flux: Tensor, used: Tensor) -> Tensor:
    """Median of spectra (n, m) of which a network uses only some samples (m,), the others filled like gaps: (n,)."""
    filled = fill_gaps(flux, used.expand_as(flux))
    if filled.device.type != "cpu":
        return filled.median(dim=1).values
    middle = (filled.shape[1] - 1) // 2  # as torch counts, but NumPy's partition takes an eighth of its time
    return torch.from_numpy(np.partition(filled.numpy(), middle, axis=1)[:, middle])


def _fill_alike(flux: Tensor, valid: Tensor) -> Tensor:
    """Fill spectra (n, m) that have the same valid samples (m,), with the same bits as `_fill_rows`."""
    column = (~valid).nonzero()[:, 0]
    if not len(column):
        return flux
    zero = torch.zeros(len(flux), 1, dtype=torch.float64, device=flux.device)
    known = torch.where(valid, flux, torch.zeros((), dtype=flux.dtype, device=flux.device))
    flux_sum = torch.cat([zero, known.cumsum(1, dtype=torch.float64)], dim=1)
    count = torch.cat([zero[0], valid.cumsum(0, dtype=torch.float64)])

    starts = torch.ones_like(column, dtype=torch.bool)
    starts[1:] = column[1:] != column[:-1] + 1
    gap = starts.cumsum(0) - 1
    begin = column[starts]
    stop = begin + torch.bincount(gap)

    def mean(first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        number = count[last] - count[first]
        return (flux_sum[:, last] - flux_sum[:, first]) / number.clamp(min=1.0), number > 0

    left, has_left = mean((begin - ANCHOR).clamp(min=0), begin)
    right, has_right = mean(stop, (stop + ANCHOR).clamp(max=flux.shape[1]))
    left, right = torch.where(has_left, left, right), torch.where(has_right, right, left)
    fraction = (column - begin[gap] + 1).double() / (stop - begin + 1)[gap].double()
    line = left[:, gap] + (right - left)[:, gap] * fraction
    filled = flux.clone()
    filled[:, column] = line.to(flux.dtype)
    return filled


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
