"""One map, drawn into axes: colours, greys of what has no values, colour bar, scale bar and compass."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from astropy import units as u
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, ScalarFormatter
from numpy.typing import NDArray

from galprote.pipeline.figure_labels import plain
from galprote.pipeline.map_styles import (
    DOUBTFUL_COLOUR,
    INK,
    MASKED_COLOUR,
    UNFITTED_COLOUR,
    UNTRUSTED_COLOUR,
    MapStyle,
)
from galprote.pipeline.map_wcs import LENGTHS
from galprote.pipeline.quality import Kinds

TEXT: Final[dict[str, Any]] = {"fontsize": 12, "color": INK}
#: Panels are no flatter or slimmer than this; maps that are get space around them.
ASPECTS: Final = (0.45, 2.2)


@dataclass(frozen=True)
class Canvas:
    """A panel's width and height, inches; the pixels that it shows (left, right, bottom, top)."""

    width: float
    height: float
    extent: tuple[float, float, float, float]


def plan_canvas(seen: NDArray[np.bool_], width: float, height: float) -> Canvas:
    """Choose the part of the maps to show, from the spaxels (y, x) with data, and how large the panels are.

    `width` and `height` are the largest that a panel may have, inches.
    """
    seen = seen if seen.any() else np.ones_like(seen)
    (left, right), (bottom, top) = (
        (float(index[0]), float(index[-1] + 1)) for index in (np.flatnonzero(seen.any(axis=axis)) for axis in (0, 1))
    )
    nx, ny = 1.04 * (right - left), 1.04 * (top - bottom)
    nx, ny = max(nx, ny / ASPECTS[1]), max(ny, nx * ASPECTS[0])
    x, y = (left + right) / 2 - 0.5, (bottom + top) / 2 - 0.5  # pixel 0 is centred on 0
    width = min(width, height * nx / ny)
    return Canvas(width, width * ny / nx, (x - nx / 2, x + nx / 2, y - ny / 2, y + ny / 2))


def draw_panel(
    axes: Axes, bar: Axes, style: MapStyle, label: str, maps: dict[str, NDArray[Any]], canvas: Canvas
) -> None:
    """Draw one map, given it and `status` (y, x), and its colour bar."""
    kinds = Kinds.of(maps["status"])
    image = draw_values(axes, style, style.values(maps[style.name], maps["status"]))
    draw_kinds(axes, style, kinds)
    axes.set(xlim=canvas.extent[:2], ylim=canvas.extent[2:], xticks=[], yticks=[])
    axes.spines[:].set(color="#bbbbbb", linewidth=0.8)
    axes.set_title(style.title, loc="left", fontsize=15, fontweight="bold", color=INK, pad=6)
    draw_bar(image, bar, style)
    bar.tick_params(labelsize=11, color=INK, labelcolor=INK, length=3)
    bar.set_ylabel(f"{label} (log)" if style.log else label, fontsize=12, color=INK)


def draw_values(axes: Axes, style: MapStyle, values: NDArray[np.floating[Any]], **how: Any) -> AxesImage:
    """Draw values (y, x), as `MapStyle.values` gives them, on colours between their limits."""
    limits = how.pop("limits", None) or style.limits(values)
    norm = LogNorm(vmin=limits[0], vmax=limits[1], clip=True) if style.log else Normalize(*limits)
    shown = np.ma.masked_invalid(values)
    settings: dict[str, Any] = {"cmap": style.colour_map(), "norm": norm, "interpolation": "nearest", "zorder": 1}
    image = axes.imshow(shown, origin="lower", **(settings | how))
    if not shown.count():
        axes.text(0.5, 0.5, "no values", transform=axes.transAxes, ha="center", va="center", fontsize=13, color=INK)
    return image


def draw_kinds(axes: Axes, style: MapStyle, kinds: Kinds) -> None:
    """Paint spaxels that were not fitted, masked or not trusted, a grey each; the doubtful ones of `residual_rms`."""
    for where, colour in ((kinds.unfitted, UNFITTED_COLOUR), (kinds.masked, MASKED_COLOUR)):
        paint(axes, where, colour, zorder=0.5)
    if not style.complete:
        paint(axes, kinds.untrusted, UNTRUSTED_COLOUR, zorder=2)
    elif kinds.masked.any() and min(kinds.masked.shape) > 1:  # a grey map has the mask's colour, too
        axes.contour(kinds.masked, levels=[0.5], colors=INK, linewidths=0.7)
    if style.name == "residual_rms":
        paint(axes, kinds.doubtful, DOUBTFUL_COLOUR, zorder=2)


