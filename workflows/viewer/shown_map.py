"""The part of a map that is on the screen, with no more values than the screen has room for."""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from galprote.pipeline.map_styles import MapStyle, style_of
from galprote.pipeline.quality import Kinds
from galprote.workflows.viewer.stored import StoredGalaxy

#: Rows and columns that are sent to the browser at most.
MOST: Final = 1000
#: Values of a map from which limits are found.
SAMPLE: Final = 1_000_000


@dataclass(frozen=True)
class Window:
    """A part of an image: first and last row and column (one beyond), and every how many of them are shown."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    step: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Of an image (y, x): the spaxel in the middle of every step x step."""
        return tuple(  # type: ignore[return-value]
            slice(min(first + self.step // 2, stop - 1), stop, self.step) for first, stop in (self.rows, self.columns)
        )

    def place(self, image: NDArray[Any]) -> dict[str, list[Any]]:
        """What Bokeh needs to draw the part `image`: spaxel 0 is centred on 0."""
        ny, nx = image.shape
        return {
            "image": [image],
            "x": [self.columns[0] - 0.5],
            "y": [self.rows[0] - 0.5],
            "dw": [nx * self.step],
            "dh": [ny * self.step],
        }


def window_of(shape: tuple[int, int], x: tuple[float, float], y: tuple[float, float]) -> Window:
    """The part of an image to send when the screen shows from `x[0]` to `x[1]`: a little more, so that one can pan."""
    parts = []
    for size, ends in zip(shape, (y, x), strict=True):
        low, high = min(ends), max(ends)
        room = 0.15 * (high - low)
        first = min(max(0, math.floor(low - room)), size - 1)
        parts.append((first, max(first + 1, min(size, math.ceil(high + room) + 1))))
    longest = max(stop - first for first, stop in parts)
    return Window(parts[0], parts[1], max(1, math.ceil(longest / MOST)))


@dataclass(frozen=True)
class Shown:
    """What a panel shows: a map of a galaxy, or its difference to another map.

    Attributes
    ----------
    galaxy : StoredGalaxy
    name : str
    minus : tuple of StoredGalaxy and str, optional
        The map that is subtracted.
    positive : bool
        Whether values of 0 and less are left out, for they have no place on a logarithmic scale.
    """

    galaxy: StoredGalaxy
    name: str
    minus: tuple[StoredGalaxy, str] | None = None
    positive: bool = False

    @property
    def style(self) -> MapStyle:
        """How it is drawn; differences around zero."""
        style = style_of(self.name, self.galaxy.attributes(self.name))
        if self.minus is None:
            return style
        title, label, factor = f"Δ {style.title}", style.label, style.factor
        if self.minus[1] != self.name:
            other = style_of(self.minus[1], self.minus[0].attributes(self.minus[1]))
            title = f"{style.title} − {other.title}"
            same = (style.label, style.factor) == (other.label, other.factor)
            label, factor = (label, factor) if same else (self.units[0] or "difference", 1.0)
        if self.refusal:
            label = "nothing to show"
        return MapStyle(self.name, title, label, "RdBu_r", (0.02, 0.98), (-1.0, 1.0), factor, around_zero=True)

    @property
    def units(self) -> tuple[str, str]:
        """Of the map, and of what is subtracted."""
        (galaxy, name), (other, other_name) = (self.galaxy, self.name), self.minus or (self.galaxy, self.name)
        return str(galaxy.attributes(name).get("units", "")), str(other.attributes(other_name).get("units", ""))

    @property
    def refusal(self) -> str:
        """Why there is nothing to show; '' if there is."""
        for galaxy, name in ((self.galaxy, self.name), self.minus or (self.galaxy, self.name)):
            if name not in galaxy.maps:
                return f"{galaxy.path} has no map {name}."
        if self.minus is None or self.units[0] == self.units[1]:
            return ""
        words = [
            f"{name} ({unit or 'no unit'})" for name, unit in zip((self.name, self.minus[1]), self.units, strict=True)
        ]
        return f"No A − B of {words[0]} and {words[1]}: their units differ. Choose maps of one unit."

    def values(self, part: tuple[slice, slice], hidden: int) -> NDArray[np.float32]:
        """Values in the unit of the label; NaN where there are none, or `hidden` bits of `status` are set."""
        status = self._status(part)
        if self.refusal:
            return np.full(status.shape, np.nan, dtype=np.float32)
        values = self.galaxy.map(self.name)[part].astype(np.float32)
        if self.name == "bin_id":
            values[values < 0] = np.nan
        if self.minus is not None:
            values -= self.minus[0].map(self.minus[1])[part].astype(np.float32)
        values *= np.float32(self.style.factor)
        values[(status & np.int32(hidden)) != 0] = np.nan
        if self.positive:
            values[values <= 0] = np.nan
        return values

    def kinds(self, part: tuple[slice, slice], hidden: int) -> NDArray[np.uint8]:
        """Why there is nothing: 0 a value or no data, 1 not fitted or left out, 2 masked, 3 hidden by a flag."""
        status = self._status(part)
        kinds = Kinds.of(status)
        found = np.zeros(status.shape, dtype=np.uint8)
        if self.positive and not self.refusal:
            found[(self.galaxy.map(self.name)[part] <= 0) & ((status & 1) == 0)] = 1
        found[((status & np.int32(hidden)) != 0) & ((status & 1) == 0)] = 3
        found[kinds.unfitted], found[kinds.masked] = 1, 2
        return found

    def _status(self, part: tuple[slice, slice]) -> NDArray[np.int32]:
        """The status bits that a value has; of a difference of two runs those of either."""
        status: NDArray[np.int32] = self.galaxy.map("status")[part]
        if self.minus is None or self.minus[0] is self.galaxy:
            return status
        both: NDArray[np.int32] = status | self.minus[0].map("status")[part]
        return both

    def compares_to(self, other: "Shown") -> bool:
        """Whether both are the same quantity, each of its own run: they are compared by their colours."""
        runs_differ = self.galaxy is not other.galaxy and self.minus is None and other.minus is None
        return runs_differ and self.name == other.name and self.units == other.units

    def sample(self, hidden: int) -> NDArray[np.float32]:
        """Finite values from which limits are found: all, or some evenly spread ones."""
        shape = self.galaxy.shape
        step = max(1, math.ceil(math.sqrt(shape[0] * shape[1] / SAMPLE)))
        values = self.values((slice(None, None, step), slice(None, None, step)), hidden)
        return values[np.isfinite(values)]


def limits(values: NDArray[np.float32], style: MapStyle, percent: float | None, *, log: bool) -> tuple[float, float]:
    """Ends of the colours: the style's own, or the middle `percent` of the values."""
    if style.around_zero and not values.any():  # such as the difference of equal maps
        low, high = style.empty
    elif percent is None and log == style.log:
        low, high = style.limits(values)
    else:
        kept = values[values > 0] if log else values
        outside = (100 - (96 if percent is None else percent)) / 2
        low, high = map(float, np.percentile(kept, (outside, 100 - outside))) if len(kept) else style.empty
        if style.around_zero and not log:
            low, high = -max(abs(low), abs(high)), max(abs(low), abs(high))
    if log:
        high = high if high > 0 else 1.0
        low = max(low, high / 1e6)
    return (low, high) if high > low else (low - 0.5, low + 0.5) if not log else (low / 2, low * 2)
