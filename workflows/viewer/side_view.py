"""The column beside the maps: what is selected, its numbers, the flags, the buttons, and words about what goes on."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from bokeh.layouts import column, row
from bokeh.models import Button, Div, TabPanel, Tabs

from galprote.workflows.viewer.heading import HELP, STYLE


class SideView:
    """The column.

    Parameters
    ----------
    flags : Any
        The layout of the flags' tab.
    csv, png : callable
        Called by the buttons.
    """

    def __init__(self, flags: Any, csv: Callable[[], None], png: Callable[[], None]) -> None:
        self.place = Div(name="place", stylesheets=[STYLE], sizing_mode="stretch_width", disable_math=True, margin=0)
        self.state = Div(name="state", stylesheets=[STYLE], sizing_mode="stretch_width", disable_math=True, margin=0)
        self.refusal = Div(
            name="refusal", stylesheets=[STYLE], sizing_mode="stretch_width", disable_math=True, margin=0
        )
        self.numbers = Div(name="numbers", text=HELP, stylesheets=[STYLE], sizing_mode="stretch_both",
                           disable_math=True, margin=0, styles={"overflow-y": "auto"})  # fmt: skip
        self.buttons = [
            Button(label=label, name=name, width=92, height=28, margin=(4, 6, 0, 0))
            for label, name in (("Save CSV", "csv"), ("Save PNG", "png"))
        ]
        for button, action in zip(self.buttons, (csv, png), strict=True):
            button.on_click(action)
        values = column(self.place, self.state, self.numbers, row(*self.buttons), sizing_mode="stretch_both")
        tabs = Tabs(
            tabs=[TabPanel(child=values, title="Selection"), TabPanel(child=flags, title="Flags")],
            sizing_mode="stretch_both",
        )
        self.layout = column(
            self.refusal, tabs, name="side", sizing_mode="stretch_both", styles={"padding": "2px 8px 4px"}
        )
        self.buttons[0].disabled = True

    def select(self, title: str) -> None:
        """Say what is selected."""
        self.place.text = f'<p class="place">{escape(title)}</p>'
        self.numbers.text = ""
        self.buttons[0].disabled = False

    def working(self, words: str) -> None:
        """Say what goes on; empty: nothing."""
        self.state.text = f'<p class="working">{escape(words)}</p>' if words else ""

    def refuse(self, words: Sequence[str]) -> None:
        """Say why a map cannot be shown, or not as was wished; empty: it can."""
        self.refusal.text = "".join(f'<p class="error" role="alert">{escape(each)}</p>' for each in words)

    def problem(self, words: str) -> None:
        """Say what went wrong."""
        self.state.text = f'<p class="error" role="alert">{escape(words)}</p>'
