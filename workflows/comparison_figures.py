"""Figures of a comparison, one a quantity: maps, their difference, PDFs, running difference, one against the other.

They are those of section 4.3 of the paper (figures 13 to 18), with the expected error and the outliers beside.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from numpy.typing import NDArray

from galprote.pipeline.figure_labels import plain
from galprote.pipeline.map_panel import Canvas, draw_bar, draw_kinds, draw_sky, draw_values, paint, plan_canvas
from galprote.pipeline.map_styles import INK, UNFITTED_COLOUR, UNTRUSTED_COLOUR, MapStyle, nice_limits, style_of
from galprote.pipeline.quality import Kinds, Status
from galprote.pipeline.whole_files import appearing
from galprote.workflows.comparison_distributions import OURS, TITLE, draw_differences, draw_distributions, ends_of
from galprote.workflows.comparison_marks import mark_groups
from galprote.workflows.drawing_style import default_style
from galprote.workflows.map_comparison import ComparedMap, MapComparison

#: Inches: a panel at most, the figure's margins (left, right, top, bottom), what goes beside and between the panels.
PANEL: Final = (3.3, 3.6)
LEFT, RIGHT, TOP, BOTTOM, BESIDE, BETWEEN = 0.75, 0.35, 1.15, 0.85, 1.35, 0.8
LOWER: Final = 2.9
#: Between the lower panels, and for the colour bar beside the last.
GAP, BAR = 0.85, 0.65
DPI: Final = 120
GREY: Final = "#666666"
#: Groups of outliers that are numbered in the difference map.
NUMBERED: Final = 5
#: What a difference map has for colours: blue, white, red.
DIFFERENCE: Final = "RdBu_r"


def draw_comparison(found: MapComparison, item: ComparedMap, path: Path) -> None:
    """Draw one quantity as a PNG picture, which appears when it is complete."""
    with appearing(path) as partial, default_style():
        figure = comparison_figure(found, item)
        options: dict[str, Any] = {"metadata": {"Software": None}, "pil_kwargs": {"optimize": True}}
        figure.savefig(partial, format="png", dpi=DPI, **options)


def comparison_figure(found: MapComparison, item: ComparedMap) -> Figure:
    """Draw one quantity."""
    status = found.maps["status"]
    seen = (status & Status.NO_DATA) == 0
    canvas = plan_canvas(seen, *PANEL)
    width = LEFT + 3 * PANEL[0] + 2 * BESIDE + BESIDE - 0.3 + RIGHT
    height = TOP + canvas.height + BETWEEN + LOWER + BOTTOM
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    lefts = [LEFT + column * (PANEL[0] + BESIDE) for column in range(3)]
    bottom = BOTTOM + LOWER + BETWEEN
    shift = (PANEL[0] - canvas.width) / 2
    upper = []
    for left in lefts:
        axes = figure.add_axes(_box(left + shift, bottom, canvas.width, canvas.height, figure))
        bar = figure.add_axes(_box(left + shift + canvas.width + 0.08, bottom, 0.12, canvas.height, figure))
        upper.append((axes, bar))
    each = (width - LEFT - RIGHT - 3 * GAP - BAR) / 4
    lower = [figure.add_axes(_box(LEFT + column * (each + GAP), BOTTOM, each, LOWER, figure)) for column in range(4)]
    _draw_maps(upper, found, item, canvas)
    if found.wcs is not None:
        draw_sky(upper[0][0], found.wcs, seen, canvas)
    draw_distributions(lower[0], item, reference_name(found), _label(item))
    draw_differences(lower[1], item)
    _draw_running(lower[2], item, reference_name(found))
    _draw_density(lower[3], item, reference_name(found))
    for axes in lower:
        _tidy(axes)
    _draw_words(figure, found, item)
    return figure


def _box(left: float, bottom: float, width: float, height: float, figure: Figure) -> tuple[float, float, float, float]:
    whole = figure.get_size_inches()
    return left / whole[0], bottom / whole[1], width / whole[0], height / whole[1]


def _label(item: ComparedMap) -> str:
    """The quantity and its unit as a figure writes them, of the compared numbers."""
    logs = {"stellar_mass_density": r"$\log_{10}$ ($\Sigma_*$ / $M_\odot$ pc$^{-2}$)",
            "mass_to_light": r"$\log_{10}$ ($M/L_V$ / $M_\odot/L_{\odot,V}$)"}  # fmt: skip
    return logs.get(item.quantity.name) or style_of(item.quantity.name).label


def reference_name(found: MapComparison) -> str:
    """What the reference is called in a figure."""
    if found.reference.truth:
        return "truth"
    kinds = {"PHANGS maps": "PHANGS", "nGIST maps": "nGIST", "nGIST table": "nGIST"}
    return kinds.get(found.reference.kind, "reference")


def _map_style(item: ComparedMap) -> MapStyle:
    """The quantity's style, of the compared numbers."""
    base = style_of(item.quantity.name)
    return MapStyle(base.name, base.title, _label(item), base.colours, base.span, around_zero=base.around_zero)


