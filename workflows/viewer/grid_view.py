"""The age-metallicity grid on the page: light fractions, with the means and their errors."""

from dataclasses import dataclass

import numpy as np
from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, LinearColorMapper, Range1d
from bokeh.plotting import figure
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from galprote.model.grids import AGES_GYR, METALLICITIES
from galprote.pipeline.even_colours import even_colours
from galprote.pipeline.map_styles import INK

Axis = NDArray[np.float64]


@dataclass(frozen=True)
class Light:
    """Light fractions (n_metallicity, n_age) on their axes, light-weighted means with `..._error`, and a title."""

    grid: Axis
    log_ages: Axis
    metallicities: Axis
    mean: dict[str, float]
    words: str


class GridView:
    """A figure of cells: ages as they lie, metallicities in steps, as the weights know them."""

    def __init__(self) -> None:
        self.light: Light | None = None
        names = ("left", "right", "bottom", "top", "light", "root", "age", "metallicity")
        self.cells = ColumnDataSource({name: [] for name in names})
        self.mean = ColumnDataSource({name: [] for name in ("x", "y", "x0", "x1", "y0", "y1")})
        self.mapper = LinearColorMapper(light_palette(), low=0, high=1)
        self.figure = figure(
            name="grid", sizing_mode="stretch_both", tools="", toolbar_location=None, x_range=Range1d(7.4, 10.2),
            y_range=Range1d(-0.5, 11.5), outline_line_color="#888888", title="Light fractions", min_border_right=8,
        )  # fmt: skip
        plot = self.figure
        plot.grid.visible = False
        plot.title.update(text_font_size="13px", text_color=INK)
        for axis in (*plot.xaxis, *plot.yaxis):
            axis.update(major_label_text_font_size="12px", axis_label_text_font_size="13px",
                         axis_label_text_font_style="normal", axis_label_text_color=INK, minor_tick_line_color=None,
                         major_label_text_color=INK)  # fmt: skip
        plot.xaxis.axis_label, plot.yaxis.axis_label = "log₁₀ (age / yr)", "[M/H] (dex)"
        drawn = plot.quad(left="left", right="right", bottom="bottom", top="top", source=self.cells, line_color=None,
                          fill_color={"field": "root", "transform": self.mapper})  # fmt: skip
        for colour, width in (("white", 3.5), ("#d55e00", 1.8)):
            plot.segment("x0", "y", "x1", "y", source=self.mean, line_color=colour, line_width=width)
            plot.segment("x", "y0", "x", "y1", source=self.mean, line_color=colour, line_width=width)
        plot.scatter("x", "y", source=self.mean, size=9, fill_color="#d55e00", line_color="white")
        self._axes(edges_around(np.log10(AGES_GYR) + 9), METALLICITIES)
        tips = [("light", "@light{0.0 %}"), ("age", "@age Gyr"), ("[M/H]", "@metallicity")]
        plot.add_tools(HoverTool(renderers=[drawn], tooltips=tips))

    def clear(self, words: str = "Light fractions") -> None:
        """Show nothing, and say why."""
        self.light = None
        for source in (self.cells, self.mean):
            source.data = {name: np.empty(0) for name in source.data}
        self.figure.title.text = words  # type: ignore[union-attr]

    def show(self, grid: Axis, log_ages: Axis, metallicities: Axis, mean: dict[str, float], words: str) -> None:
        """Show fractions (n_metallicity, n_age), and the means `log_age` and `metallicity` with `..._error`."""
        self.light = Light(grid, log_ages, metallicities, mean, words)
        ages, steps = edges_around(log_ages), np.arange(len(metallicities) + 1) - 0.5
        row, column = (index.ravel() for index in np.indices(grid.shape))
        light = np.nan_to_num(grid.ravel())
        self.cells.data = {
            "left": ages[column], "right": ages[column + 1], "bottom": steps[row], "top": steps[row + 1],
            "light": light, "root": np.sqrt(np.maximum(light, 0)), "metallicity": metallicities[row],
            "age": np.round(10 ** (log_ages[column] - 9), 3),
        }  # fmt: skip
        self.mapper.high = max(float(np.sqrt(max(light.max(), 0))), 1e-3)
        self.mean.data = {name: np.array([value]) for name, value in mean_place(metallicities, mean).items()}
        self._axes(ages, metallicities)
        self.figure.title.text = words

    def _axes(self, age_edges: Axis, metallicities: Axis) -> None:
        """Set both axes; every second metallicity is written."""
        plot, count = self.figure, len(metallicities)
        plot.x_range.update(start=age_edges[0], end=age_edges[-1])
        plot.y_range.update(start=-0.5, end=count - 0.5)
        shown = [place for place in range(count) if place % 2 == (count + 1) % 2]
        plot.yaxis.ticker = FixedTicker(ticks=shown)
        plot.yaxis.major_label_overrides = {
            place: f"{metallicities[place]:+.2f}".replace("-", "\N{MINUS SIGN}") for place in shown
        }


def mean_place(metallicities: Axis, mean: dict[str, float]) -> dict[str, float]:
    """Place of the means in the figure, whose metallicities are in steps."""
    places = np.arange(len(metallicities))
    x, y = mean["log_age"], mean["metallicity"]
    dx, dy = (float(np.nan_to_num(mean[f"{name}_error"])) for name in ("log_age", "metallicity"))
    up = [float(np.interp(value, metallicities, places)) if np.isfinite(value) else np.nan
          for value in (y, y - dy, y + dy)]  # fmt: skip
    return {"x": x, "y": up[0], "x0": x - dx, "x1": x + dx, "y0": up[1], "y1": up[2]}


def light_palette() -> list[str]:
    """256 colours of light fractions, by their square roots: white where there is no light."""
    shades = even_colours("YlGnBu", (0.08, 1.0))
    shades[:24] = np.linspace((1, 1, 1, 1), shades[24], 24)
    return [to_hex(shade) for shade in shades]


def edges_around(centres: Axis) -> Axis:
    """Edges of cells around unevenly spaced centres, (n,) -> (n + 1,)."""
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])
