"""Medians of the rows of an array, by sorting them: numpy sorts single precision with vector instructions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def row_median(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Median of each row's numbers; of an even count the mean of the middle two.

    Parameters
    ----------
    values : (n, m) float32
        NaN where there is none.

    Returns
    -------
    (n,) float32
        NaN for a row without numbers.
    """
    ordered = np.sort(values, axis=1)
    n, m = ordered.shape
    if not m:
        return np.full(n, np.nan, dtype=np.float32)
    count = np.full(n, m)
    gaps = np.isnan(ordered[:, -1])  # they are sorted to the end
    count[gaps] -= np.isnan(ordered[gaps]).sum(axis=1)
    row, half = np.arange(n), np.maximum(count, 1)
    middle: NDArray[np.float32] = np.float32(0.5) * (ordered[row, (half - 1) // 2] + ordered[row, half // 2])
    return middle


def pick(values: NDArray[Any], columns: NDArray[np.bool_]) -> NDArray[Any]:
    """Some columns (m,) of an array (n, m), copied run by run: `values[:, columns]`, in a fraction of the time."""
    edges = np.flatnonzero(np.diff(columns, prepend=False, append=False))
    runs = [values[:, first:stop] for first, stop in edges.reshape(-1, 2)]
    return np.concatenate(runs, axis=1) if runs else values[:, :0]
