"""The page: what is on it, and what a click, a choice or an answer changes."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

from bokeh.core.templates import get_env
from bokeh.document import Document
from bokeh.events import SelectionGeometry, Tap
from bokeh.models import Div

from galprote.workflows.viewer.background import Background
from galprote.workflows.viewer.browser_code import callback, code
from galprote.workflows.viewer.downloads import Downloads
from galprote.workflows.viewer.export_csv import selection_csv
from galprote.workflows.viewer.export_png import Picture, draw_png
from galprote.workflows.viewer.flag_controls import FlagControls
from galprote.workflows.viewer.heading import STYLE, heading
from galprote.workflows.viewer.inspector import Inspector
from galprote.workflows.viewer.map_controls import DIFFERENCE, OTHER, MapControls
from galprote.workflows.viewer.map_view import Linked, MapView
from galprote.workflows.viewer.overview import Overview
from galprote.workflows.viewer.refitting import Spectra
from galprote.workflows.viewer.scales import Scale, scale_of
from galprote.workflows.viewer.selection import Selection, at_point, in_box, in_lasso
from galprote.workflows.viewer.shown_map import Shown
from galprote.workflows.viewer.side_view import SideView
from galprote.workflows.viewer.sky import Sky
from galprote.workflows.viewer.stored import StoredGalaxy


class Page:
    """One window of the viewer.

    Parameters
    ----------
    document : Document
    galaxy : StoredGalaxy
    other : StoredGalaxy, optional
        The run to compare to, on the same spaxels.
    spectra : Spectra
    """

    def __init__(self, document: Document, galaxy: StoredGalaxy, other: StoredGalaxy | None, spectra: Spectra) -> None:
        self.document, self.galaxy, self.other = document, galaxy, other
        self.reading, self.fitting = Background(self._answer), Background(self._answer)
        self.downloads = Downloads()
        overviews = [Overview.of(each) for each in (galaxy, other) if each is not None]
        self.flags = FlagControls(overviews, self._flags_changed)
        self.side = SideView(self.flags.layout, self._save_csv, self._save_png)
        self.inspector = Inspector(galaxy, other, spectra, (self.reading, self.fitting), self.side)
        sky = None if galaxy.wcs is None else Sky.of(galaxy.wcs, galaxy.shape)
        self.linked = Linked.of(overviews[0], sky)
        first, second = first_products(galaxy)
        self.controls = [
            MapControls("A", galaxy, first, other, self._first_changed),
            MapControls("B", galaxy, first if other else second, other, self._maps_changed),
        ]
        self.views = [MapView("map_a", self.linked), MapView("map_b", self.linked)]
        self.drawn: list[tuple[Shown, Scale]] = []
        for view in self.views:
            view.figure.on_event(Tap, self._tapped)
            view.figure.on_event(SelectionGeometry, self._dragged)
        self._fit_view()
        self._maps_changed()
        self._put_together(overviews[0])
        document.on_session_destroyed(lambda _: self.close())

    def _fit_view(self) -> None:
        plot = self.views[0].figure
        fit = callback("fit_view", plot=plot, home=self.linked.home)
        plot.js_on_change("inner_width", fit)
        plot.js_on_change("inner_height", fit)

    def _put_together(self, overview: Overview) -> None:
        head = Div(name="head", text=heading(self.galaxy, self.other, overview), stylesheets=[STYLE], disable_math=True,
                   margin=0, sizing_mode="stretch_width", styles={"padding": "6px 4px 0"})  # fmt: skip
        found = self.inspector
        parts = [head, *(controls.layout for controls in self.controls), *(view.figure for view in self.views),
                 self.side.layout, found.spectrum.words, found.spectrum.upper, found.spectrum.lower,
                 found.grid.figure]  # fmt: skip
        with self.document.models.freeze():  # or everything would be counted again for each of them
            for part in parts:
                self.document.add_root(part)
        head.tags = [self.downloads.source]
        self.document.title = f"{self.galaxy.name} – galprote"
        self.document.template = get_env().from_string(code("page.html"))

    def _answer(self, show: Any) -> None:
        with suppress(Exception):  # the window may be closed meanwhile
            self.document.add_next_tick_callback(show)

    def close(self) -> None:
        """End the threads."""
        self.reading.close()
        self.fitting.close()

    # --- maps ---

    def _first_changed(self) -> None:
        if self.other is not None and self.controls[1].run.value in (OTHER, DIFFERENCE):
            name = str(self.controls[0].product.value)
            if self.controls[1].product.value != name and name in self.controls[1].galaxy.maps:
                self.controls[1].choose(name)  # draws both
                return
        self._maps_changed()

    def _maps_changed(self) -> None:
        hidden = self.flags.hidden
        first = self.controls[0].shown()
        pair = (first, self.controls[1].shown(first))
        self.drawn, problems = [], []
        for view, controls, letter, wanted, beside in zip(
            self.views, self.controls, "AB", pair, pair[::-1], strict=True
        ):
            scale = scale_of(wanted, hidden, controls.wish(), beside)
            problems += [f"{letter}: {words}" for words in controls.problems(scale)]
            shown = replace(wanted, positive=scale.log)
            label = f"{shown.style.title}: {shown.style.plain_label(shown.galaxy.about)}"
            view.show(shown, hidden, scale, label)
            self.drawn.append((shown, scale))
        self.side.refuse([*(shown.refusal for shown in pair if shown.refusal), *problems])

    def _flags_changed(self) -> None:
        self._maps_changed()
        if self.inspector.selection is not None:
            self.inspector.select(self.inspector.selection, self.flags.hidden)

    # --- selections ---

    def _tapped(self, event: Any) -> None:
        if event.x is not None and event.y is not None:
            self.select(at_point(self.galaxy, event.x, event.y))

    def _dragged(self, event: Any) -> None:
        geometry = event.geometry
        if not event.final:
            return
        if geometry["type"] == "rect":
            self.select(in_box(self.galaxy, *(float(geometry[end]) for end in ("x0", "x1", "y0", "y1"))))
        elif geometry["type"] == "poly":
            self.select(in_lasso(self.galaxy, list(geometry["x"]), list(geometry["y"])))

    def select(self, selection: Selection | None) -> None:
        """Look at spaxels."""
        if selection is not None:
            self.linked.select(selection)
            self.inspector.select(selection, self.flags.hidden)

    # --- files ---

    def _save_csv(self) -> None:
        selection = self.inspector.selection
        if selection is not None:
            self._save(
                lambda _: selection_csv(self.galaxy, selection, self.other).encode(), "selection.csv", "text/csv"
            )

    def _save_png(self) -> None:
        view = self.linked
        ends = (float(view.x.start), float(view.x.end), float(view.y.start), float(view.y.end))
        found = self.inspector
        spectrum = found.spectrum.lower.x_range
        wavelengths = (float(spectrum.start), float(spectrum.end))
        picture = Picture(tuple(self.drawn), self.flags.hidden, ends, found.selection, found.title, found.words,
                          found.unit, found.lines, wavelengths, found.grid.light)  # type: ignore[arg-type]  # fmt: skip
        self._save(lambda _: draw_png(picture), "view.png", "image/png")

    def _save(self, make: Any, ending: str, kind: str) -> None:
        def done(answer: Any) -> None:
            if isinstance(answer, Exception):
                self.side.problem(str(answer))
            else:
                self.side.working(self.inspector.waits_for())
                self.downloads.send(f"{self.galaxy.path.stem}_{ending}", kind, answer)

        self.side.working("Making the file…")
        self.reading.ask("save", make, done)


def first_products(galaxy: StoredGalaxy) -> tuple[str, str]:
    """The maps that are shown first: age and metallicity, if they are there."""
    wanted = [name for name in ("age_lw", "metallicity_lw") if name in galaxy.maps]
    names = [*wanted, *(name for name in galaxy.maps if name not in wanted)]
    return names[0], names[min(1, len(names) - 1)]
