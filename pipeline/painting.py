"""From fitted spectra back to the image of all."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from galprote.pipeline.rest_frame import LARGEST_FLUX, is_variance

#: Rows of a cube that are worked on at a time: they stay in the processor's cache.
ROWS: Final = 32


def paint(values: NDArray[np.float32], columns: NDArray[np.int64], size: int) -> NDArray[np.float32]:
    """Put (..., k) values into k of `size` columns, in their order: (..., size) float32, NaN elsewhere."""
    if len(columns) == size:
        return np.ascontiguousarray(values)
    image = np.full((*values.shape[:-1], size), np.nan, dtype=np.float32)
    # Row by row: eight times as fast as numpy's indexing of a whole array.
    if len(columns):
        for row, line in zip(image.reshape(-1, size), values.reshape(-1, len(columns)), strict=True):
            row[columns] = line
    return image


def paint_residual(
    columns: NDArray[np.int64],
    size: int,
    rebinned: NDArray[np.float32],
    model: NDArray[np.float32],
    scale: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Observed minus model, (948, size), from spectra (k, 948), models in units of `scale` (k,), and its columns."""
    cube = np.empty((rebinned.shape[1], size), dtype=np.float32)
    for first in range(0, len(cube), ROWS):
        rows = slice(first, first + ROWS)
        part = rebinned[:, rows] - model[:, rows] * scale[:, None]
        cube[rows] = paint(np.ascontiguousarray(part.T), columns, size)
    return cube


def paint_difference(
    columns: NDArray[np.int64],
    size: int,
    flux: NDArray[np.float32],
    variance: NDArray[np.float32],
    continuum: NDArray[np.float32],
    error: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Native flux minus continuum, and the error of that: (m, size) each, from arrays (m, k).

    NaN where the flux is not a number, or absurd; and, of errors, where the variance cannot be one.
    """
    difference, noise = (np.empty((len(flux), size), dtype=np.float32) for _ in range(2))
    with np.errstate(invalid="ignore", over="ignore"):  # fluxes may be infinite, variances anything
        for first in range(0, len(flux), ROWS):
            rows = slice(first, first + ROWS)
            left, squares = flux[rows] - continuum[rows], np.square(error[rows])
            bad = ~(np.abs(left) < LARGEST_FLUX)
            left[bad] = np.nan
            squares += variance[rows]
            np.sqrt(squares, out=squares)
            bad |= ~is_variance(variance[rows])
            squares[bad] = np.nan
            difference[rows], noise[rows] = (paint(values, columns, size) for values in (left, squares))
    return difference, noise
