"""A galaxy's maps in one figure: age, metallicity and dust above their errors and what they were found from.

No pyplot and no user's style: the same store gives the same picture, byte by byte, in every process.
"""

import json
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import zarr
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from matplotlib import colormaps, style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, ScalarFormatter
from numpy.typing import NDArray

from galprote.pipeline.quality import Kinds, Status
from galprote.workflows.figure_labels import flux_label, plain


@dataclass(frozen=True)
class Panel:
    """How a map (`name` in the store) is drawn: `title` above it, `label` at its colour bar.

    Each quantity has a perceptually uniform colour map of its own, to be told apart at a glance; of it, the `span` that
    does not look like a spaxel without values. `empty` are the limits when there are no values; `factor` leads from the
    store's unit to the label's.
    """

    name: str
    title: str
    label: str
    colours: str
    span: tuple[float, float] = (0.0, 1.0)
    empty: tuple[float, float] = (0.0, 1.0)
    factor: float = 1.0
    log: bool = False
    around_zero: bool = False


PANELS: Final = (
    Panel("age_lw", "Age", r"$\log_{10}$ (age / yr)", "plasma", (0.0, 0.95), (8.0, 10.0)),
    Panel("metallicity_lw", "Metallicity", "[M/H]  (dex)", "viridis", empty=(-1.0, 0.5)),
    Panel("av", "Dust attenuation", r"$A_V$  (mag)", "magma_r", (0.08, 0.95)),
    Panel("age_lw_error", "Error of age", r"$1\sigma$  (dex)", "YlGnBu", (0.1, 1.0)),
    Panel("metallicity_lw_error", "Error of metallicity", r"$1\sigma$  (dex)", "YlGnBu", (0.1, 1.0)),
    Panel("av_error", "Error of attenuation", r"$1\sigma$  (mag)", "YlGnBu", (0.1, 1.0)),
    Panel("flux", "Flux", "", "gray_r", (0.08, 1.0), (1.0, 10.0), log=True),
    Panel("snr", "Signal to noise", "S/N per 2.48 Å", "cividis", empty=(1.0, 10.0), log=True),
    Panel("residual_rms", "Residuals", "rms / flux  (%)", "Purples", (0.15, 1.0), (0.0, 10.0), 100.0),
)

#: A row more where the stars' motion was measured.
MOTION: Final = (
    Panel("v_stars", "Velocity", r"$V$  (km/s)", "RdYlBu_r", (0.02, 0.98), (-100.0, 100.0), around_zero=True),
    Panel("sigma_stars", "Dispersion", r"$\sigma$  (km/s)", "inferno", (0.05, 0.95), (0.0, 100.0)),
    Panel("v_stars_error", "Error of velocity", r"$1\sigma$  (km/s)", "YlGnBu", (0.1, 1.0)),
)
#: Maps that show every value there is: what the others were found from.
COMPLETE: Final = ("flux", "snr")
UNFITTED_COLOUR, MASKED_COLOUR, UNTRUSTED_COLOUR, DOUBTFUL_COLOUR = "#dcdcdc", "#a6a6a6", "#6b6b6b", "#d55e00"
INK = "#222222"
TEXT: Final[dict[str, Any]] = {"fontsize": 12, "color": INK}

#: Inches: the largest figure; margins of the figure (left, bottom, top); what goes with a panel (right, bottom, top).
LARGEST: Final = (13.33, 11.6)
COLUMNS: Final = 3
MARGINS: Final = (0.3, 0.55, 0.75)
AROUND: Final = (1.25, 0.1, 0.4)
DPI: Final = 180
#: Panels are no flatter or slimmer than this; maps that are get space around them.
ASPECTS: Final = (0.45, 2.2)
#: Lengths that a scale bar may have, arcsec.
LENGTHS: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)


@dataclass(frozen=True)
class Canvas:
    """A panel's width and height, inches; the pixels that it shows (left, right, bottom, top)."""

    width: float
    height: float
    extent: tuple[float, float, float, float]


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
    partial = path.with_name(path.name + ".partial")
    try:
        with style.context("default"):
            figure = draw_figure(maps, about)
            figure.savefig(partial, format="png", dpi=DPI, metadata={"Software": None})
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def draw_figure(maps: dict[str, NDArray[Any]], about: dict[str, Any]) -> Figure:
    """Draw the maps (y, x) of `PANELS`, of `MOTION` if they are there, and `status`, with their store's attributes."""
    status = maps["status"]
    panels = PANELS + (MOTION if all(panel.name in maps for panel in MOTION) else ())
    rows = len(panels) // COLUMNS
    canvas = plan_canvas((status & Status.NO_DATA) == 0)
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
        label = panel.label or flux_label(str(about["flux_unit"]))
        draw_panel(all_axes[-1], figure.add_axes(bar), panel, label, maps, canvas)
    if about["wcs_header"]:
        draw_sky(all_axes[0], str(about["wcs_header"]), (status & Status.NO_DATA) == 0, canvas)
    draw_words(figure, maps, about)
    return figure


