"""The choices above a map: which one, of which run, and its scale of colours."""

import math
from collections.abc import Callable
from typing import Any, Final

from bokeh.layouts import column, row
from bokeh.models import Checkbox, Div, Select, TextInput

from galprote.pipeline.map_styles import style_of
from galprote.workflows.viewer.scales import COLOURS, SHARES, Scale, ScaleWish
from galprote.workflows.viewer.shown_map import Shown
from galprote.workflows.viewer.stored import StoredGalaxy

#: Of all boxes.
SMALL: Final[dict[str, Any]] = {
    "height": 28, "margin": 0,
    "stylesheets": [".bk-input { height: 28px; min-height: 28px; padding: 0 6px; font-size: 13px; }"],
}  # fmt: skip
#: Of rows, on a small screen.
WRAP: Final = {"flex-wrap": "wrap", "max-width": "100%"}
#: Around a box whose limit is not heeded.
WRONG: Final = {"outline": "2px solid #b03a00", "border-radius": "4px"}
HERE, OTHER, DIFFERENCE = "this run", "other run", "A − B"


class MapControls:
    """The widgets of one panel.

    Parameters
    ----------
    letter : str
        "A" or "B".
    galaxy : StoredGalaxy
    product : str
        Which map is shown first.
    other : StoredGalaxy, optional
        The run to compare to.
    changed : callable
        Called when something else is to be shown.
    """

    def __init__(
        self, letter: str, galaxy: StoredGalaxy, product: str, other: StoredGalaxy | None, changed: Callable[[], None]
    ) -> None:
        self.galaxy, self.other, self._changed = galaxy, other, changed
        self._quiet = False
        low = letter.lower()
        self.product = Select(name=f"product_{low}", value=product, options=self._options(), width=230, **SMALL)
        runs = [HERE, *([OTHER] if other else []), DIFFERENCE]
        first_run = OTHER if other and letter == "B" else HERE
        self.run = Select(name=f"run_{low}", value=first_run, options=runs, width=110, visible=letter == "B", **SMALL)
        self.colours = Select(
            name=f"colours_{low}", value="auto", options=[("auto", "colours"), *COLOURS], width=96, **SMALL
        )
        self.share = Select(
            name=f"share_{low}",
            value="auto",
            options=[(key, "limits" if key == "auto" else key) for key in SHARES],
            width=88,
            **SMALL,
        )
        self.low = TextInput(name=f"low_{low}", width=74, placeholder="min", **SMALL)
        self.high = TextInput(name=f"high_{low}", width=74, placeholder="max", **SMALL)
        self.log = Checkbox(name=f"log_{low}", label="log", active=style_of(product).log, width=46, margin=(7, 0, 0, 4))
        first = [self._word(f"<b>{letter}</b>"), self.product, self.run]
        second = [self._word(""), self.colours, self.share, self.low, self.high, self.log]
        self.layout = column(
            row(*first, spacing=4, styles=WRAP),
            row(*second, spacing=4, styles=WRAP),
            name=f"controls_{low}",
            sizing_mode="stretch_width",
            spacing=3,
        )
        self.colours.on_change("value", self._other_than_product)
        self.run.on_change("value", self._new_run)
        self.product.on_change("value", self._new_product)
        self.share.on_change("value", self._new_share)
        for box in (self.low, self.high):
            box.on_change("value", self._other_than_product)
        self.log.on_change("active", self._other_than_product)

    @staticmethod
    def _word(text: str) -> Any:
        return Div(text=text, width=16, disable_math=True, margin=0, styles={"font-size": "16px", "padding": "6px 2px"})

    def _options(self) -> Any:
        """Names of the maps with their titles, values first, then errors."""
        found: dict[str, list[tuple[str, str]]] = {"Maps": [], "Errors": []}
        for name in self.galaxy.maps:
            title = style_of(name, self.galaxy.attributes(name)).title
            found["Errors" if name.endswith("_error") else "Maps"].append((name, title))
        return {group: entries for group, entries in found.items() if entries}

    def _new_product(self, _: str, __: str, new: str) -> None:
        """Another quantity has other limits, and its own scale."""
        self._quietly(low="", high="", log=style_of(new).log and self.run.value != DIFFERENCE)
        self._changed()

    def _new_run(self, _: str, old: str, new: str) -> None:
        """A difference has other limits than what it is taken from, and no logarithm."""
        if DIFFERENCE in (old, new):
            log = style_of(str(self.product.value)).log and new != DIFFERENCE
            self._quietly(low="", high="", log=log)
        self._changed()

    def _new_share(self, _: str, __: Any, ___: Any) -> None:
        self._quietly(low="", high="", log=bool(self.log.active))
        self._changed()

    def _other_than_product(self, _: str, __: Any, ___: Any) -> None:
        if not self._quiet:
            self._changed()

    def _quietly(self, *, low: str, high: str, log: bool) -> None:
        self._quiet = True
        self.low.value, self.high.value, self.log.active = low, high, log
        self._quiet = False

    def choose(self, product: str) -> None:
        """Show another map."""
        if self.product.value != product:
            self.product.value = product

    def wish(self) -> ScaleWish:
        """The scale that is wanted."""
        return ScaleWish(
            str(self.colours.value), str(self.share.value), _number(self.low.value), _number(self.high.value),
            bool(self.log.active) and self.run.value != DIFFERENCE,
        )  # fmt: skip

    def problems(self, scale: Scale) -> list[str]:
        """What of the wish is not heeded, in words; the boxes of such limits get a frame."""
        words = []
        for name, box in (("min", self.low), ("max", self.high)):
            text = str(box.value).strip()
            wrong = bool(text) and _number(text) is None
            if wrong:
                words.append(f"{name} \N{LEFT DOUBLE QUOTATION MARK}{text[:20]}\N{RIGHT DOUBLE QUOTATION MARK} "
                             "is not a finite number: the map has its own.")  # fmt: skip
            box.styles = WRONG if wrong or (text and scale.refused) else {"outline": "none"}
        if self.log.active and self.run.value == DIFFERENCE:
            words.append("a difference has no logarithmic scale.")
        return [*words, *(word for word in (scale.refused, scale.unshown) if word)]

    def shown(self, first: Shown | None = None) -> Shown:
        """The map that is wanted; `first` is the one that a difference is taken from."""
        name = str(self.product.value)
        if self.run.value == OTHER and self.other is not None:
            return Shown(self.other, name)
        if self.run.value == DIFFERENCE and first is not None:
            return Shown(first.galaxy, first.name, (self.other or self.galaxy, name))
        return Shown(self.galaxy, name)


def _number(text: Any) -> float | None:
    try:
        value = float(str(text).replace("\N{MINUS SIGN}", "-"))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
