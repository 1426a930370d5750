"""What is selected: a spaxel, its bin, or a region, as rows and columns of spaxels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from galprote.workflows.viewer.stored import StoredGalaxy

#: Spaxels that a selection has at most: of a larger region every second, third, ... in both directions stands for all.
MOST: Final = 1_000_000
#: Spaxels that are compared with a lasso's line at a time.
BAND: Final = 250_000

Ends = tuple[float, float]


@dataclass(frozen=True)
class Selection:
    """Spaxels that are selected.

    Attributes
    ----------
    y, x : (n,) int
        Rows and columns, in the order of the image.
    kind : str
        "spaxel", "bin" or "region".
    bins : int
        How many bins they are, of a galaxy with bins.
    step : int
        Every so many rows and columns of a large region are here, and stand for all.
    """

    y: NDArray[np.intp]
    x: NDArray[np.intp]
    kind: str
    bins: int = 0
    step: int = 1

    def __len__(self) -> int:
        return len(self.y)

    @property
    def single(self) -> bool:
        """Whether all of it has one value: a spaxel, or a bin."""
        return self.kind != "region"


def at_point(galaxy: StoredGalaxy, x: float, y: float) -> Selection | None:
    """Select the spaxel under a point (pixels, 0 is the middle of the first), or the bin that it is in.

    None outside the image.
    """
    row, column = round(y), round(x)
    if not (0 <= row < galaxy.shape[0] and 0 <= column < galaxy.shape[1]):
        return None
    if galaxy.binned and (number := int(galaxy.map("bin_id")[row, column])) >= 0:
        rows, columns = np.nonzero(galaxy.map("bin_id") == number)
        return Selection(rows, columns, "bin", 1)
    return Selection(np.array([row]), np.array([column]), "spaxel")


def in_box(galaxy: StoredGalaxy, x0: float, x1: float, y0: float, y1: float) -> Selection | None:
    """Select the spaxels whose middles lie in a box; a box inside one spaxel selects that one."""
    if galaxy.binned:
        (top, bottom), (left, right) = _limits(galaxy, (y0, y1), (x0, x1))
        if len(touched := _bins_in(galaxy.map("bin_id")[top:bottom, left:right])):
            return _whole_bins(galaxy, touched)
    rows, columns, step = _grid(galaxy, (y0, y1), (x0, x1))
    if not (len(rows) and len(columns)):
        return at_point(galaxy, (x0 + x1) / 2, (y0 + y1) / 2)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    return _region(y.ravel(), x.ravel(), step)


def in_lasso(galaxy: StoredGalaxy, x: Sequence[float], y: Sequence[float]) -> Selection | None:
    """Select the spaxels whose middles lie inside a closed line."""
    corners = np.column_stack([x, y]).astype(float)
    corners = corners[np.isfinite(corners).all(axis=1)]
    if len(corners) < 3:
        return None
    low, high = corners.min(axis=0), corners.max(axis=0)
    if galaxy.binned and len(touched := _bins_inside(galaxy, corners)):
        return _whole_bins(galaxy, touched)
    rows, columns, step = _grid(galaxy, (low[1], high[1]), (low[0], high[0]))
    across, up = (places.ravel() for places in np.meshgrid(columns, rows))
    inside = Outline(corners).contains_points(np.column_stack([across, up])) if len(up) else np.empty(0, bool)
    if not inside.any():
        return at_point(galaxy, *corners.mean(axis=0))
    return _region(up[inside], across[inside], step)


def _limits(galaxy: StoredGalaxy, rows: Ends, columns: Ends) -> list[tuple[int, int]]:
    """First, and one after the last, of the rows and of the columns whose middles lie between limits."""
    found = []
    for ends, size in zip((rows, columns), galaxy.shape, strict=True):
        first = min(max(0, math.ceil(min(ends))), size)
        found.append((first, max(first, min(size - 1, math.floor(max(ends))) + 1)))
    return found


def _grid(galaxy: StoredGalaxy, rows: Ends, columns: Ends) -> tuple[NDArray[np.intp], NDArray[np.intp], int]:
    """Rows and columns whose middles lie between limits, or some of them, and how far apart these are."""
    limits = _limits(galaxy, rows, columns)
    area = math.prod(max(0, stop - first) for first, stop in limits)
    step = math.ceil(math.sqrt(max(area, 1) / MOST))
    found = [np.arange(min(first + step // 2, max(stop - 1, first)), stop, step) for first, stop in limits]
    return found[0], found[1], step


def _region(y: NDArray[np.intp], x: NDArray[np.intp], step: int) -> Selection:
    """A region of spaxels that are in no bin."""
    return Selection(y, x, "spaxel" if len(y) == 1 else "region", 0, step)


def _bins_in(numbers: NDArray[np.int32]) -> NDArray[np.int32]:
    """Numbers of the bins of some spaxels, each once."""
    found = np.unique(numbers)
    return found[found >= 0]


def _bins_inside(galaxy: StoredGalaxy, corners: NDArray[np.float64]) -> NDArray[np.int32]:
    """Numbers of the bins with a spaxel whose middle lies inside a closed line; a band of rows at a time."""
    (left, low), (right, high) = corners.min(axis=0), corners.max(axis=0)
    (top, bottom), (first, last) = _limits(galaxy, (low, high), (left, right))
    line, image = Outline(corners), galaxy.map("bin_id")
    band = max(1, BAND // max(1, last - first))
    found = [np.empty(0, dtype=np.int32)]
    for start in range(top, bottom if last > first else top, band):
        rows = np.arange(start, min(start + band, bottom))
        across, up = (places.ravel() for places in np.meshgrid(np.arange(first, last), rows))
        inside = line.contains_points(np.column_stack([across, up]))
        found.append(_bins_in(image[rows[0] : rows[-1] + 1, first:last].ravel()[inside]))
    return np.unique(np.concatenate(found))


def _whole_bins(galaxy: StoredGalaxy, touched: NDArray[np.int32]) -> Selection:
    """All of some bins, or, where they have too many spaxels, every second, third, ... of their rows and columns."""
    inside = np.isin(galaxy.map("bin_id"), touched)
    alone = len(touched) == 1  # its spectrum is that of all of it
    step = 1 if alone else math.ceil(math.sqrt(max(int(inside.sum()), 1) / MOST))
    while True:
        first = step // 2
        y, x = np.nonzero(inside[first::step, first::step])
        if len(y) or step == 1:
            return Selection(first + y * step, first + x * step, "bin" if alone else "region", len(touched), step)
        step -= 1  # they are where no such row and column cross


def outline(selection: Selection) -> tuple[NDArray[np.float64], ...]:
    """Ends (x0, y0, x1, y1) of the lines around a selection, in pixels."""
    step = selection.step
    first_row, first_column = int(selection.y.min()), int(selection.x.min())
    rows, columns = (selection.y - first_row) // step + 1, (selection.x - first_column) // step + 1
    inside = np.zeros((rows.max() + 2, columns.max() + 2), dtype=bool)
    inside[rows, columns] = True
    row, column = np.nonzero(inside[:, 1:] != inside[:, :-1])
    upright = (column, row - 1, column, row)
    row, column = np.nonzero(inside[1:] != inside[:-1])
    flat = (column - 1, row, column, row)
    origin = (first_column - step // 2 - 0.5, first_row - step // 2 - 0.5) * 2
    lines = (np.concatenate(pair) for pair in zip(upright, flat, strict=True))
    return tuple(np.asarray(start + step * ends, dtype=np.float64) for start, ends in zip(origin, lines, strict=True))
