"""Figures of matplotlib as SVG text: the same bytes for the same numbers, letters as outlines, no user's style."""

import io
import re
from contextlib import AbstractContextManager
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from galprote.pipeline.map_styles import INK
from galprote.workflows.drawing_style import default_style

GREY: Final = "#5a5a5a"
#: Told apart also without colour vision, and in print (Okabe & Ito).
BLUE, ORANGE = "#0072b2", "#d55e00"
#: Behind a line: 16 to 84 % of the values.
SPREAD: Final = "#b9d3e6"
#: A hundredth of a point is enough, and half of the file.
_PATH: Final = re.compile(r' d="[^"]*"')
_DECIMALS: Final = re.compile(r"(\.\d\d)\d+")


def drawn_here() -> AbstractContextManager[None]:
    """Draw as this report does: matplotlib's own defaults, and identifiers in SVG that do not change."""
    return default_style(svg_hashsalt="galprote", svg_fonttype="path")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, inches."""
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def as_svg(figure: Figure) -> str:
    """Write a figure."""
    file = io.StringIO()
    metadata: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(file, format="svg", dpi=150, metadata=metadata)
    text = file.getvalue()
    text = _PATH.sub(lambda path: _DECIMALS.sub(r"\1", " " + " ".join(path[0].split())), text)
    return text[text.index("<svg") :]


def plain_axes(axes: Axes, xlabel: str, ylabel: str) -> None:
    """Set what all charts share."""
    axes.set_xlabel(xlabel, fontsize=10, color=INK)
    axes.set_ylabel(ylabel, fontsize=10, color=INK)
    axes.tick_params(labelsize=9, color=INK, labelcolor=INK, length=3, direction="in", top=True, right=True)
    axes.spines[:].set(color="#8a8a8a", linewidth=0.8)
