"""The spectrum on the page: observed and model above, what is left below, what was left out shaded."""

from html import escape
from textwrap import fill
from typing import Any, Final

import numpy as np
from bokeh.models import (
    BasicTicker,
    ColumnDataSource,
    CrosshairTool,
    Div,
    FixedTicker,
    HoverTool,
    Label,
    LinearAxis,
    NoOverlap,
    Range1d,
    Span,
)
from bokeh.plotting import figure
from numpy.typing import NDArray

from galprote.model.grids import STEP, WAVELENGTH
from galprote.pipeline.map_styles import INK
from galprote.workflows.features import FEATURES
from galprote.workflows.viewer.heading import STYLE
from galprote.workflows.viewer.look import Lines

#: Colours that are told apart without colour vision, as in the figures of single spectra.
OBSERVED, MODEL, BAND, MASKED, REPLACED, SIGMA = "#222222", "#d55e00", "#e4e4e4", "#f3d9a4", "#9ecae1", "#c6dbef"
TOOLS: Final = "xpan,xwheel_zoom,xbox_zoom,reset"
SHADES: Final = {"bands": BAND, "masked": MASKED, "replaced": REPLACED}
#: Characters of a note's line.
ROOM: Final = 96
LEGEND: Final = {"bands": "not used", "masked": "masked or no data", "replaced": "replaced"}


class SpectrumView:
    """Two figures with one axis of wavelength, and a line of words above them; fluxes have a unit, in words."""

    def __init__(self, unit: str = "") -> None:
        self.source = ColumnDataSource({name: [] for name in ("wavelength", "flux", "model", "residual", "inside")})
        self.sigma = ColumnDataSource({name: [] for name in ("wavelength", "low", "high")})
        self.shades = {kind: ColumnDataSource({"x0": [], "x1": []}) for kind in SHADES}
        self.words = Div(name="words", stylesheets=[STYLE], sizing_mode="stretch_width", disable_math=True, margin=0)
        wavelengths = Range1d(float(WAVELENGTH[0]), float(WAVELENGTH[-1]), bounds=(4700, 7150))
        self.note = Label(name="note", x=14, y=40, x_units="screen", y_units="screen", text="", text_color="#444444",
                          text_font_size="13px", text_baseline="bottom")  # fmt: skip
        self.upper, self.lower = (self._figure(name, wavelengths) for name in ("spectrum", "residual"))
        self.lower.xaxis.axis_label = axis_words(unit)
        pointed = [self._draw_upper(self.upper), self._draw_lower(self.lower)]
        line = Span(dimension="height", line_color=INK, line_width=0.6, line_alpha=0.6)
        tips = (
            "@wavelength{0.0} Å: observed @flux{0.[00]}, model @model{0.[00]}",
            "@wavelength{0.0} Å: @residual{0.[00]}",
        )
        for plot, renderer, tip in zip((self.upper, self.lower), pointed, tips, strict=True):
            plot.add_tools(CrosshairTool(dimensions="height", overlay=line, visible=False))
            plot.add_tools(HoverTool(tooltips=tip, mode="vline", renderers=[renderer], visible=False))

    def _figure(self, name: str, wavelengths: Range1d) -> Any:
        lower = name == "residual"
        plot = figure(
            name=name, x_range=wavelengths, y_range=Range1d(0, 1), sizing_mode="stretch_both", tools=TOOLS,
            active_drag="xbox_zoom", active_scroll="xwheel_zoom", toolbar_location=None if lower else "right",
            min_border_left=72, min_border_right=36, min_border_top=2, min_border_bottom=40 if lower else 8,
            outline_line_color="#888888",
        )  # fmt: skip
        plot.toolbar.logo = None
        plot.grid.visible = False
        for axis in (*plot.xaxis, *plot.yaxis):
            axis.update(major_label_text_font_size="12px", axis_label_text_font_size="13px",
                        axis_label_text_font_style="normal", axis_label_text_color=INK,
                        major_label_text_color=INK, minor_tick_line_color=None)  # fmt: skip
        plot.yaxis.axis_label = "residual" if lower else "flux"
        plot.yaxis.ticker = BasicTicker(desired_num_ticks=4)
        for kind, colour in SHADES.items():
            plot.vstrip("x0", "x1", source=self.shades[kind], fill_color=colour, line_color=None, level="underlay")
        return plot

    def _draw_upper(self, plot: Any) -> Any:
        plot.step("wavelength", "flux", source=self.source, mode="center", line_color=OBSERVED)
        found = plot.line("wavelength", "model", source=self.source, line_color=MODEL, line_width=1.4)
        plot.xaxis.visible = False
        plot.add_layout(self.note)
        self._features(plot)
        return found

    def _draw_lower(self, plot: Any) -> Any:
        plot.varea("wavelength", "low", "high", source=self.sigma, fill_color=SIGMA)
        plot.add_layout(Span(dimension="width", location=0, line_color="#666666", line_width=0.8))
        plot.step("wavelength", "residual", source=self.source, mode="center", line_color="#999999")
        plot.step("wavelength", "inside", source=self.source, mode="center", line_color=OBSERVED)
        return plot.line("wavelength", "residual", source=self.source, line_alpha=0)

    def _features(self, plot: Any) -> None:
        """Names of lines above the upper edge, where no spectrum runs through them."""
        names = {wavelength: name.strip() for name, wavelength in FEATURES.items()}
        axis = LinearAxis(ticker=FixedTicker(ticks=list(names)), major_label_overrides=names, axis_line_color=None,
                          major_label_text_font_size="11px", major_label_text_color="#444444", major_label_standoff=2,
                          major_tick_line_color="#777777", major_tick_in=0, major_tick_out=4,
                          major_label_policy=NoOverlap(min_distance=3))  # fmt: skip
        plot.add_layout(axis, "above")

    def clear(self, words: str = "") -> None:
        """Show nothing but words."""
        self.source.data = {name: np.empty(0) for name in self.source.data}
        self.sigma.data = {name: np.empty(0) for name in self.sigma.data}
        for source in self.shades.values():
            source.data = {"x0": [], "x1": []}
        self.words.text, self.note.text = f'<p class="spectrum">{escape(words)}</p>', ""
        self.upper.yaxis[0].major_label_text_alpha = 0.0

    def show(self, lines: Lines, words: str, note: str) -> None:
        """Show a selection's spectrum; `words` say what it is, `note` what is missing."""
        self.note.text = "\n".join(fill(line, ROOM) for line in note.splitlines())
        self.upper.yaxis[0].major_label_text_alpha = float(np.isfinite(lines.flux).any())
        inside = np.where(lines.used, lines.residual, np.nan)
        self.source.data = {
            "wavelength": WAVELENGTH, "flux": lines.flux, "model": lines.model, "residual": lines.residual,
            "inside": inside,
        }  # fmt: skip
        known = np.isfinite(lines.low) & np.isfinite(lines.high)
        self.sigma.data = {
            "wavelength": WAVELENGTH, "low": np.where(known, lines.low, np.nan),
            "high": np.where(known, lines.high, np.nan),
        }  # fmt: skip
        for kind, source in self.shades.items():
            source.data = dict(zip(("x0", "x1"), runs(getattr(lines, kind)), strict=True))
        whole = escape(words)
        self.words.text = f'<p class="spectrum" title="{whole}"><span class="legend">{legend(lines)}</span>{whole}</p>'
        for plot, (low, high) in zip((self.upper, self.lower), ranges(lines), strict=True):
            plot.y_range.update(start=low, end=high, reset_start=low, reset_end=high)


