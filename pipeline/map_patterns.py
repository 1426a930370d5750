"""Patterns painted into pixels: a map with a million flagged spaxels is drawn as fast as any other."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: Pixels along the longer side of an enlarged map, about.
PIXELS: Final = 840
#: Pixels from one line of a pattern to the next.
PERIOD: Final = 14


def enlargement(shape: tuple[int, ...], pixels: int = PIXELS) -> int:
    """Pixels along a spaxel's side."""
    return max(1, round(pixels / max(shape)))


def enlarge(image: NDArray[Any], factor: int) -> NDArray[Any]:
    """Give a map (y, x) `factor` x `factor` pixels a spaxel."""
    return np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)


def slanted(y: Any, x: Any, period: int, width: int) -> Any:
    """Whether pixels are on lines `width` pixels wide, from lower right to upper left."""
    return (x + y) % period < width


def hatched(where: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of the lines, as in ``////``, that lie on some spaxels: an enlarged map, (factor y, factor x)."""
    large = enlarge(where, enlargement(where.shape))
    period = round(PERIOD * max(large.shape) / PIXELS)  # the same in a picture, however large the map
    y, x = np.ogrid[: large.shape[0], : large.shape[1]]
    large &= slanted(-y, x, period, max(2, round(period / 5)))
    return large
