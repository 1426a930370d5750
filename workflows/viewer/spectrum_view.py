"""The spectrum on the page: observed and model above, what is left below, what was left out shaded."""

from html import escape
from typing import Any, Final

import numpy as np
from bokeh.models import BasicTicker, ColumnDataSource, CrosshairTool, Div, HoverTool, Label, Range1d, Span
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
LEGEND: Final = {"bands": "not used", "masked": "masked or no data", "replaced": "replaced"}


class SpectrumView:
    """Two figures with one axis of wavelength, and a line of words above them."""

    def __init__(self) -> None:
        self.source = ColumnDataSource({name: [] for name in ("wavelength", "flux", "model", "residual", "inside")})
        self.sigma = ColumnDataSource({name: [] for name in ("wavelength", "low", "high")})
        self.shades = {kind: ColumnDataSource({"x0": [], "x1": []}) for kind in SHADES}
        self.words = Div(name="words", stylesheets=[STYLE], sizing_mode="stretch_width", disable_math=True, margin=0)
        wavelengths = Range1d(float(WAVELENGTH[0]), float(WAVELENGTH[-1]), bounds=(4700, 7150))
        self.note = Label(name="note", x=14, y=40, x_units="screen", y_units="screen", text="", text_color="#444444",
                          text_font_size="13px", text_baseline="bottom")  # fmt: skip
        self.upper, self.lower = (self._figure(name, wavelengths) for name in ("spectrum", "residual"))
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
            min_border_left=72, min_border_right=36, min_border_top=2, min_border_bottom=40 if lower else 2,
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
        plot.xaxis.axis_label = "rest-frame wavelength, air (Å)"
        return plot.line("wavelength", "residual", source=self.source, line_alpha=0)

    def _features(self, plot: Any) -> None:
        """Names of lines along the upper edge."""
        plot.extra_y_ranges = {"height": Range1d(0, 1)}
        source = ColumnDataSource({"x": list(FEATURES.values()), "name": [name.strip() for name in FEATURES]})
        common: dict[str, Any] = {"source": source, "y_range_name": "height"}
        plot.segment("x", 0.885, "x", 0.915, line_color="#777777", **common)
        plot.text("x", 0.985, "name", text_align="center", text_baseline="top", text_font_size="11px",
                  text_color="#555555", **common)  # fmt: skip

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
        self.note.text = note
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
        self.words.text = f'<p class="spectrum"><span class="legend">{legend(lines)}</span>{escape(words)}</p>'
        _limit(self.upper.y_range, np.concatenate([lines.flux[lines.used], lines.model]), zero=False)
        _limit(self.lower.y_range, np.concatenate([inside, lines.high[lines.used]]), zero=True)


def legend(lines: Lines) -> str:
    """What the lines and shades mean, of those that are there."""
    there = [("observed", OBSERVED, "line", lines.flux), ("model", MODEL, "line", lines.model)]
    shades = [
        (LEGEND[kind], colour, "shade", np.where(getattr(lines, kind), 1.0, np.nan)) for kind, colour in SHADES.items()
    ]
    return "".join(
        f'<i class="{kind}" style="background: {colour}"></i>{word}'
        for word, colour, kind, values in (*there, *shades)
        if np.isfinite(values).any()
    )


def runs(where: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """First and last wavelength of every run of samples (948,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], where.astype(np.int8), [0]]))).reshape(-1, 2)
    return WAVELENGTH[edges[:, 0]] - STEP / 2, WAVELENGTH[edges[:, 1] - 1] + STEP / 2


def _limit(axis: Any, values: NDArray[np.float64], *, zero: bool) -> None:
    """Let an axis show values; a single outlier of a residual does not count."""
    values = values[np.isfinite(values)]
    if not len(values):
        low, high = (-1.0, 1.0) if zero else (0.0, 1.0)
    elif zero:
        high = 1.3 * float(np.percentile(np.abs(values), 99.5)) or 1.0
        low = -high
    else:
        low, high = float(values.min()), float(values.max())
        room = (high - low) or abs(high) or 1.0
        low, high = low - 0.2 * room, high + 0.2 * room
    axis.update(start=low, end=high, reset_start=low, reset_end=high)