def plan_canvas(seen: NDArray[np.bool_]) -> Canvas:
    """Choose the part of the maps to show, from the spaxels (y, x) with data, and how large the panels are."""
    seen = seen if seen.any() else np.ones_like(seen)
    (left, right), (bottom, top) = (
        (float(index[0]), float(index[-1] + 1)) for index in (np.flatnonzero(seen.any(axis=axis)) for axis in (0, 1))
    )
    nx, ny = 1.04 * (right - left), 1.04 * (top - bottom)
    nx, ny = max(nx, ny / ASPECTS[1]), max(ny, nx * ASPECTS[0])
    x, y = (left + right) / 2 - 0.5, (bottom + top) / 2 - 0.5  # pixel 0 is centred on 0
    extent = (x - nx / 2, x + nx / 2, y - ny / 2, y + ny / 2)
    width = (LARGEST[0] - MARGINS[0]) / COLUMNS - AROUND[0]
    height = (LARGEST[1] - MARGINS[1] - MARGINS[2]) / (len(PANELS) // COLUMNS) - AROUND[1] - AROUND[2]
    width = min(width, height * nx / ny)
    return Canvas(width, width * ny / nx, extent)


def nice_limits(values: NDArray[np.floating[Any]], empty: tuple[float, float]) -> tuple[float, float]:
    """2nd and 98th percentile of the finite values, rounded outward to 1, 2 or 5; `empty` if there are none."""
    values = values[np.isfinite(values)].astype(np.float64)
    if not values.size:
        return empty
    low, high = np.percentile(values, (2, 98))
    spread = max(high - low, 1e-3 * max(abs(high), abs(low)), 1e-6)
    power = 10.0 ** math.floor(math.log10(spread / 5))
    step = next(power * digit for digit in (1, 2, 5, 10) if power * digit >= spread / 10)
    low, high = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return low * step, max(high, low + 1) * step


def log_limits(values: NDArray[np.floating[Any]], empty: tuple[float, float]) -> tuple[float, float]:
    """2nd and 99.5th percentile of the positive values, not more than four decades apart."""
    values = values[np.isfinite(values) & (values > 0)].astype(np.float64)
    if not values.size:
        return empty
    low, high = np.percentile(values, (2, 99.5))
    return max(low, high / 1e4), max(high, 1.1 * low)


def draw_panel(axes: Axes, bar: Axes, panel: Panel, label: str, maps: dict[str, NDArray[Any]], canvas: Canvas) -> None:
    """Draw one map and its colour bar."""
    kinds = Kinds.of(maps["status"])
    left_out = np.float32(np.nan) if panel.name not in COMPLETE else maps[panel.name]
    values = np.where(kinds.untrusted, left_out, maps[panel.name]) * np.float32(panel.factor)
    limits = log_limits(values, panel.empty) if panel.log else nice_limits(values, panel.empty)
    if panel.around_zero:
        limits = (-max(map(abs, limits)), max(map(abs, limits)))
    colours = ListedColormap(colormaps[panel.colours](np.linspace(*panel.span, 256)))
    norm = LogNorm(*limits, clip=True) if panel.log else Normalize(*limits)
    shown = np.ma.masked_where(~np.isfinite(values) | (panel.log & (values <= 0)), values)
    image = axes.imshow(shown, cmap=colours, norm=norm, origin="lower", interpolation="nearest", zorder=1)
    for where, colour in ((kinds.unfitted, UNFITTED_COLOUR), (kinds.masked, MASKED_COLOUR)):
        paint(axes, where, colour, zorder=0.5)
    if panel.name not in COMPLETE:
        paint(axes, kinds.untrusted, UNTRUSTED_COLOUR, zorder=2)
    elif kinds.masked.any() and min(kinds.masked.shape) > 1:  # a grey map has the mask's colour, too
        axes.contour(kinds.masked, levels=[0.5], colors=INK, linewidths=0.7)
    if panel.name == "residual_rms":
        paint(axes, kinds.doubtful, DOUBTFUL_COLOUR, zorder=2)
    axes.set(xlim=canvas.extent[:2], ylim=canvas.extent[2:], xticks=[], yticks=[])
    axes.spines[:].set(color="#bbbbbb", linewidth=0.8)
    axes.set_title(panel.title, loc="left", fontsize=15, fontweight="bold", color=INK, pad=6)
    if not shown.count():
        axes.text(0.5, 0.5, "no values", transform=axes.transAxes, ha="center", va="center", fontsize=13, color=INK)
    beyond = (bool((shown < limits[0]).any()), bool((shown > limits[1]).any()))
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(beyond, "neither")
    colour_bar = axes.figure.colorbar(image, cax=bar, extend=extend, extendfrac=0.025)
    colour_bar.outline.set_visible(False)
    log_locator = LogLocator(subs=(1,) if limits[1] > 300 * limits[0] else (1, 2, 5))
    colour_bar.locator = log_locator if panel.log else MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
    colour_bar.formatter = FuncFormatter(plain) if panel.log else ScalarFormatter(useOffset=False)
    colour_bar.minorticks_off()
    bar.tick_params(labelsize=11, color=INK, labelcolor=INK, length=3)
    bar.set_ylabel(label, fontsize=12, color=INK)


def paint(axes: Axes, where: NDArray[np.bool_], colour: str, zorder: float) -> None:
    """Give some spaxels one colour."""
    shown = np.ma.masked_where(~where, where)
    axes.imshow(shown, cmap=ListedColormap([colour]), origin="lower", interpolation="nearest", zorder=zorder)


def draw_sky(axes: Axes, wcs_header: str, seen: NDArray[np.bool_], canvas: Canvas) -> None:
    """Draw a scale bar and a compass into the emptiest corners of a panel."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wcslib reports every keyword that it tidies up
        wcs = WCS(fits.Header.fromstring(wcs_header))
    left, right, bottom, top = canvas.extent
    y, x = np.nonzero(seen)
    across, up = (x - left) / (right - left), (y - bottom) / (top - bottom)
    crowd = {(i, j): ((abs(across - i) < 0.33) & (abs(up - j) < 0.25)).sum() for j in (0, 1) for i in (0, 1)}
    first, second = sorted(crowd, key=lambda corner: crowd[corner])[:2]
    white = [withStroke(linewidth=3, foreground="white")]
    draw_compass(axes, wcs, second, canvas, white)
    scale = float(np.mean(proj_plane_pixel_scales(wcs))) * 3600
    length = max((n for n in LENGTHS if n <= 0.3 * (right - left) * scale), default=LENGTHS[0])
    share = length / scale / (right - left)
    start = 0.04 if first[0] == 0 else 0.96 - share
    height = (canvas.height - 0.35 if first[1] else 0.15) / canvas.height
    axes.plot([start, start + share], 2 * [height], transform=axes.transAxes, color=INK, lw=2.5, path_effects=white)
    words = f"{length:g}″" if length < 60 else f"{length / 60:g}′"
    place: dict[str, Any] = {"transform": axes.transAxes, "ha": "center", "va": "bottom"}
    axes.text(start + share / 2, height + 0.06 / canvas.height, words, **place, **TEXT, path_effects=white)


def draw_compass(axes: Axes, wcs: WCS, corner: tuple[int, int], canvas: Canvas, effects: list[withStroke]) -> None:
    """Draw arrows to north and east (ICRS), 0.4 inch long."""
    left, right, bottom, top = canvas.extent
    centre = wcs.pixel_to_world((left + right) / 2, (bottom + top) / 2).icrs
    origin = np.array(wcs.world_to_pixel(centre))
    near = [centre.directional_offset_by(angle * u.deg, 1 * u.arcsec) for angle in (0, 90)]
    steps = [np.array(wcs.world_to_pixel(place)) - origin for place in near]
    arrows = [0.4 * step / np.hypot(*step) for step in steps]
    size, ends = np.array([canvas.width, canvas.height]), np.array([*arrows, (0, 0)])
    room = np.where(corner, size - 0.22 - ends.max(axis=0), 0.22 - ends.min(axis=0))
    style = {"arrowstyle": "<|-", "color": INK, "lw": 1.5, "shrinkA": 1, "shrinkB": 0, "path_effects": effects}
    place: dict[str, Any] = {"xy": tuple(room / size), "xycoords": "axes fraction", "ha": "center", "va": "center"}
    for name, arrow in zip("NE", arrows, strict=True):
        tip = tuple((room + arrow) / size)
        axes.annotate(name, xytext=tip, **place, **TEXT, path_effects=effects, arrowprops=style)


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
