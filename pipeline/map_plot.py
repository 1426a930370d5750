"""`ds.galprote.plot(name)`: one map in axes of matplotlib's, with the colours and words of the figure of the maps."""

from dataclasses import replace
from typing import Any, Final

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from astropy.wcs import WCS
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from numpy.typing import NDArray

from galprote.model.errors import GalproteError
from galprote.pipeline.map_names import require_map
from galprote.pipeline.map_panel import (
    Canvas,
    draw_bar,
    draw_kinds,
    draw_sky,
    draw_values,
    paint,
    plan_canvas,
    sky_directions,
)
from galprote.pipeline.map_patterns import hatched
from galprote.pipeline.map_styles import (
    DOUBTFUL_COLOUR,
    INK,
    MASKED_COLOUR,
    UNFITTED_COLOUR,
    UNTRUSTED_COLOUR,
    MapStyle,
    style_of,
)
from galprote.pipeline.map_wcs import as_image, has_wcs, slice_wcs
from galprote.pipeline.quality import UNRELIABLE, Kinds, Status
from galprote.pipeline.trusted_light import status_bits

UNTRUSTED: Final = ("grey", "hatch", "show")
GOOD_COLOUR: Final = "#0072b2"
_KINDS: Final = (
    ("not fitted", UNFITTED_COLOUR), ("masked", MASKED_COLOUR), ("not trusted", UNTRUSTED_COLOUR),
    ("doubtful fit", DOUBTFUL_COLOUR),
)  # fmt: skip
#: A value whose error is this share of the colours' range is half transparent.
HALF_FADED: Final = 0.25


class PlotError(GalproteError):
    """A map cannot be drawn as asked."""


def plot_map(
    maps: xr.Dataset,
    name: str,
    ax: Axes | None = None,
    *,
    limits: tuple[float, float] | None = None,
    untrusted: str = "grey",
    fade: bool = False,
    wcs_axes: bool = False,
    colorbar: bool = True,
    sky: bool = True,
    legend: bool = True,
) -> Axes:
    """Draw a map: see `MapsAccessor.plot`."""
    values, status = _checked(maps, name, untrusted)
    wcs = slice_wcs(maps) if has_wcs(maps) else None
    if wcs_axes and wcs is None:
        raise PlotError(f"{maps.attrs.get('galaxy', 'these maps')}: no celestial WCS, so there are no WCSAxes")
    style = style_of(name, maps[name].attrs)
    _check_limits(style, limits)
    axes = ax or _new_axes(values.shape, wcs if wcs_axes else None)
    kinds = Kinds.of(status)
    if name == "status":
        _draw_status(axes, status)
    else:
        shown = style.values(values, status if untrusted == "grey" else None)
        alpha = _fading(maps, style, shown, limits) if fade else None
        drawn = np.where(shown >= 0, shown * 37 % 64, np.nan) if name == "bin_id" else shown  # neighbours differ
        image = draw_values(axes, style, drawn, limits=limits, alpha=alpha)
        painted = kinds if untrusted == "grey" else kinds._replace(untrusted=np.zeros_like(kinds.untrusted))
        draw_kinds(axes, style, painted)
        if untrusted == "hatch":
            _hatch(axes, kinds.untrusted)
        if colorbar and name != "bin_id":
            _draw_colour_bar(axes, image, style, maps)
    _frame(axes, status, wcs, sky=sky)
    title = "Status" if name == "status" else style.title
    axes.set_title(f"{maps.attrs.get('galaxy', '')}  {title}".strip(), loc="left", color=INK)
    if legend:
        _draw_legend(axes, name, style, kinds, untrusted)
    return axes


def _checked(maps: xr.Dataset, name: str, untrusted: str) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """The map, NaN where there are no data, and its status bits (y, x)."""
    require_map(maps, name, PlotError)
    if untrusted not in UNTRUSTED:
        raise PlotError(f"untrusted = {untrusted!r}: expected one of {', '.join(UNTRUSTED)}")
    values = np.asarray(as_image(maps[name]))
    if "status" not in maps:
        return values, np.where(np.isfinite(values), 0, int(Status.NO_DATA)).astype(np.int32)
    status = np.asarray(as_image(status_bits(maps["status"]))).astype(np.int32)
    if values.dtype.kind in "iu":  # whole numbers have no NaN: without data 0 is no value
        values = np.where((status & Status.NO_DATA) > 0, np.nan, values)
    return values, status


def _check_limits(style: MapStyle, limits: tuple[float, float] | None) -> None:
    if limits is None or (np.isfinite(limits).all() and (min(limits) > 0 or not style.log)):
        return
    above = f" above 0, for {style.name} has a logarithmic scale" if style.log else ""
    raise PlotError(f"limits = {limits}: expected two finite numbers{above}")


def _new_axes(shape: tuple[int, ...], wcs: WCS | None) -> Axes:
    tall = min(max(5.6 * shape[0] / max(shape[1], 1), 2.6), 9.0)
    figure = plt.figure(figsize=(6.4, tall), layout="constrained")
    axes: Axes = figure.add_subplot(projection=wcs) if wcs is not None else figure.add_subplot()
    return axes