def axis_words(unit: str) -> str:
    """What is said below the axis of wavelength."""
    return "rest-frame wavelength, air (Å)" + (f"; fluxes in {unit}" if unit else "")


def legend(lines: Lines) -> str:
    """What the lines and shades mean, in HTML."""
    return " ".join(f'<span class="entry"><i class="{kind}" style="background: {colour}"></i>{word}</span>'
                    for word, colour, kind in entries(lines))  # fmt: skip


def entries(lines: Lines) -> list[tuple[str, str, str]]:
    """Words, colours, and "line" or "shade", of what is there."""
    there = [("observed", OBSERVED, "line", lines.flux), ("model", MODEL, "line", lines.model)]
    known = np.isfinite(lines.flux).any()
    there.append(("noise ±1σ" if known else "their scatter", SIGMA, "shade", lines.high))
    shades = [
        (LEGEND[kind], colour, "shade", np.where(getattr(lines, kind), 1.0, np.nan)) for kind, colour in SHADES.items()
    ]
    return [(word, colour, kind) for word, colour, kind, values in (*there, *shades) if np.isfinite(values).any()]


def runs(where: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """First and last wavelength of every run of samples (948,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], where.astype(np.int8), [0]]))).reshape(-1, 2)
    return WAVELENGTH[edges[:, 0]] - STEP / 2, WAVELENGTH[edges[:, 1] - 1] + STEP / 2


def ranges(lines: Lines) -> tuple[tuple[float, float], tuple[float, float]]:
    """From where to where the axes of the spectrum and of its residual go."""
    spectrum = np.concatenate([lines.flux[lines.used], lines.model])
    residual = np.concatenate([lines.residual[lines.used], lines.high[lines.used]])
    return _range(spectrum, zero=False), _range(residual, zero=True)


def _range(values: NDArray[np.float64], *, zero: bool) -> tuple[float, float]:
    """Where values lie; a single outlier of a residual does not count."""
    values = values[np.isfinite(values)]
    if not len(values):
        low, high = (-1.0, 1.0) if zero else (0.0, 1.0)
    elif zero:
        high = 1.3 * float(np.percentile(np.abs(values), 99.5)) or 1.0
        low = -high
    else:
        low, high = float(values.min()), float(values.max())
        room = (high - low) or abs(high) or 1.0
        low, high = low - 0.1 * room, high + 0.1 * room
    return low, high
