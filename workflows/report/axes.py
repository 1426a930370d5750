"""Axes of small charts, as SVG: a page has a dozen, and matplotlib takes a tenth of a second for each."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from galprote.pipeline.map_styles import INK
from galprote.workflows.report.drawing import BLUE, SPREAD
from galprote.workflows.report.map_picture import FONT, ticks
from galprote.workflows.report.words import number_words

WIDTH, HEIGHT = 340, 240
#: Of the axes within the picture: half of a number such as 10,000 has room on the right.
LEFT, RIGHT, TOP, BOTTOM = 66, 24, 26, 44


@dataclass(frozen=True)
class Axes:
    """Limits and scales of a chart."""

    x: tuple[float, float]
    y: tuple[float, float]
    x_log: bool = False
    y_log: bool = False

    def places(self, x: Any, y: Any) -> NDArray[np.float64]:
        """Pixels of the picture, (n, 2)."""
        across = _share(x, self.x, log=self.x_log) * (WIDTH - LEFT - RIGHT) + LEFT
        up = HEIGHT - BOTTOM - _share(y, self.y, log=self.y_log) * (HEIGHT - TOP - BOTTOM)
        return np.stack(np.broadcast_arrays(across, up), axis=-1).reshape(-1, 2)

    def line(self, x: Any, y: Any, width: float = 1.4, colour: str = BLUE, dashes: str = "") -> str:
        """A line through points."""
        dash = f' stroke-dasharray="{dashes}"' if dashes else ""
        return f'<path d="M{_points(self.places(x, y))}" fill="none" stroke="{colour}" stroke-width="{width}"{dash}/>'

    def area(self, x: Any, y: Any) -> str:
        """What points enclose, filled."""
        return f'<path d="M{_points(self.places(x, y))}z" fill="{SPREAD}"/>'

    def dots(self, x: Any, y: Any) -> str:
        """Points."""
        return "".join(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.6" fill="{BLUE}"/>' for px, py in self.places(x, y))

    def chart(self, marks: Iterable[str], xlabel: str, ylabel: str, title: str = "") -> str:
        """The whole picture."""
        right, low, middle = WIDTH - RIGHT, HEIGHT - BOTTOM, (HEIGHT - BOTTOM + TOP) / 2
        frame = f'<rect x="{LEFT}" y="{TOP}" width="{right - LEFT}" height="{low - TOP}"'
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
            f'viewBox="0 0 {WIDTH} {HEIGHT}" {FONT} font-size="12" fill="{INK}">'
            f'<clipPath id="inside">{frame}/></clipPath><g clip-path="url(#inside)">',
            *marks,
            f'</g>{frame} fill="none" stroke="#8a8a8a"/>',
        ]
        for tick in ticks(self.x, log=self.x_log):
            ((x, _),) = self.places(tick, self.y[0])
            parts.append(f'<path d="M{x:.1f} {low}v4" stroke="{INK}"/><text x="{x:.1f}" y="{low + 17}" '
                         f'text-anchor="middle">{escape(number_words(tick))}</text>')  # fmt: skip
        for tick in ticks(self.y, log=self.y_log):
            ((_, y),) = self.places(self.x[0], tick)
            parts.append(f'<path d="M{LEFT} {y:.1f}h-4" stroke="{INK}"/><text x="{LEFT - 7}" y="{y + 4:.1f}" '
                         f'text-anchor="end">{escape(number_words(tick))}</text>')  # fmt: skip
        parts += [
            f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(xlabel)}</text>',
            f'<text transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">{escape(ylabel)}</text>',
            f'<text x="{LEFT}" y="{TOP - 8}">{escape(title)}</text></svg>',
        ]
        return "".join(parts)


def _share(values: Any, limits: tuple[float, float], *, log: bool) -> NDArray[np.float64]:
    found, ends = np.asarray(values, dtype=np.float64), np.array(limits)
    found, ends = (np.log10(found), np.log10(ends)) if log else (found, ends)
    share: NDArray[np.float64] = (found - ends[0]) / (ends[1] - ends[0])
    return np.clip(share, -10, 10)


def _points(places: NDArray[np.float64]) -> str:
    return "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
