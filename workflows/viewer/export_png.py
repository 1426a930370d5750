"""What the page shows as a PNG picture: both maps with the selection, spectrum, residual and light fractions."""

import io
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from galprote.model.grids import WAVELENGTH
from galprote.pipeline.map_panel import ASPECTS, Canvas
from galprote.pipeline.map_styles import INK
from galprote.workflows.drawing_style import default_style
from galprote.workflows.viewer.export_map import draw_map, draw_selection, map_title, run_names, runs_of
from galprote.workflows.viewer.export_spectrum import (
    GREY,
    draw_features,
    draw_grid,
    draw_legend,
    draw_residual,
    draw_spectrum,
)
from galprote.workflows.viewer.grid_view import Light
from galprote.workflows.viewer.look import Lines
from galprote.workflows.viewer.scales import Scale
from galprote.workflows.viewer.selection import Selection
from galprote.workflows.viewer.shown_map import Shown

#: Inches: the figure's width; the largest panel of a map; heights of the head, of a map's title, and of the foot.
WIDTH, MAP, HEAD, TITLE, FOOT = 13.33, (4.75, 4.2), 0.6, 0.4, 0.35
#: Heights of the words above the spectrum, of its panels, and of what is below these; room beside them.
WORDS, UPPER, LOWER, AXIS = 1.05, 1.9, 1.15, 0.5
LEFT, RIGHT = 0.85, 0.25
#: Width of the light fractions, with what is on their left.
GRID: Final = 3.6
WHOLE: Final = (float(WAVELENGTH[0]), float(WAVELENGTH[-1]))
DPI: Final = 150


@dataclass(frozen=True)
class Picture:
    """What is to be drawn.

    Attributes
    ----------
    maps : tuple of (Shown, Scale)
    hidden : int
    view : tuple of 4 float
        The part of the image (x0, x1, y0, y1), pixels.
    selection : Selection, optional
    title, words, unit : str
        Of the selection, what is said of its spectrum, and the unit of this.
    lines : Lines, optional
    wavelengths : tuple of 2 float, optional
        The part of the spectrum; all of it if there is none.
    light : Light, optional
    """

    maps: tuple[tuple[Shown, Scale], ...]
    hidden: int
    view: tuple[float, float, float, float]
    selection: Selection | None = None
    title: str = ""
    words: str = ""
    unit: str = ""
    lines: Lines | None = None
    wavelengths: tuple[float, float] | None = None
    light: Light | None = None


def draw_png(picture: Picture) -> bytes:
    """Draw it."""
    canvas = _canvas(picture.view)
    upper = WORDS + UPPER + LOWER + AXIS if picture.lines else 0.15
    height = HEAD + TITLE + canvas.height + upper + FOOT
    with default_style():
        figure = Figure(figsize=(WIDTH, height), facecolor="white")
        FigureCanvasAgg(figure)
        _draw_maps(figure, picture, canvas)
        if picture.lines is not None:
            _draw_spectra(figure, picture, picture.lines)
        _draw_words(figure, picture)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def _canvas(view: tuple[float, float, float, float]) -> Canvas:
    """The largest panel with square spaxels that there is room for, neither flat nor slim."""
    x, y = (view[0] + view[1]) / 2, (view[2] + view[3]) / 2
    across, up = view[1] - view[0], view[3] - view[2]
    across, up = max(across, up / ASPECTS[1]), max(up, across * ASPECTS[0])
    width = min(MAP[0], MAP[1] * across / up)
    return Canvas(width, width * up / across, (x - across / 2, x + across / 2, y - up / 2, y + up / 2))


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Any:
    """Axes at a place in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def _text(figure: Figure, left: float, down: float, words: str, **how: Any) -> Any:
    """Words at a place in inches, from the left and from the top."""
    across, up = figure.get_size_inches()
    return figure.text(left / across, 1 - down / up, words, va="center", **{"color": INK, **how})


def _draw_maps(figure: Figure, picture: Picture, canvas: Canvas) -> None:
    bottom = figure.get_size_inches()[1] - HEAD - TITLE - canvas.height
    slot = (WIDTH - 0.35 - RIGHT) / 2
    lefts = [0.35 + place * slot for place in range(len(picture.maps))]
    panels = [_axes(figure, left, bottom, canvas.width, canvas.height) for left in lefts]
    runs = runs_of([shown for shown, _ in picture.maps])
    for axes, left, (shown, scale) in zip(panels, lefts, picture.maps, strict=True):
        bar = _axes(figure, left + canvas.width + 0.12, bottom, 0.16, canvas.height)
        draw_map(axes, bar, shown, scale, picture.hidden, canvas)
        if picture.selection is not None:
            draw_selection(axes, picture.selection)
        title = map_title(shown, runs[0])
        title = f"A: {title}" if len(runs) > 1 and shown.galaxy is runs[0] and shown.minus is None else title
        axes.set_title(title, loc="left", fontsize=15, fontweight="bold", color=INK, pad=6)


def _draw_spectra(figure: Figure, picture: Picture, lines: Lines) -> None:
    right = RIGHT + (GRID if picture.light is not None else 0.0)
    width = WIDTH - LEFT - right
    bottom = FOOT + AXIS
    flux = bool(np.isfinite(lines.flux).any())
    lower = _axes(figure, LEFT, bottom, width, LOWER if flux else LOWER + UPPER)
    draw_residual(lower, lines, picture.unit)
    top, high = lower, LOWER + UPPER
    if flux:
        top, high = _axes(figure, LEFT, bottom + LOWER + 0.05, width, UPPER - 0.05), UPPER - 0.05
        draw_spectrum(top, lines)
    for axes in (lower, top):
        axes.set_xlim(*(picture.wavelengths or WHOLE))
    draw_features(top, high)
    draw_legend(top, lines, high)
    if picture.light is not None:
        draw_grid(_axes(figure, WIDTH - GRID - RIGHT + 0.95, bottom, GRID - 0.95, LOWER + UPPER), picture.light)
    down = figure.get_size_inches()[1] - FOOT - AXIS - LOWER - UPPER - 0.7
    title = _text(figure, 0.35, down, picture.title, fontsize=13, fontweight="bold")
    after = title.get_window_extent().x1 / figure.dpi + 0.3 if picture.title else LEFT
    _text(figure, after, down + 0.01, picture.words, fontsize=10.5, color=GREY)


def _draw_words(figure: Figure, picture: Picture) -> None:
    """The galaxy and the runs above; what made these below, in small print."""
    runs = runs_of([shown for shown, _ in picture.maps])
    name = _text(figure, 0.35, 0.32, runs[0].name, fontsize=19, fontweight="bold")
    words = f"$z$ = {float(runs[0].about['redshift']):.5f}"
    letters = ["A: ", "B: "] if len(runs) > 1 else [""]
    names = run_names([run.path for run in runs])
    words += "".join(f"      {letter}{name}" for letter, name in zip(letters, names, strict=True)).replace("$", r"\$")
    _text(figure, name.get_window_extent().x1 / figure.dpi + 0.3, 0.34, words, fontsize=12, color=GREY)
    made = [
        f"{letter}galprote {run.record['versions']['galprote']}, weights {run.record['checkpoint_sha256'][:8]}"
        for letter, run in zip(letters, runs, strict=True)
    ]
    across, up = figure.get_size_inches()
    figure.text(
        1 - RIGHT / across, 0.14 / up, "      ".join(made), fontsize=8.5, color="#777777", ha="right", va="center"
    )
