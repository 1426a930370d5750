"""Maps as pictures of few colours: values in shades, spaxels without a good one hatched, a pattern for each reason.

Patterns are painted into the pixels, so that a map with a million flagged spaxels is no larger than any other.
"""

import base64
import io
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from galprote.pipeline.map_patterns import PERIOD, PIXELS, enlarge, enlargement, slanted
from galprote.pipeline.map_styles import MapStyle
from galprote.pipeline.quality import Kinds

#: Shades of a colour map: more cannot be told apart, and fewer take less room.
SHADES: Final = 128
#: Spaxels along a picture's longer side, at most.
MOST_SPAXELS: Final = 420


@dataclass(frozen=True)
class Hatch:
    """A kind of spaxel: what it is called, its ground and its lines."""

    kind: str
    words: str
    ground: str
    ink: str


HATCHES: Final = (
    Hatch("unfitted", "not fitted", "#f4f4f4", "#9a9a9a"),
    Hatch("masked", "left out by a mask", "#dedede", "#6e6e6e"),
    Hatch("untrusted", "fitted, not trusted: left out of all numbers", "#ffffff", "#1a1a1a"),
    Hatch("doubtful", "doubtful: counts, with a remark", "#ffffff", "#000000"),
)
_FIRST_HATCH: Final = SHADES + 2
_BLANK, _PALE = SHADES, SHADES + 1


@dataclass(frozen=True)
class Thinned:
    """Maps with one value for `step` x `step` spaxels, where they are too large for a picture.

    Attributes
    ----------
    step : int
    kinds : Kinds
        Of the larger spaxels: a kind where most of those with data are of it.
    data : (y, x) bool
        Where there are data.
    dotted : bool
        Whether doubtful spaxels are marked on maps of quantities: dots on most of a map would hide its values.
    """

    step: int
    kinds: Kinds
    data: NDArray[np.bool_]
    dotted: bool = True

    def mean(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mean of the finite values (y, x) of each larger spaxel."""
        finite = np.isfinite(values)
        total = _blocks(np.where(finite, values, 0), self.step)
        with np.errstate(invalid="ignore"):
            mean: NDArray[np.float32] = (total / _blocks(finite, self.step)).astype(np.float32)
        return mean


def thin(kinds: Kinds, data: NDArray[np.bool_], most: int = MOST_SPAXELS) -> Thinned:
    """Make kinds (y, x), and where there are data, small enough for a picture."""
    step, dotted = -(-max(data.shape) // most), not mostly_doubtful(kinds, data)
    if step == 1:
        return Thinned(1, kinds, data, dotted)
    there = _blocks(data, step)
    return Thinned(step, Kinds(*(_blocks(kind, step) > there / 2 for kind in kinds)), there > 0, dotted)


def mostly_doubtful(kinds: Kinds, data: NDArray[np.bool_]) -> bool:
    """Whether over half of the fitted spaxels are doubtful, of kinds (y, x), and where there are data."""
    return bool(2 * kinds.doubtful.sum() > (data & ~kinds.unfitted & ~kinds.masked).sum())


def _blocks(values: NDArray[Any], step: int) -> NDArray[np.float64]:
    """Sums over blocks of `step` x `step`; those at the ends are smaller."""
    rows = np.add.reduceat(values, np.arange(0, values.shape[0], step), axis=0, dtype=np.float64)
    return np.add.reduceat(rows, np.arange(0, values.shape[1], step), axis=1)


def paint_map(
    values: NDArray[np.float32] | None,
    style: MapStyle,
    limits: tuple[float, float],
    maps: Thinned,
    pixels: int = PIXELS,
) -> str:
    """Paint a map (y, x), thinned, with its first row below, as a PNG data URI.

    Parameters
    ----------
    values : (y, x) float32 or None
        In the label's unit; NaN where nothing is to be seen. None: only the kinds of spaxels.
    style : MapStyle
    limits : (float, float)
    maps : Thinned
    pixels : int
        Of the longer side, about.
    """
    index = np.full(maps.data.shape, _BLANK, dtype=np.uint8)
    if values is None:
        index[maps.data] = _PALE
    else:
        low, high = (np.log10(limits[0]), np.log10(limits[1])) if style.log else limits
        shown = np.isfinite(values) & ((values > 0) | (not style.log))
        scaled = np.log10(values[shown]) if style.log else values[shown]
        share = (scaled.astype(np.float64) - low) / (high - low)
        index[shown] = np.clip(share * SHADES, 0, SHADES - 1).astype(np.uint8)
    factor = enlargement(index.shape, pixels)
    large = enlarge(index, factor)
    doubtful = values is None or (maps.dotted and style.name in ("age_lw", "metallicity_lw", "av", "residual_rms"))
    y, x = np.indices(large.shape, dtype=np.int32)
    for number, (hatch, kind) in enumerate(zip(HATCHES, maps.kinds, strict=True)):
        if not kind.any() or (hatch.kind == "doubtful" and not doubtful):
            continue
        if style.complete and hatch.kind == "untrusted" and values is not None:
            continue
        where = enlarge(kind, factor)
        if hatch.kind == "doubtful" and values is not None:  # the values stay to be seen
            where &= _dashes(y)
        large[where] = _FIRST_HATCH + 2 * number
        large[where & _lines(hatch.kind, y, x)] = _FIRST_HATCH + 2 * number + 1
    return _png(large[::-1], style.palette())


def _lines(kind: str, y: Any, x: Any) -> Any:
    """Pixels of a pattern's lines."""
    if kind == "unfitted":
        return (x - y) % PERIOD < 2
    if kind == "masked":
        return ((x - y) % PERIOD < 2) | ((x + y) % PERIOD < 2)
    if kind == "untrusted":
        return slanted(y, x, PERIOD // 2, 3)
    return _dashes(y) & (x // 4 % 2 > 0)  # black and white: seen on dark and on light colours


def _dashes(y: Any) -> Any:
    """Pixels of the dashed lines on doubtful spaxels."""
    return y % (PERIOD // 2) < 2


def hatch_swatch(kind: str) -> str:
    """A piece of a pattern for the legend, as a PNG data URI."""
    number = next(place for place, hatch in enumerate(HATCHES) if hatch.kind == kind)
    y, x = np.indices((2 * PERIOD, 4 * PERIOD), dtype=np.int32)
    image = np.where(_lines(kind, y, x), _FIRST_HATCH + 2 * number + 1, _FIRST_HATCH + 2 * number).astype(np.uint8)
    return _png(image[::-1], ["#000000"] * 256)


def colour_strip(style: MapStyle) -> str:
    """The colours from low to high, as a PNG data URI one pixel high."""
    return _png(np.arange(SHADES, dtype=np.uint8)[None], style.palette())


def _png(image: NDArray[np.uint8], palette: list[str]) -> str:
    """Write indices as a PNG."""
    shades = [palette[round(place * 255 / (SHADES - 1))] for place in range(SHADES)]
    colours = [*shades, "#ffffff", "#cfe3f1", *(colour for hatch in HATCHES for colour in (hatch.ground, hatch.ink))]
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.putpalette(bytes(int(colour[place : place + 2], 16) for colour in colours for place in (1, 3, 5)))
    file = io.BytesIO()
    picture.save(file, format="PNG", compress_level=9, transparency=_BLANK)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
