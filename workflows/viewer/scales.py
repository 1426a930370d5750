"""The scale of a map's colours: which colours, from where to where, in steps or in ratios."""

from dataclasses import dataclass
from typing import Final

from matplotlib.colors import to_hex

from galprote.pipeline.even_colours import even_colours
from galprote.workflows.viewer.shown_map import Shown, limits

#: Colours that one may choose: perceptually uniform (RdBu_r: on each side), and told apart without colour vision.
COLOURS: Final = ("viridis", "cividis", "plasma", "inferno", "magma", "YlGnBu", "gray", "gray_r", "RdBu_r")
#: What is shown of the values, per cent; None: the quantity's own limits.
SHARES: Final[dict[str, float | None]] = {"auto": None, "90 %": 90.0, "98 %": 98.0, "99.8 %": 99.8, "all": 100.0}


@dataclass(frozen=True)
class Scale:
    """A scale of colours: 256 of them as ``#rrggbb``, the ends in the unit of the map's label, and whether log."""

    palette: list[str]
    low: float
    high: float
    log: bool


@dataclass(frozen=True)
class ScaleWish:
    """What the user wants: colours ("auto": the quantity's own), a key of `SHARES`, own ends if not None, log."""

    colours: str = "auto"
    share: str = "auto"
    low: float | None = None
    high: float | None = None
    log: bool = False


def scale_of(shown: Shown, hidden: int, wish: ScaleWish) -> Scale:
    """Make the scale that is wanted for what is shown. Where the wish makes none (high under low), it is not heeded."""
    low, high = limits(shown.sample(hidden), shown.style, SHARES[wish.share], log=wish.log)
    own_low, own_high = (low if wish.low is None else wish.low), (high if wish.high is None else wish.high)
    if own_low < own_high and (own_low > 0 or not wish.log):
        low, high = own_low, own_high
    palette = shown.style.palette() if wish.colours == "auto" else _palette(wish.colours)
    return Scale(palette, float(low), float(high), wish.log)


def _palette(name: str) -> list[str]:
    return [to_hex(colour) for colour in even_colours(name)]
