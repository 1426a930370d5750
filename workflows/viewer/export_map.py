"""One map of a picture that is saved: as the page shows it, with compass, scale bar and colour bar."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from galprote.pipeline.map_panel import TEXT, Canvas, draw_bar, draw_sky, draw_values
from galprote.pipeline.map_styles import INK, MASKED_COLOUR, UNFITTED_COLOUR, UNTRUSTED_COLOUR
from galprote.workflows.viewer.scales import Scale
from galprote.workflows.viewer.selection import Selection, outline
from galprote.workflows.viewer.shown_map import Shown, window_of
from galprote.workflows.viewer.sky import SPAXELS
from galprote.workflows.viewer.stored import StoredGalaxy


def draw_map(axes: Axes, bar: Axes, shown: Shown, scale: Scale, hidden: int, canvas: Canvas) -> None:
    """Draw the part of a map that a canvas shows, and its colour bar."""
    x0, x1, y0, y1 = canvas.extent
    window = window_of(shown.galaxy.shape, (x0, x1), (y0, y1))
    values, kinds = shown.values(window.slices, hidden), shown.kinds(window.slices, hidden)
    ny, nx = values.shape
    left, bottom = window.columns[0] - 0.5, window.rows[0] - 0.5
    extent = (left, left + nx * window.step, bottom, bottom + ny * window.step)
    greys = ListedColormap(["white", UNFITTED_COLOUR, MASKED_COLOUR, UNTRUSTED_COLOUR])
    axes.imshow(kinds, cmap=greys, vmin=-0.5, vmax=3.5, extent=extent, origin="lower", interpolation="nearest")
    style = replace(shown.style, log=scale.log)
    image = draw_values(axes, style, values, limits=(scale.low, scale.high), cmap=ListedColormap(scale.palette),
                        extent=extent)  # fmt: skip
    axes.set(xlim=(x0, x1), ylim=(y0, y1), xticks=[], yticks=[], aspect="auto")
    axes.spines[:].set(color="#bbbbbb", linewidth=0.8)
    draw_bar(image, bar, style)
    bar.tick_params(labelsize=11, color=INK, labelcolor=INK, length=3)
    label = shown.style.label_for(shown.galaxy.about)
    bar.set_ylabel(f"{label} (log)" if scale.log else label, fontsize=12, color=INK)
    if shown.galaxy.wcs is None:
        _draw_spaxels(axes, canvas)
        return
    seen = np.zeros(shown.galaxy.shape, dtype=bool)
    seen[window.slices] = np.isfinite(values) | (kinds > 0)
    draw_sky(axes, shown.galaxy.wcs, seen, canvas)


def draw_selection(axes: Axes, selection: Selection) -> None:
    """Draw the line around what is selected."""
    lines: NDArray[Any] = np.stack(outline(selection), axis=1).reshape(-1, 2, 2)
    for colour, width in (("white", 3.0), ("#111111", 1.3)):
        axes.add_collection(
            LineCollection(list(lines), colors=colour, linewidths=width, capstyle="projecting", zorder=5)
        )


def _draw_spaxels(axes: Axes, canvas: Canvas) -> None:
    """Draw a scale bar in spaxels, where there is no sky."""
    across = canvas.extent[1] - canvas.extent[0]
    length = max((n for n in SPAXELS if n <= 0.3 * across), default=SPAXELS[0])
    white, height = [withStroke(linewidth=3, foreground="white")], 0.15 / canvas.height
    ends = [0.04, 0.04 + length / across]
    axes.plot(ends, 2 * [height], transform=axes.transAxes, color=INK, lw=2.5, path_effects=white)
    words = f"{length} spaxel{'s' if length > 1 else ''}"
    axes.text(0.04, height + 0.06 / canvas.height, words, ha="left", va="bottom", transform=axes.transAxes,
              path_effects=white, **TEXT)  # fmt: skip


def map_title(shown: Shown, first: StoredGalaxy) -> str:
    """Name a map; of two runs, A is the page's own."""
    if shown.minus is not None:
        if shown.minus[0] is shown.galaxy:
            return shown.style.title
        return f"A \N{MINUS SIGN} B: {shown.style.title.removeprefix('Δ ')}"
    return shown.style.title if shown.galaxy is first else f"B: {shown.style.title}"


def runs_of(maps: Sequence[Shown]) -> list[StoredGalaxy]:
    """The runs that maps are of, the page's own first."""
    found: list[StoredGalaxy] = []
    for shown in maps:
        for galaxy in (shown.galaxy, *([shown.minus[0]] if shown.minus else [])):
            if not any(galaxy is other for other in found):
                found.append(galaxy)
    return found


def run_names(paths: Sequence[Path]) -> list[str]:
    """Names of stores, with as many folders as it takes to tell them apart."""
    parts = [path.absolute().parts for path in paths]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
