"""Colour maps whose equal steps look equal: those of matplotlib that are so, and others, which are made so.

Steps are measured in CAM02-UCS (Luo, Cui & Li 2006, Color Research and Application 31, 320) as sRGB's viewing
conditions have it: the space in which matplotlib's viridis, plasma, inferno, magma and cividis were made even.
"""

from functools import cache
from typing import Any, Final

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

#: Even as they are; a grey is the grey of its value.
EVEN: Final = ("viridis", "plasma", "inferno", "magma", "cividis", "gray")
#: Colours on two sides of a pale middle, which stays in the middle: each side is even by itself.
TWO_SIDED: Final = ("RdBu", "RdYlBu")

_FINE: Final = 2049
_XYZ: Final = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_CAT02: Final = np.array([[0.7328, 0.4296, -0.1624], [-0.7036, 1.6975, 0.0061], [0.0030, 0.0136, 0.9834]])
_HPE: Final = np.array([[0.38971, 0.68898, -0.07868], [-0.22981, 1.18340, 0.04641], [0.0, 0.0, 1.0]])
_CONES: Final = _HPE @ np.linalg.inv(_CAT02)
#: Light of the room, cd / m2; the ground's luminance over that of white; what the surround does to lightness.
_ADAPTING, _GROUND, _SURROUND = 64 / np.pi / 5, 0.2, 0.69


@cache
def _even(name: str, low: float, high: float) -> NDArray[np.float64]:
    plain = name.removesuffix("_r")
    if plain in EVEN:
        return np.asarray(colormaps[name](np.linspace(low, high, 256)), dtype=np.float64)
    fine, middle = colormaps[name](np.linspace(low, high, _FINE)), _FINE // 2
    if plain not in TWO_SIDED:
        return _along(fine, np.linspace(0, 1, 256))
    half = (np.arange(128) + 0.5) / 128
    return np.concatenate([_along(fine[: middle + 1], half), _along(fine[middle:], half)])


def _along(colours: NDArray[Any], places: NDArray[Any]) -> NDArray[np.float64]:
    """Colours at these parts of the way from the first to the last, as the eye measures it."""
    steps = np.linalg.norm(np.diff(cam02_ucs(colours[:, :3]), axis=0), axis=1)
    way = np.concatenate([[0.0], np.cumsum(steps)]) / steps.sum()
    return np.stack([np.interp(places, way, channel) for channel in colours.T], axis=1)


def even_colours(name: str, span: tuple[float, float] = (0.0, 1.0)) -> NDArray[np.float64]:
    """256 colours from a colour map of matplotlib's, such that equal steps look equal.

    Parameters
    ----------
    name : str
    span : (float, float)
        The part of the colour map that is used; of two sides the same of both.

    Returns
    -------
    (256, 4) float64
        Red, green, blue, opacity, from 0 to 1.
    """
    return _even(name, *span).copy()


def cam02_ucs(colours: NDArray[Any]) -> NDArray[np.float64]:
    """Lightness J', a', b' (n, 3) of colours in sRGB (n, 3), from 0 to 1."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    five = 5 * _ADAPTING
    fourth = (1 / (five + 1)) ** 4
    luminance = 0.2 * fourth * five + 0.1 * (1 - fourth) ** 2 * five ** (1 / 3)
    cones, white = _response(linear, luminance), _response(np.ones((1, 3)), luminance)
    red, green, blue = cones.T
    a, b = red - 12 * green / 11 + blue / 11, (red + green - 2 * blue) / 9
    hue = np.arctan2(b, a)
    weights = np.array([2, 1, 1 / 20])
    contrast = _SURROUND * (1.48 + np.sqrt(_GROUND))
    lightness = 100 * ((cones @ weights - 0.305) / (white @ weights - 0.305)) ** contrast
    eccentricity = (np.cos(hue + 2) + 3.8) / 4
    strength = 50000 / 13 * 0.725 * (1 / _GROUND) ** 0.2 * eccentricity * np.hypot(a, b) / (red + green + 1.05 * blue)
    chroma = strength**0.9 * np.sqrt(lightness / 100) * (1.64 - 0.29**_GROUND) ** 0.73
    colourful = np.log1p(0.0228 * chroma * luminance**0.25) / 0.0228
    even = 1.7 * lightness / (1 + 0.007 * lightness)
    return np.stack([even, colourful * np.cos(hue), colourful * np.sin(hue)], axis=1)


def _response(linear: NDArray[Any], luminance: float) -> NDArray[np.float64]:
    """What the cones answer (n, 3) to linear red, green and blue (n, 3), adapted to white."""
    white = _CAT02 @ (100 * _XYZ.sum(axis=1))
    adapted = 1 - np.exp((-_ADAPTING - 42) / 92) / 3.6
    scale = adapted * 100 / white + 1 - adapted
    seen = (100 * linear @ _XYZ.T @ _CAT02.T * scale) @ _CONES.T
    power = (luminance * np.abs(seen) / 100) ** 0.42
    found: NDArray[np.float64] = np.sign(seen) * 400 * power / (power + 27.13) + 0.1
    return found
