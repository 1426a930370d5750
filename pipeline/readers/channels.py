"""A cube's wavelengths -> the channels that a rest-frame window needs, and what is missing where they are not there."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from galprote.model.errors import CubeError
from galprote.model.grids import STEP
from galprote.pipeline.readers.axis import SpectralAxis
from galprote.pipeline.rebin import edges_of

#: Channels wider than this (Angstrom) cannot hold what the model reads in its own samples of a fourth of it.
_WIDEST: Final = 4 * STEP
#: Weights for less than this (Angstrom) are not worth the training.
_LEAST_WINDOW: Final = 300.0
#: A window may stick out of the cube by the outer half of the model's outermost samples, whose centres it
#: still covers.
TOLERANCE: Final = STEP / 2


@dataclass(frozen=True)
class ChannelRange:
    """Channels to read, in ascending wavelength.

    Attributes
    ----------
    first, step : int
        Channel ``k`` of the range is channel ``first + k * step`` of the file.
    wavelength : (n,) float64
        Air wavelengths, Angstrom, observed frame, ascending.
    uncovered : tuple of float
        Rest-frame Angstrom by which the window sticks out at its blue and red end (at most `TOLERANCE`).
    """

    first: int
    step: int
    wavelength: NDArray[np.float64]
    uncovered: tuple[float, float]


def served_redshifts(axis: SpectralAxis, window: tuple[float, float]) -> tuple[float, float] | None:
    """Redshifts (lowest, highest) at which the cube covers a rest-frame window, or None if there are none."""
    edges = edges_of(np.sort(axis.wavelength))
    lowest = float(edges[0]) / (window[0] + TOLERANCE) - 1
    highest = float(edges[-1]) / (window[1] - TOLERANCE) - 1
    return (lowest, highest) if lowest <= highest else None


def select_channels(
    axis: SpectralAxis, window: tuple[float, float], redshift: float, margin: int = 2, advice: str = ""
) -> ChannelRange:
    """Choose the channels that cover a rest-frame window.

    Parameters
    ----------
    axis : SpectralAxis
        The cube's wavelengths.
    window : tuple of float
        First and last rest-frame air wavelength, Angstrom.
    redshift : float
        Redshift of the galaxy.
    margin : int
        Channels to add on each side, where the file has them.
    advice : str
        What the format says of cubes that do not cover the window.

    Returns
    -------
    ChannelRange
        The fewest channels whose pixels cover the window, and the margin.

    Raises
    ------
    CubeError
        If the cube misses more than `TOLERANCE` of the window; names what is missing in both frames.
    """
    wavelength = axis.wavelength[:: axis.step]
    edges = edges_of(wavelength)
    low, high = window[0] * (1 + redshift), window[1] * (1 + redshift)
    blue = max(0.0, float(edges[0]) / (1 + redshift) - window[0])
    red = max(0.0, window[1] - float(edges[-1]) / (1 + redshift))
    if max(blue, red) > TOLERANCE:
        raise CubeError(_not_covered(axis, edges, window, redshift, advice))
    size = wavelength.size
    start = max(int(np.searchsorted(edges, low, side="right")) - 1 - margin, 0)
    stop = min(int(np.searchsorted(edges, high, side="left")) + margin, size)
    widest = float(np.diff(edges[start : stop + 1]).max())
    if widest > _WIDEST:
        raise CubeError(
            f"a channel is {widest:.4g} A wide, at most {_WIDEST:.4g} A can be used: is the step (CD3_3 or CDELT3) "
            f"right?"
        )
    first = start if axis.step == 1 else size - 1 - start
    return ChannelRange(first, axis.step, wavelength[start:stop].copy(), (blue, red))


def _not_covered(
    axis: SpectralAxis, edges: NDArray[np.float64], window: tuple[float, float], redshift: float, advice: str
) -> str:
    missing = []
    factor = 1 + redshift
    first, last = float(edges[0]) / factor, float(edges[-1]) / factor
    for low, high in ((window[0], min(first, window[1])), (max(last, window[0]), window[1])):
        if high > low:
            missing.append(f"{low:.1f}-{high:.1f} A rest frame ({low * factor:.1f}-{high * factor:.1f} A observed)")
    served = served_redshifts(axis, window)
    can = f"redshifts {served[0]:z.4f} to {served[1]:z.4f}" if served else "no redshift"
    return (
        f"the cube does not cover {window[0]:.1f}-{window[1]:.1f} A at redshift {redshift:g}: "
        f"{' and '.join(missing)} is missing; the file has {edges[0]:.1f}-{edges[-1]:.1f} A (observed, air), "
        f"which serves {can}. Correct the redshift, or use a cube that covers the window."
        + (f" {advice} {_other_weights(max(first, window[0]), min(last, window[1]))}" if advice else "")
    )


def _other_weights(first: float, last: float) -> str:
    """How weights are made for a part of the window, rest-frame Angstrom."""
    if last - first < _LEAST_WINDOW:
        return ""
    return (
        f"Or train weights that look at what is there at this redshift (docs/training.md): model: {{window: "
        f"[{np.ceil(first):.0f}, {np.floor(last):.0f}]}} in a copy of configs/train/instrument.yaml, and "
        f"galprote-pipeline train."
    )
