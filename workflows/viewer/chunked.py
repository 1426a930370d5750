"""Reads single spaxels of arrays that are larger than the memory, one inner chunk at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import zarr
from numpy.typing import NDArray

#: Inner chunks that one look at a region reads at most: 0.5 GB of a residual cube, one after the other.
MOST_CHUNKS: Final = 256

Places = tuple[NDArray[np.integer[Any]], ...]


@dataclass(frozen=True)
class ChunkedMean:
    """The mean of many spaxels' spectra or grids.

    Attributes
    ----------
    mean, scatter : (...,) float64
        Over the spaxels with a value; NaN where none has one. The scatter of one spaxel is NaN.
    spaxels : int
        How many were read.
    asked : int
        How many there are.
    chunks : int
        Inner chunks that were read.
    """

    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]
    spaxels: int
    asked: int
    chunks: int


def read_mean(
    array: zarr.Array[Any],
    axes: tuple[int, ...],
    places: Places,
    *,
    most: int = MOST_CHUNKS,
    stop: Callable[[], bool] = lambda: False,
) -> ChunkedMean:
    """Average an array over places, reading no chunk but theirs, one at a time.

    Parameters
    ----------
    array : zarr.Array
    axes : tuple of int
        The axes that `places` are on.
    places : tuple of (n,) int arrays
        One for each of the axes.
    most : int
        If the places lie in more chunks, only those in so many of them, evenly spread, are read.
    stop : callable
        Asked before each chunk whether to go on; what was read until then is the answer.
    """
    groups = _groups(array, axes, places)
    if len(groups) > most:
        groups = [groups[index] for index in np.linspace(0, len(groups) - 1, most).astype(int)]
    sums = _Sums(tuple(length for axis, length in enumerate(array.shape) if axis not in axes))
    for values in _values(array, axes, places, groups):
        if stop():
            break
        sums.add(values)
    return ChunkedMean(*sums.mean_and_scatter(), sums.places, len(places[0]), sums.chunks)


class _Sums:
    """Sums of values (...,) and of their squares, both of what lies apart from the first: no digits are lost."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count, self.total, self.squares = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self.first: NDArray[np.float64] = np.full(shape, np.nan)
        self.places = self.chunks = 0

    def add(self, values: NDArray[np.float64]) -> None:
        """Add values (..., k)."""
        known = np.isfinite(values)
        earliest = np.take_along_axis(values, known.argmax(axis=-1)[..., None], axis=-1)[..., 0]
        self.first = np.where(np.isnan(self.first) & known.any(axis=-1), earliest, self.first)
        apart = np.where(known, values - self.first[..., None], 0.0)
        self.count += known.sum(axis=-1)
        self.total += apart.sum(axis=-1)
        self.squares += (apart**2).sum(axis=-1)
        self.places, self.chunks = self.places + values.shape[-1], self.chunks + 1

    def mean_and_scatter(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """NaN where there was nothing; the scatter of one value, too."""
        with np.errstate(invalid="ignore", divide="ignore"):
            apart = self.total / self.count
            variance = np.maximum(self.squares / self.count - apart**2, 0.0) * self.count / (self.count - 1)
        return self.first + apart, np.where(self.count > 1, np.sqrt(np.maximum(variance, 0.0)), np.nan)


def _groups(array: zarr.Array[Any], axes: tuple[int, ...], places: Places) -> list[NDArray[np.int64]]:
    """Which places lie in the same inner chunk."""
    number = np.zeros(len(places[0]), dtype=np.int64)
    for axis, place in zip(axes, places, strict=True):
        number = number * (-(-array.shape[axis] // array.chunks[axis])) + np.asarray(place) // array.chunks[axis]
    order = np.argsort(number, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(number[order])) + 1) if len(order) else []


def _values(
    array: zarr.Array[Any], axes: tuple[int, ...], places: Places, groups: list[NDArray[np.int64]]
) -> Iterator[NDArray[np.float64]]:
    """The values (..., k) of each group of places."""
    for group in groups:
        mine = [np.asarray(place)[group] for place in places]
        region: list[slice] = [slice(None)] * len(array.shape)
        for axis, place in zip(axes, mine, strict=True):
            region[axis] = slice(int(place.min()), int(place.max()) + 1)
        block = np.moveaxis(np.asarray(array[tuple(region)]), axes, range(-len(axes), 0))
        yield block[(..., *(place - place.min() for place in mine))].astype(np.float64)