def _fading(
    maps: xr.Dataset, style: MapStyle, shown: NDArray[Any], limits: tuple[float, float] | None
) -> NDArray[np.float64]:
    """Opacity from errors: 1 without any, 0.5 where it is `HALF_FADED` of the colours' range."""
    name = f"{style.name}_error"
    if name not in maps:
        raise PlotError(f"fade: {style.name} has no error map")
    low, high = limits or style.limits(shown)
    error = np.asarray(as_image(maps[name]), dtype=float) * style.factor
    span = np.maximum(shown, low) * np.log(high / low) if style.log else high - low
    opacity: NDArray[np.float64] = 1 / (1 + (np.nan_to_num(error / span, nan=0.0) / HALF_FADED) ** 2)
    return opacity


def _draw_status(axes: Axes, status: NDArray[np.int32]) -> None:
    kinds = Kinds.of(status)
    codes = np.select([*kinds, (status & int(UNRELIABLE)) == 0], [1, 2, 3, 4, 0], default=-1)
    colours = ListedColormap([GOOD_COLOUR, *(colour for _, colour in _KINDS)])
    shown = np.ma.masked_less(codes, 0)
    axes.imshow(shown, cmap=colours, vmin=-0.5, vmax=4.5, origin="lower", interpolation="nearest", zorder=1)


def _hatch(axes: Axes, where: NDArray[np.bool_]) -> None:
    """Hatch spaxels: lines in pixels, under which values are seen."""
    if not where.any():
        return
    lines, (ny, nx) = hatched(where), where.shape
    extent = (-0.5, nx - 0.5, -0.5, ny - 0.5)
    paint(axes, lines, UNTRUSTED_COLOUR, zorder=3, extent=extent)


def _draw_colour_bar(axes: Axes, image: Any, style: MapStyle, maps: xr.Dataset) -> None:
    if hasattr(axes, "coords"):  # around WCSAxes room is made for such a bar alone
        bar = axes.figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02).ax
        bar.clear()
    else:
        bar = axes.inset_axes((1.02, 0.0, 0.04, 1.0))
    draw_bar(image, bar, style)
    bar.tick_params(color=INK, labelcolor=INK, length=3)
    label = style.label_for(maps.attrs)
    bar.set_ylabel(f"{label} (log)" if style.log else label, color=INK)


def _frame(axes: Axes, status: NDArray[np.int32], wcs: WCS | None, *, sky: bool) -> None:
    """Show what has data, north up and east left as far as the pixels allow, with scale bar and compass."""
    seen = (status & Status.NO_DATA) == 0
    box = axes.get_window_extent().transformed(axes.figure.dpi_scale_trans.inverted())
    canvas = plan_canvas(seen, box.width, box.height)
    if wcs is not None:
        canvas = _upright(canvas, wcs)
    left, right, bottom, top = canvas.extent
    axes.set(xlim=(left, right), ylim=(bottom, top))
    coordinates: Any = getattr(axes, "coords", None)
    if coordinates is not None:  # WCSAxes
        for coordinate, words in zip(coordinates, ("Right ascension", "Declination"), strict=False):
            coordinate.set_axislabel(words)
        return
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set(color="#bbbbbb", linewidth=0.8)
    if sky and wcs is not None:
        draw_sky(axes, wcs, seen, canvas)


def _upright(canvas: Canvas, wcs: WCS) -> Canvas:
    """Turn axes round so that north has no part downward, and east is left of north."""
    left, right, bottom, top = canvas.extent
    north, east = sky_directions(wcs, (left + right) / 2, (bottom + top) / 2)
    up = 1 if north[1] >= -1e-9 else -1
    mirrored = east[0] * north[1] - east[1] * north[0] > 0
    across = -up if mirrored else up
    x, y = (left, right)[::across], (bottom, top)[::up]
    return replace(canvas, extent=(x[0], x[1], y[0], y[1]))


def _draw_legend(axes: Axes, name: str, style: MapStyle, kinds: Kinds, untrusted: str) -> None:
    handles = [Patch(color=GOOD_COLOUR, label="good")] if name == "status" else []
    for (label, colour), where in zip(_KINDS, kinds, strict=True):
        drawn = {
            "not trusted": untrusted != "show" and not (style.complete and untrusted == "grey"),
            "doubtful fit": name == "residual_rms",
        }.get(label, True)
        if where.any() and (drawn or name == "status"):
            hatched = label == "not trusted" and untrusted == "hatch" and name != "status"
            look: dict[str, Any] = (
                {"facecolor": "none", "hatch": "////", "edgecolor": colour} if hatched else {"color": colour}
            )
            handles.append(Patch(label=label, **look))
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, -0.01), "ncols": 4}
    if hasattr(axes, "coords"):  # the coordinates are below
        place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": 2}
    if handles:
        axes.legend(handles=handles, frameon=False, fontsize="small", labelcolor=INK, borderaxespad=0.2,
                    handlelength=1.2, **place)  # fmt: skip
