"""The line above the page: the galaxy, how many spaxels, where the documentation is; and what goes on."""

from html import escape

from galprote.workflows.viewer.overview import Overview
from galprote.workflows.viewer.stored import StoredGalaxy

STYLE = """
:host { color: #222; font: 14px/1.35 Helvetica, Arial, sans-serif; }
b.name { font-size: 19px; margin-right: 12px; }
span { margin-right: 14px; color: #555; white-space: nowrap; }
.bk-clearfix { display: block !important; width: 100%; }
p { margin: 3px 0; }
p.place { font-weight: bold; }
p.error { color: #8f2a00; font-weight: bold; }
p.working { color: #1f5d93; }
p.flags { margin-top: 6px; }
p.spectrum { margin: 3px 8px; font-size: 13px; color: #444; white-space: nowrap; overflow: hidden;
  text-overflow: ellipsis; }
span.legend { float: right; margin: 0; }
span.entry { margin: 0; white-space: nowrap; }
i.line, i.shade { display: inline-block; width: 16px; height: 2px; margin: 0 5px 4px 14px; }
i.shade { height: 11px; margin-bottom: -1px; border: 1px solid #ccc; }
div.values { overflow-x: auto; }
table.values { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
table.values th { text-align: right; color: #666; font-weight: normal; border-bottom: 1px solid #ccc;
  padding: 0 2px 0 4px; white-space: nowrap; }
table.values td { text-align: right; padding: 1px 2px 1px 5px; white-space: nowrap; border-bottom: 1px solid #eee; }
table.values td:first-child { text-align: left; white-space: normal; padding-left: 2px; }
table.values td:last-child { color: #666; }
table.values small { display: block; color: #666; }
@media (max-width: 859px) {
  span { white-space: normal; overflow-wrap: anywhere; }
  p.spectrum { white-space: normal; }
  span.legend { float: none; display: block; white-space: normal; }
}
"""


def heading(galaxy: StoredGalaxy, other: StoredGalaxy | None, overview: Overview) -> str:
    """The galaxy in a line of HTML."""
    words = [
        f"z = {float(galaxy.about['redshift']):.5f}",
        f"{galaxy.shape[1]:,} × {galaxy.shape[0]:,} spaxels, {overview.fitted:,} fitted",
    ]
    if galaxy.binned:
        words.append(f"{int(galaxy.about.get('bins', 0)):,} bins")
    if overview.untrusted:
        words.append(f"{overview.untrusted:,} not trusted")
    words.append(f"A: {galaxy.path.name}")
    if other is not None:
        words.append(f"B: {other.path}")
    return f'<b class="name">{escape(galaxy.name)}</b> ' + " ".join(f"<span>{escape(word)}</span>" for word in words)


HELP = (
    "<p>Click a spaxel, or drag a box around a region, on either map. The wheel zooms; the icons on the right of a map "
    "choose what dragging does: select with a box or a lasso, move, or zoom.</p>"
    "<p>Greys: light, not fitted; medium, masked; dark, hidden by a flag (tab Flags). docs/viewer.md explains the "
    "page, docs/products.md the maps.</p>"
)