def draw_bar(image: AxesImage, bar: Axes, style: MapStyle) -> None:
    """Draw a colour bar, with pointed ends where values lie beyond its limits."""
    shown: Any = np.ma.masked_invalid(np.ma.asarray(image.get_array()))
    limits = image.get_clim()
    beyond = (bool((shown < limits[0]).any()), bool((shown > limits[1]).any()))
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(beyond, "neither")
    colour_bar = bar.figure.colorbar(image, cax=bar, extend=extend, extendfrac=0.025)
    colour_bar.outline.set_visible(False)
    locator = FixedLocator(log_ticks(limits)) if style.log else MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
    colour_bar.locator = locator
    colour_bar.formatter = FuncFormatter(plain) if style.log else ScalarFormatter(useOffset=False)
    colour_bar.minorticks_off()


def log_ticks(limits: tuple[float, float]) -> list[float]:
    """Round numbers between two limits of a logarithmic scale: three or more where there are, never a crowd."""
    found: list[float] = []
    for subs in ((1,), (1, 2, 5), (1, 2, 3, 5, 7), tuple(range(1, 10)), tuple(np.arange(1, 10, 0.5))):
        ticks = LogLocator(subs=list(map(float, subs)), numticks=99).tick_values(*limits)
        found = [float(tick) for tick in ticks if limits[0] * (1 - 1e-9) <= tick <= limits[1] * (1 + 1e-9)]
        if len(found) > 2:
            break
    return found[:: -(-len(found) // 9)] if found else []


def paint(axes: Axes, where: NDArray[np.bool_], colour: str, zorder: float, **how: Any) -> None:
    """Give some spaxels one colour."""
    shown = np.ma.masked_where(~where, where)
    axes.imshow(shown, cmap=ListedColormap([colour]), origin="lower", interpolation="nearest", zorder=zorder, **how)


def draw_sky(axes: Axes, wcs: WCS, seen: NDArray[np.bool_], canvas: Canvas) -> None:
    """Draw a scale bar and a compass into the emptiest corners of a panel, of which `seen` (y, x) has data."""
    left, right, bottom, top = canvas.extent
    y, x = np.nonzero(seen)
    across, up = (x - left) / (right - left), (y - bottom) / (top - bottom)
    crowd = {(i, j): ((abs(across - i) < 0.33) & (abs(up - j) < 0.25)).sum() for j in (0, 1) for i in (0, 1)}
    first, second = sorted(crowd, key=lambda corner: crowd[corner])[:2]
    white = [withStroke(linewidth=3, foreground="white")]
    draw_compass(axes, wcs, second, canvas, white)
    scale = float(np.mean(proj_plane_pixel_scales(wcs))) * 3600
    length = max((n for n in LENGTHS if n <= 0.3 * abs(right - left) * scale), default=LENGTHS[0])
    share = length / scale / abs(right - left)
    start = 0.04 if first[0] == 0 else 0.96 - share
    height = (canvas.height - 0.35 if first[1] else 0.15) / canvas.height
    axes.plot([start, start + share], 2 * [height], transform=axes.transAxes, color=INK, lw=2.5, path_effects=white)
    words = f"{length:g}″" if length < 60 else f"{length / 60:g}′"
    place: dict[str, Any] = {"transform": axes.transAxes, "ha": "center", "va": "bottom"}
    axes.text(start + share / 2, height + 0.06 / canvas.height, words, **place, **TEXT, path_effects=white)


def draw_compass(axes: Axes, wcs: WCS, corner: tuple[int, int], canvas: Canvas, effects: list[withStroke]) -> None:
    """Draw arrows to north and east (ICRS), 0.4 inch long."""
    left, right, bottom, top = canvas.extent
    flips = np.sign([right - left, top - bottom])  # where an axis runs backwards
    arrows = [0.4 * flips * arrow for arrow in sky_directions(wcs, (left + right) / 2, (bottom + top) / 2)]
    size, ends = np.array([canvas.width, canvas.height]), np.array([*arrows, (0, 0)])
    room = np.where(corner, size - 0.22 - ends.max(axis=0), 0.22 - ends.min(axis=0))
    style = {"arrowstyle": "<|-", "color": INK, "lw": 1.5, "shrinkA": 1, "shrinkB": 0, "path_effects": effects}
    place: dict[str, Any] = {"xy": tuple(room / size), "xycoords": "axes fraction", "ha": "center", "va": "center"}
    for name, arrow in zip("NE", arrows, strict=True):
        tip = tuple((room + arrow) / size)
        axes.annotate(name, xytext=tip, **place, **TEXT, path_effects=effects, arrowprops=style)


def sky_directions(wcs: WCS, x: float, y: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors (x, y) to north and east (ICRS) at a pixel."""
    centre = wcs.pixel_to_world(x, y).icrs
    origin = np.array(wcs.world_to_pixel(centre))
    near = [centre.directional_offset_by(angle * u.deg, 1 * u.arcsec) for angle in (0, 90)]
    north, east = (np.array(wcs.world_to_pixel(place)) - origin for place in near)
    return north / np.hypot(*north), east / np.hypot(*east)
