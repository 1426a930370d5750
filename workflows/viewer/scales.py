"""The scale of a map's colours: which colours, from where to where, in steps or in ratios."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from galprote.pipeline.even_colours import even_colours
from galprote.workflows.viewer.shown_map import Shown, limits

#: Colours that one may choose: perceptually uniform (RdBu_r: on each side), and told apart without colour vision.
COLOURS: Final = ("viridis", "cividis", "plasma", "inferno", "magma", "YlGnBu", "gray", "gray_r", "RdBu_r")
#: What is shown of the values, per cent; None: the quantity's own limits.
SHARES: Final[dict[str, float | None]] = {"auto": None, "90 %": 90.0, "98 %": 98.0, "99.8 %": 99.8, "all": 100.0}


@dataclass(frozen=True)
class Scale:
    """A scale of colours.

    Attributes
    ----------
    palette : list of str
        256 colours as ``#rrggbb``.
    low, high : float
        The ends in the unit of the map's label.
    log : bool
    refused : str
        Why the ends that were wished are not these; '' if they are, or none were.
    unshown : str
        What has no place on the scale; '' if there is nothing.
    """

    palette: list[str]
    low: float
    high: float
    log: bool
    refused: str = ""
    unshown: str = ""


@dataclass(frozen=True)
class ScaleWish:
    """What the user wants: colours ("auto": the quantity's own), a key of `SHARES`, own ends if not None, log."""

    colours: str = "auto"
    share: str = "auto"
    low: float | None = None
    high: float | None = None
    log: bool = False


def scale_of(shown: Shown, hidden: int, wish: ScaleWish, beside: Shown | None = None) -> Scale:
    """Make the scale that is wanted for what is shown. A wish that makes none (high under low) is refused in words.

    The limits are found from the values of `beside`, too, where this is the same quantity of another run.
    """
    values = shown.sample(hidden)
    unshown = _unshown(values) if wish.log else ""
    if beside is not None and shown.compares_to(beside):
        values = np.concatenate([values, beside.sample(hidden)])
    low, high = limits(values, shown.style, SHARES[wish.share], log=wish.log)
    own_low, own_high = (low if wish.low is None else wish.low), (high if wish.high is None else wish.high)
    refused = _refused(own_low, own_high, wish)
    if not refused:
        low, high = own_low, own_high
    palette = shown.style.palette() if wish.colours == "auto" else _palette(wish.colours)
    return Scale(palette, float(low), float(high), wish.log, refused, unshown)


def _refused(low: float, high: float, wish: ScaleWish) -> str:
    """Why two ends make no scale, in words."""
    ends = [f"{name} {value:.6g}{' (its own)' if own is None else ''}".replace("-", "\N{MINUS SIGN}")
            for name, value, own in (("min", low, wish.low), ("max", high, wish.high))]  # fmt: skip
    if not low < high:
        return f"{ends[0]} is not below {ends[1]}: the map has its own limits."
    if wish.log and low <= 0:
        return f"{ends[0]} is not above 0, as a logarithmic scale needs: the map has its own limits."
    return ""


def _unshown(values: NDArray[np.float32]) -> str:
    """What a logarithmic scale leaves out, in words."""
    below = float(np.mean(values <= 0)) if len(values) else 0.0
    if not below:
        return ""
    share = "less than 1 %" if below < 0.01 else f"{100 * below:.0f} %"
    return f"{share} of the values are 0 or less, and not on the logarithmic scale: light grey, as without a value."


def _palette(name: str) -> list[str]:
    return [to_hex(colour) for colour in even_colours(name)]