def _draw_maps(panels: list[tuple[Axes, Axes]], found: MapComparison, item: ComparedMap, canvas: Canvas) -> None:
    """Reference and ours on one scale, and the difference about zero."""
    how = _map_style(item)
    both = np.concatenate([item.ours[np.isfinite(item.ours)], item.theirs[np.isfinite(item.theirs)]])
    limits = how.limits(both)
    kinds = Kinds.of(found.maps["status"])
    name = reference_name(found)
    for (axes, bar), values, title in zip(panels, (item.theirs_only, item.ours_only), (name, "galprote"), strict=False):
        shown = values if title == "galprote" else np.where(_near(found), values, np.nan)
        image = draw_values(axes, how, shown, limits=limits)
        if title == "galprote":
            draw_kinds(axes, how, kinds)
        _finish(axes, bar, image, how, title[0].upper() + title[1:] if title != "galprote" else title, how.label)
    difference = item.ours - item.theirs
    around = MapStyle("difference", "", "", DIFFERENCE, around_zero=True)
    axes, bar = panels[2]
    paint(axes, ~np.isfinite(difference) & _near(found), UNFITTED_COLOUR, zorder=0.5)
    image = draw_values(axes, around, difference, limits=_difference_limits(difference))
    title = f"galprote − {name}"
    _finish(axes, bar, image, around, title, f"difference  ({item.quantity.unit})")
    for one, _ in panels:
        one.set(xlim=canvas.extent[:2], ylim=canvas.extent[2:])
    mark_groups(axes, item.outliers.groups[:NUMBERED])


def _near(found: MapComparison) -> NDArray[np.bool_]:
    """Spaxels of our cube with data."""
    seen: NDArray[np.bool_] = (found.maps["status"] & int(Status.NO_DATA)) == 0
    return seen


def _difference_limits(difference: NDArray[np.float64]) -> tuple[float, float]:
    low, high = nice_limits(difference, (-1.0, 1.0))
    largest = max(abs(low), abs(high), 0.01)  # what is less is nobody's difference
    return -largest, largest


def _finish(axes: Axes, bar: Axes, image: Any, how: MapStyle, title: str, label: str) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color="#bbbbbb", linewidth=0.8)
    axes.set_title(title, loc="left", fontsize=14, fontweight="bold", color=INK, pad=6)
    draw_bar(image, bar, how)
    bar.tick_params(labelsize=10, color=INK, labelcolor=INK, length=3)
    bar.set_ylabel(label, fontsize=11, color=INK)


def _draw_running(axes: Axes, item: ComparedMap, name: str) -> None:
    """The running difference with its 16 to 84 % band, and the error that our maps state."""
    along = item.running
    axes.axhline(0.0, color=GREY, lw=0.9)
    marker = "o" if len(along.centre) < 4 else None
    axes.fill_between(along.centre, along.low, along.high, color=OURS, alpha=0.22, lw=0, label="16 to 84 %")
    axes.plot(along.centre, along.median, color=OURS, lw=2.0, marker=marker, label="median")
    if np.isfinite(along.expected).any():
        for sign in (-1, 1):
            label = "expected error (1σ)" if sign > 0 else None
            axes.plot(along.centre, sign * along.expected, color=INK, lw=1.1, ls=":", label=label)
    axes.set(xlabel=f"{_label(item)}, {name}", ylabel=f"difference  ({item.quantity.unit})")
    ends = np.concatenate([along.low, along.high, along.expected, -along.expected])
    reach = 1.25 * float(np.max(np.abs(ends[np.isfinite(ends)]), initial=1e-3))
    axes.set_ylim(-reach, 1.6 * reach)
    axes.set_title("Running difference", **TITLE)
    axes.legend(frameon=False, fontsize=8.5, loc="upper right", ncols=2, labelcolor=INK, columnspacing=0.8,
                handlelength=1.2, handletextpad=0.5, borderaxespad=0.1)  # fmt: skip


