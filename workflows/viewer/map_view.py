"""A map on the page: its colours, the greys of what has no values, the selection, compass and scale bar."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from bokeh.events import RangesUpdate
from bokeh.models import (
    Arrow,
    ColorBar,
    ColumnDataSource,
    CrosshairTool,
    HoverTool,
    Label,
    LinearColorMapper,
    LogColorMapper,
    Range1d,
    Span,
    VeeHead,
)
from bokeh.plotting import figure

from galprote.pipeline.map_styles import INK, MASKED_COLOUR, UNFITTED_COLOUR, UNTRUSTED_COLOUR
from galprote.pipeline.map_wcs import LENGTHS
from galprote.workflows.viewer.browser_code import callback, hover, ticks
from galprote.workflows.viewer.overview import Overview
from galprote.workflows.viewer.scales import Scale
from galprote.workflows.viewer.selection import Selection, outline
from galprote.workflows.viewer.shown_map import MOST, Shown, Window, window_of
from galprote.workflows.viewer.sky import SPAXELS, Sky

TOOLS: Final = "box_select,lasso_select,pan,wheel_zoom,box_zoom,reset"
CLEAR: Final = "rgba(0,0,0,0)"
#: Behind words on a map.
HALO: Final = {"background_fill_color": "white", "background_fill_alpha": 0.6}


@dataclass(frozen=True)
class Linked:
    """What all maps on the page share.

    Attributes
    ----------
    x, y : Range1d
        The part that is shown, pixels.
    home : tuple of 4 float
        The part with data (x0, x1, y0, y1).
    selection : ColumnDataSource
        Lines around what is selected.
    crosshair : tuple of Span
    sky : Sky, optional
    """

    x: Range1d
    y: Range1d
    home: tuple[float, float, float, float]
    selection: ColumnDataSource
    crosshair: tuple[Span, Span]
    sky: Sky | None

    @classmethod
    def of(cls, overview: Overview, sky: Sky | None) -> "Linked":
        """Share the part of an image where there are data; all of it if there are none."""
        there = (overview.columns, overview.rows)
        ends = [np.flatnonzero(axis if axis.any() else ~axis)[[0, -1]] for axis in there]
        rooms = [max(0.03 * float(np.ptp(pair)), 0.5) for pair in ends]
        (x0, x1), (y0, y1) = ((float(a) - 0.5 - r, float(b) + 0.5 + r) for (a, b), r in zip(ends, rooms, strict=True))
        lines = ColumnDataSource({name: [] for name in ("x0", "y0", "x1", "y1")})
        spans = [Span(dimension=dim, line_color=INK, line_width=0.6, line_alpha=0.6) for dim in ("width", "height")]  # type: ignore[arg-type]
        return cls(Range1d(x0, x1), Range1d(y0, y1), (x0, x1, y0, y1), lines, (spans[0], spans[1]), sky)

    def select(self, selection: Selection | None) -> None:
        """Draw lines around a selection, or none."""
        empty = np.empty(0)
        lines = (empty,) * 4 if selection is None else outline(selection)
        self.selection.data = dict(zip(("x0", "y0", "x1", "y1"), lines, strict=True))


class MapView:
    """A map in a figure of Bokeh's.

    Parameters
    ----------
    name : str
        Of the root on the page.
    linked : Linked
    """

    def __init__(self, name: str, linked: Linked) -> None:
        self.linked = linked
        self.shown: Shown | None = None
        self.hidden = 0
        self.window: Window | None = None
        self.image = ColumnDataSource({name: [] for name in ("image", "x", "y", "dw", "dh")})
        self.kinds = ColumnDataSource({name: [] for name in ("image", "x", "y", "dw", "dh")})
        self.figure = figure(
            name=name, x_range=linked.x, y_range=linked.y, tools=TOOLS, active_drag="box_select",
            active_scroll="wheel_zoom", toolbar_location="right", sizing_mode="stretch_both", min_border=4,
            min_border_right=118,
            x_axis_location=None, y_axis_location=None, background_fill_color="white", outline_line_color="#bbbbbb",
        )  # fmt: skip
        self.figure.grid.visible = False
        self.figure.toolbar.logo = None
        self._draw()
        self.figure.on_event(RangesUpdate, self._moved)

    def _draw(self) -> None:
        plot, size = self.figure, {"x": "x", "y": "y", "dw": "dw", "dh": "dh"}
        greys = LinearColorMapper([CLEAR, UNFITTED_COLOUR, MASKED_COLOUR, UNTRUSTED_COLOUR], low=-0.5, high=3.5)
        plot.image("image", source=self.kinds, color_mapper=greys, level="image", **size)
        common: dict[str, Any] = {"palette": ["#000000"], "nan_color": CLEAR}
        self.mappers = (LinearColorMapper(low=0, high=1, **common), LogColorMapper(low=1, high=10, **common))
        self.drawn = [  # one for each scale: a glyph goes on with the mapper that it began with
            plot.image("image", source=self.image, color_mapper=mapper, level="image", visible=not place, **size)
            for place, mapper in enumerate(self.mappers)
        ]
        self.bars = [
            ColorBar(color_mapper=mapper, width=12, padding=4, title_text_font_style="normal", visible=not place,
                     formatter=ticks("bar_tick"),
                     major_label_text_font_size="12px", title_text_font_size="12px", major_label_text_color=INK)
            for place, mapper in enumerate(self.mappers)
        ]  # fmt: skip
        for bar in self.bars:
            plot.add_layout(bar, "right")
        for colour, width in (("white", 3.5), ("#111111", 1.5)):
            plot.segment("x0", "y0", "x1", "y1", source=self.linked.selection, line_color=colour, line_width=width,
                         line_cap="square")  # fmt: skip
        plot.add_tools(CrosshairTool(overlay=self.linked.crosshair, visible=False), self._hover())
        self._scale_bar()
        if self.linked.sky is not None:
            self._compass(self.linked.sky)

    def _hover(self) -> HoverTool:
        tips, sky = "<b>$x{value}</b> &nbsp; y $y{pixel}, x $x{pixel}", self.linked.sky
        found = HoverTool(renderers=self.drawn, attachment="horizontal", visible=False)
        place: dict[str, Any] = {}
        if sky is not None:
            place = {"x": sky.x, "y": sky.y, "ra": sky.ra, "dec": sky.dec, "matrix": list(sky.matrix)}
            tips += "<br>$x{sky}"
        formatter = hover("spaxel_hover", source=self.image, sky=place)
        found.formatters = {"$x": formatter, "$y": formatter}
        found.tooltips = tips
        return found

    def _scale_bar(self) -> None:
        linked, sky = self.linked, self.linked.sky
        source = ColumnDataSource({name: [] for name in ("x0", "x1", "y", "middle", "words")})
        for colour, width in (("white", 5), (INK, 2.5)):
            self.figure.segment("x0", "y", "x1", "y", source=source, line_color=colour, line_width=width)
        self.figure.text("middle", "y", "words", source=source, text_align="center", text_baseline="bottom",
                         y_offset=-4, text_color=INK, text_font_size="13px", **HALO)  # fmt: skip
        draw = callback(
            "scale_bar", source=source, x_range=linked.x, y_range=linked.y, lengths=LENGTHS if sky else SPAXELS,
            unit=sky.scale if sky else 1.0, unit_name="″" if sky else "spaxels",
        )  # fmt: skip
        for ends in (linked.x, linked.y):
            ends.js_on_change("start", draw)
            ends.js_on_change("end", draw)

    def _compass(self, sky: Sky) -> None:
        directions = {"N": np.array(sky.north), "E": np.array(sky.east)}
        low = np.minimum(0, np.min(list(directions.values()), axis=0))
        origin = np.array([18.0, 40.0]) - 34 * low + np.array([0.0, 12.0])
        for name, step in directions.items():
            tip, word = origin + 26 * step, origin + 35 * step
            units: dict[str, Any] = {"start_units": "screen", "end_units": "screen", "line_color": INK}
            self.figure.add_layout(
                Arrow(x_start=origin[0], y_start=origin[1], x_end=tip[0], y_end=tip[1], line_width=1.5,
                      end=VeeHead(size=7, fill_color=INK, line_color=INK), **units)
            )  # fmt: skip
            self.figure.add_layout(
                Label(x=word[0], y=word[1], x_units="screen", y_units="screen", text=name, text_align="center",
                      text_baseline="middle", text_color=INK, text_font_size="12px", **HALO)
            )  # fmt: skip

    def show(self, shown: Shown, hidden: int, scale: Scale, label: str) -> None:
        """Show a map with a scale of colours; `hidden` are bits of `status` whose spaxels are left out."""
        self.shown, self.hidden = shown, hidden
        mapper, bar = self.mappers[scale.log], self.bars[scale.log]
        mapper.update(palette=scale.palette, low=scale.low, high=scale.high)
        for parts in (self.bars, self.drawn):
            parts[not scale.log].visible, parts[scale.log].visible = False, True
        bar.title = label
        self.window = None
        self._send()

    def _moved(self, _: Any) -> None:
        """Send what came into view, or what was sent too coarsely."""
        if self.shown is not None:
            self._send()

    def _send(self) -> None:
        shown = self.shown
        assert shown is not None
        shape = shown.galaxy.shape
        wanted = window_of(shape, (self.linked.x.start, self.linked.x.end), (self.linked.y.start, self.linked.y.end))
        if max(shape) <= MOST:
            wanted = Window((0, shape[0]), (0, shape[1]), 1)
        if wanted == self.window:
            return
        self.window = wanted
        part = wanted.slices
        self.kinds.data = wanted.place(shown.kinds(part, self.hidden))
        self.image.data = wanted.place(shown.values(part, self.hidden))
