"""A galaxy's maps in one figure: age, metallicity and dust above their errors and what they were found from.

No pyplot and no user's style: the same store gives the same picture, byte by byte, in every process.
"""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import zarr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from galprote.pipeline.map_panel import draw_panel, draw_sky, plan_canvas
from galprote.pipeline.map_styles import (
    DOUBTFUL_COLOUR,
    INK,
    MASKED_COLOUR,
    STYLES,
    UNFITTED_COLOUR,
    UNTRUSTED_COLOUR,
)
from galprote.pipeline.map_wcs import read_wcs
from galprote.pipeline.quality import Kinds, Status
from galprote.pipeline.whole_files import appearing
from galprote.workflows.drawing_style import default_style

PANELS: Final = tuple(
    STYLES[name]
    for name in (
        "age_lw", "metallicity_lw", "av", "age_lw_error", "metallicity_lw_error", "av_error", "flux", "snr",
        "residual_rms",
    )
)  # fmt: skip
#: A row more where the stars' motion was measured.
MOTION: Final = tuple(STYLES[name] for name in ("v_stars", "sigma_stars", "v_stars_error"))

#: Inches: the largest figure; margins of the figure (left, bottom, top); what goes with a panel (right, bottom, top).
LARGEST: Final = (13.33, 11.6)
COLUMNS: Final = 3
MARGINS: Final = (0.3, 0.55, 0.75)
AROUND: Final = (1.25, 0.1, 0.4)
#: Inches: the largest panel.
PANEL: Final = (
    (LARGEST[0] - MARGINS[0]) / COLUMNS - AROUND[0],
    (LARGEST[1] - MARGINS[1] - MARGINS[2]) / (len(PANELS) // COLUMNS) - AROUND[1] - AROUND[2],
)
DPI: Final = 180


def draw_maps(store: Path, path: Path) -> None:
    """Draw a galaxy's maps as a PNG picture.

    Parameters
    ----------
    store : Path
        A finished `<name>.zarr`.
    path : Path
        The picture; it appears when it is complete.
    """
    group = zarr.open_group(store, mode="r")
    arrays, about = dict(group.arrays()), dict(group.attrs)
    wanted = [*(panel.name for panel in (*PANELS, *MOTION) if panel in PANELS or panel.name in arrays), "status"]
    maps = {name: np.asarray(arrays[name][...]) for name in wanted}
    with appearing(path) as partial, default_style():
        figure = draw_figure(maps, about)
        figure.savefig(partial, format="png", dpi=DPI, metadata={"Software": None})


def draw_figure(maps: dict[str, NDArray[Any]], about: dict[str, Any]) -> Figure:
    """Draw the maps (y, x) of `PANELS`, of `MOTION` if they are there, and `status`, with their store's attributes."""
    status = maps["status"]
    panels = PANELS + (MOTION if all(panel.name in maps for panel in MOTION) else ())
    rows = len(panels) // COLUMNS
    canvas = plan_canvas((status & Status.NO_DATA) == 0, *PANEL)
    width = MARGINS[0] + COLUMNS * (canvas.width + AROUND[0])
    height = MARGINS[1] + MARGINS[2] + rows * (canvas.height + AROUND[1] + AROUND[2])
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    all_axes = []
    for number, panel in enumerate(panels):
        row, column = divmod(number, COLUMNS)
        left = MARGINS[0] + column * (canvas.width + AROUND[0])
        bottom = height - MARGINS[2] - (row + 1) * (canvas.height + AROUND[1] + AROUND[2]) + AROUND[1]
        box = (left / width, bottom / height, canvas.width / width, canvas.height / height)
        bar = ((left + canvas.width + 0.08) / width, bottom / height, 0.13 / width, canvas.height / height)
        all_axes.append(figure.add_axes(box))
        draw_panel(all_axes[-1], figure.add_axes(bar), panel, panel.label_for(about), maps, canvas)
    if about["wcs_header"]:
        draw_sky(all_axes[0], read_wcs(str(about["wcs_header"])), (status & Status.NO_DATA) == 0, canvas)
    draw_words(figure, maps, about)
    return figure


def draw_words(figure: Figure, maps: dict[str, NDArray[Any]], about: dict[str, Any]) -> None:
    """Write the title, what the greys mean, and what made the maps."""
    (width, height), record = figure.get_size_inches(), json.loads(about["provenance"])
    fitted = int(np.isfinite(maps["age_lw"]).sum())
    kinds = Kinds.of(maps["status"])
    untrusted = int(kinds.untrusted.sum())
    bins = f"{about['bins']:,} bins, " if "bins" in about else ""
    words = f"{bins}{fitted:,} spaxels fitted" + (f", {untrusted:,} not trusted" if untrusted else "")
    text = f"$z$ = {about['redshift']:.5f}     {words}"
    details = figure.text(0, 1 - 0.4 / height, text, fontsize=15, color="#555555", va="center")
    name = figure.text(MARGINS[0] / width, 1 - 0.38 / height, about["galaxy"], color=INK, va="center", weight="bold")
    size = 22.0
    name.set_fontsize(size)
    space = figure.bbox.width - 0.8 * figure.dpi - details.get_window_extent().width
    for _ in range(2):  # names may have a hundred letters, whose widths are rounded to pixels
        size *= min(1, space / name.get_window_extent().width)
        name.set_fontsize(size)
    details.set_x((name.get_window_extent().x1 / figure.dpi + 0.3) / width)
    labels = ("not fitted", "masked", "not trusted, left out", "doubtful fit")
    colours = (UNFITTED_COLOUR, MASKED_COLOUR, UNTRUSTED_COLOUR, DOUBTFUL_COLOUR)
    kinds_there = (item for item in zip(labels, colours, kinds, strict=True) if item[2].any())
    handles = [Patch(color=colour, label=label) for label, colour, _ in kinds_there]
    if handles:
        corner = (MARGINS[0] / width, 0.1 / height)
        figure.legend(handles=handles, loc="lower left", bbox_to_anchor=corner, ncols=4, frameon=False, fontsize=11,
                      labelcolor=INK, borderpad=0, borderaxespad=0, handlelength=1.2, handleheight=1)  # fmt: skip
    made = f"galprote {record['versions']['galprote']} · weights {record['checkpoint_sha256'][:8]}"
    figure.text(1 - 0.15 / width, 0.2 / height, made, fontsize=10, color="#888888", ha="right", va="center")
