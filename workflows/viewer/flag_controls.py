"""Which flags hide a spaxel: boxes with the status bits that there are, and how many spaxels have each."""

from collections.abc import Callable, Sequence
from typing import Any

from bokeh.layouts import column, row
from bokeh.models import Button, CheckboxGroup, Div

from galprote.pipeline.quality import NOT_FITTED, UNRELIABLE
from galprote.workflows.viewer.overview import Overview
from galprote.workflows.viewer.values_view import flag_word


class FlagControls:
    """The widgets; at first the flags of what is not trusted hide a spaxel.

    Parameters
    ----------
    views : sequence of Overview
        Of the galaxy, and of the run that it is compared to.
    changed : callable
    """

    def __init__(self, views: Sequence[Overview], changed: Callable[[], None]) -> None:
        counts = views[0].flags
        there = set(counts).union(*(view.flags for view in views[1:]))
        self.bits = sorted(bit for bit in there if not bit & NOT_FITTED)
        self.boxes = CheckboxGroup(
            name="flags",
            labels=[f"{flag_word(bit)} ({counts.get(bit, 0):,})" for bit in self.bits],
            active=[place for place, bit in enumerate(self.bits) if bit & UNRELIABLE],
        )
        choices: tuple[tuple[str, str, list[int]], ...] = (("not trusted", "flags_default", list(self.boxes.active)),
                   ("any flag", "flags_all", list(range(len(self.bits)))), ("none", "flags_none", []))  # fmt: skip
        buttons = []
        for label, name, active in choices:
            buttons.append(Button(label=label, width=88, name=name))
            buttons[-1].on_click(lambda active=active: self.boxes.update(active=active))
        self.boxes.on_change("active", lambda _, __, ___: changed())
        without = ", ".join(f"{flag_word(bit)} {count:,}" for bit, count in counts.items() if bit & NOT_FITTED)
        words = f"<p>Spaxels without values: {without or 'none'}.</p><p>Hide spaxels with these flags:</p>"
        self.layout: Any = column(Div(text=words, disable_math=True), row(*buttons, spacing=4), self.boxes,
                                  sizing_mode="stretch_both", styles={"overflow-y": "auto"})  # fmt: skip

    @property
    def hidden(self) -> int:
        """Bits that hide a spaxel: the chosen ones, and those of spaxels that were not fitted."""
        return int(NOT_FITTED) | sum(int(self.bits[place]) for place in self.boxes.active)