def _draw_density(axes: Axes, item: ComparedMap, name: str) -> None:
    """Ours against the reference, as numbers of spaxels."""
    pairs = item.pairs
    low, high = ends_of(np.concatenate([pairs.ours, pairs.theirs]))
    edges = np.linspace(low, high, int(np.clip(len(pairs) ** 0.5, 24, 70)) + 1)
    counts = np.histogram2d(pairs.theirs, pairs.ours, bins=(edges, edges))[0].T
    colours = ListedColormap(colormaps["viridis_r"](np.linspace(0.08, 1.0, 256)))
    top = max(float(counts.max()), 2.0)
    image = axes.pcolormesh(
        edges, edges, np.ma.masked_equal(counts, 0), cmap=colours, norm=LogNorm(1, top), rasterized=True
    )
    axes.plot([low, high], [low, high], color=INK, lw=1.0)
    axes.set(xlim=(low, high), ylim=(low, high), xlabel=f"{_label(item)}, {name}", ylabel="galprote")
    row = item.statistics[0]
    words = "" if np.isnan(row.correlation) else f", correlation {row.correlation:.2f}"
    axes.set_title(f"{row.n:,} spaxels{words}", **TITLE)
    bar = axes.inset_axes((1.03, 0.0, 0.035, 1.0))
    ticks = LogLocator(subs=(1,) if top > 300 else (1, 2, 5))
    colour_bar = axes.figure.colorbar(image, cax=bar, format=FuncFormatter(plain), ticks=ticks)
    colour_bar.outline.set_visible(False)
    colour_bar.minorticks_off()
    bar.tick_params(labelsize=9, color=INK, labelcolor=INK, length=2, which="both")
    bar.set_ylabel("spaxels", fontsize=10, color=INK)


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color="#999999", linewidth=0.8)
    axes.tick_params(labelsize=10, color="#999999", labelcolor=INK)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.label.set(fontsize=11, color=INK)
    axes.yaxis.label.set(fontsize=11, color=INK)


def _draw_words(figure: Figure, found: MapComparison, item: ComparedMap) -> None:
    """Title, what is compared with what, and what the greys mean."""
    width, height = figure.get_size_inches()
    row = item.statistics[0]
    figure.text(LEFT / width, 1 - 0.32 / height, f"{found.galaxy}: {style_of(item.quantity.name).title.lower()}",
                fontsize=18, weight="bold", color=INK, va="center")  # fmt: skip
    words = f"{found.reference.path.name} ({found.reference.kind}), {item.source}"
    words += f": {item.conversion}" if item.conversion else ""
    figure.text(LEFT / width, 1 - 0.62 / height, _cut(words, 130), fontsize=10.5, color=GREY, va="center",
                parse_math=False)  # fmt: skip
    clipped = (
        f"; without {row.outliers:,} outliers {row.clipped_mean:+.3f}, {row.clipped_sigma:.3f}" if row.outliers else ""
    )
    text = f"mean {row.mean:+.3f}, sigma {row.sigma:.3f} {item.quantity.unit}{clipped}"
    figure.text(1 - RIGHT / width, 1 - 0.32 / height, text, fontsize=12, color=INK, va="center", ha="right")
    kinds = Kinds.of(found.maps["status"])
    handles = [Patch(color=UNFITTED_COLOUR, label="not compared")]
    if kinds.untrusted.any():
        handles.append(Patch(color=UNTRUSTED_COLOUR, label="not trusted"))
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(LEFT / width, 0.08 / height), ncols=3,
                  frameon=False, fontsize=9.5, labelcolor=INK, borderpad=0, borderaxespad=0, handlelength=1.2,
                  handleheight=1)  # fmt: skip
    if item.outliers.groups:
        figure.text(1 - RIGHT / width, 0.16 / height, "numbers: groups of outliers (outliers.csv)", fontsize=9.5,
                    color=GREY, va="center", ha="right")  # fmt: skip


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
