"""What the page shows as a PNG picture: both maps with the selection, spectrum and residual."""

import io
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure

from galprote.model.grids import WAVELENGTH
from galprote.pipeline.map_styles import INK, MASKED_COLOUR, UNFITTED_COLOUR, UNTRUSTED_COLOUR
from galprote.workflows.drawing_style import default_style
from galprote.workflows.features import FEATURES
from galprote.workflows.viewer.look import Lines
from galprote.workflows.viewer.scales import Scale
from galprote.workflows.viewer.selection import Selection, outline
from galprote.workflows.viewer.shown_map import Shown, window_of
from galprote.workflows.viewer.spectrum_view import MODEL, OBSERVED, SHADES, SIGMA, runs

SIZE: Final = (12.8, 8.4)
DPI: Final = 120


@dataclass(frozen=True)
class Picture:
    """What is to be drawn.

    Attributes
    ----------
    maps : tuple of (Shown, Scale, str)
        With the labels of their colour bars.
    hidden : int
    view : tuple of 4 float
        The part of the image (x0, x1, y0, y1), pixels.
    selection : Selection, optional
    title, unit : str
        Of the selection, and of its spectrum.
    lines : Lines, optional
    """

    maps: tuple[tuple[Shown, Scale, str], ...]
    hidden: int
    view: tuple[float, float, float, float]
    selection: Selection | None
    title: str
    unit: str
    lines: Lines | None


def draw_png(picture: Picture) -> bytes:
    """Draw it."""
    lines = picture.lines
    with default_style():
        figure = Figure(
            figsize=(SIZE[0], SIZE[1] if lines else 0.62 * SIZE[1]), facecolor="white", layout="constrained"
        )
        FigureCanvasAgg(figure)
        above: Any = figure
        below: Any = None
        if lines:
            above, below = figure.subfigures(2, 1, height_ratios=(1.15, 1.0))  # type: ignore[misc]
        all_axes = above.subplots(1, len(picture.maps), squeeze=False)[0]
        for axes, (shown, scale, label) in zip(all_axes, picture.maps, strict=True):
            _draw_map(axes, picture, shown, scale, label)
        galaxy = picture.maps[0][0].galaxy
        words = f"{galaxy.name}   z = {float(galaxy.about['redshift']):.5f}"
        above.suptitle(words, fontsize=15, fontweight="bold", color=INK, x=0.01, ha="left")
        if below is not None and lines is not None:
            if np.isfinite(lines.flux).any():
                upper, lower = below.subplots(2, 1, sharex=True, height_ratios=(3, 2))
                _draw_spectrum(upper, lines)
            else:
                lower = below.subplots()
            _draw_residual(lower, lines, picture.unit)
            below.suptitle(picture.title, fontsize=12, color=INK, x=0.01, ha="left")
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def _draw_map(axes: Axes, picture: Picture, shown: Shown, scale: Scale, label: str) -> None:
    x0, x1, y0, y1 = picture.view
    window = window_of(shown.galaxy.shape, (x0, x1), (y0, y1))
    values, kinds = (read(window.slices, picture.hidden) for read in (shown.values, shown.kinds))
    ny, nx = values.shape
    left, bottom = window.columns[0] - 0.5, window.rows[0] - 0.5
    options: dict[str, Any] = {
        "extent": (left, left + nx * window.step, bottom, bottom + ny * window.step), "origin": "lower",
        "interpolation": "nearest",
    }  # fmt: skip
    greys = ListedColormap(["white", UNFITTED_COLOUR, MASKED_COLOUR, UNTRUSTED_COLOUR])
    axes.imshow(kinds, cmap=greys, vmin=-0.5, vmax=3.5, **options)
    norm = LogNorm(scale.low, scale.high, clip=True) if scale.log else Normalize(scale.low, scale.high)
    shown_values = np.ma.masked_where(~np.isfinite(values) | (scale.log & (values <= 0)), values)
    image = axes.imshow(shown_values, cmap=ListedColormap(scale.palette), norm=norm, **options)
    if picture.selection is not None:
        lines = np.stack(outline(picture.selection), axis=1).reshape(-1, 2, 2)
        for colour, width in (("white", 3.0), ("#111111", 1.3)):
            axes.add_collection(LineCollection(list(lines), colors=colour, linewidths=width, capstyle="projecting"))
    axes.set(xlim=(x0, x1), ylim=(y0, y1), aspect="equal", xlabel="x (spaxels)", ylabel="y (spaxels)")
    axes.set_title(shown.style.title, loc="left", fontsize=13, color=INK)
    axes.figure.colorbar(image, ax=axes, label=label, pad=0.02)


def _shade(axes: Axes, lines: Lines) -> None:
    """What did not decide the fit, and the names of lines."""
    for kind, colour in SHADES.items():
        for first, last in zip(*runs(getattr(lines, kind)), strict=True):
            axes.axvspan(first, last, color=colour, linewidth=0, zorder=0)


def _draw_spectrum(axes: Axes, lines: Lines) -> None:
    _shade(axes, lines)
    axes.step(WAVELENGTH, lines.flux, where="mid", color=OBSERVED, linewidth=0.8, label="observed")
    axes.plot(WAVELENGTH, lines.model, color=MODEL, linewidth=1.1, label="model")
    seen = np.concatenate([lines.flux[lines.used], lines.model])
    low, high = float(np.nanmin(seen)), float(np.nanmax(seen))
    axes.set_ylim(low - 0.1 * (high - low), high + 0.2 * (high - low))
    axes.legend(loc="lower right", frameon=False, ncols=2, fontsize=9)
    for name, wavelength in FEATURES.items():
        axes.text(wavelength, 0.97, name, transform=axes.get_xaxis_transform(), ha="center", va="top", fontsize=8)
    axes.set_ylabel("flux", color=INK)


def _draw_residual(axes: Axes, lines: Lines, unit: str) -> None:
    _shade(axes, lines)
    inside = np.where(lines.used, lines.residual, np.nan)
    axes.fill_between(WAVELENGTH, lines.low, lines.high, color=SIGMA, linewidth=0)
    axes.axhline(0, color="#666666", linewidth=0.7)
    axes.step(WAVELENGTH, lines.residual, where="mid", color="#999999", linewidth=0.6)
    axes.step(WAVELENGTH, inside, where="mid", color=OBSERVED, linewidth=0.8)
    if np.isfinite(inside).any():
        limit = 1.3 * float(np.nanpercentile(np.abs(inside), 99.5)) or 1.0
        axes.set_ylim(-limit, limit)
    axes.set(ylabel="residual", xlabel=f"rest-frame wavelength, air (Å); fluxes in {unit}",
             xlim=(WAVELENGTH[0], WAVELENGTH[-1]))  # fmt: skip
