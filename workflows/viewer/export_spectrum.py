"""Spectrum, residual and light fractions of a picture that is saved, as the page shows them."""

from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from galprote.model.grids import WAVELENGTH
from galprote.pipeline.map_styles import INK
from galprote.workflows.features import FEATURES
from galprote.workflows.viewer.grid_view import Light, edges_around, light_palette, mean_place
from galprote.workflows.viewer.look import Lines
from galprote.workflows.viewer.spectrum_view import MODEL, OBSERVED, SHADES, SIGMA, axis_words, entries, ranges, runs

GREY: Final = "#666666"


def draw_spectrum(axes: Axes, lines: Lines) -> None:
    """Observed and model spectrum, with names of lines above."""
    _shade(axes, lines)
    axes.step(WAVELENGTH, lines.flux, where="mid", color=OBSERVED, linewidth=0.8, zorder=3)
    axes.plot(WAVELENGTH, lines.model, color=MODEL, linewidth=1.1, zorder=4)
    axes.set_ylim(*ranges(lines)[0])
    _decorate(axes, "flux")
    axes.tick_params(labelbottom=False)
    axes.yaxis.set_major_locator(MaxNLocator(5, prune="lower"))  # or it runs into the residual's


def draw_residual(axes: Axes, lines: Lines, unit: str) -> None:
    """Observed minus model, grey where it did not decide the fit, on the noise or scatter in blue."""
    _shade(axes, lines)
    inside = np.where(lines.used, lines.residual, np.nan)
    axes.fill_between(WAVELENGTH, lines.low, lines.high, step="mid", color=SIGMA, linewidth=0, zorder=2)
    axes.axhline(0, color=GREY, linewidth=0.7, zorder=3)
    axes.step(WAVELENGTH, lines.residual, where="mid", color="#999999", linewidth=0.6, zorder=3)
    axes.step(WAVELENGTH, inside, where="mid", color=OBSERVED, linewidth=0.8, zorder=4)
    axes.set_ylim(*ranges(lines)[1])
    _decorate(axes, "residual")
    axes.yaxis.set_major_locator(MaxNLocator(6, symmetric=True))
    axes.set_xlabel(axis_words(unit), fontsize=11, color=INK)


def draw_features(axes: Axes, height: float) -> None:
    """Names of the lines in sight, above an axes of a height in inches; none over another."""
    first, last = axes.get_xlim()
    above: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "color": GREY, "clip_on": False}
    taken = -np.inf
    for name, wavelength in sorted(FEATURES.items(), key=lambda item: item[1]):
        at = (wavelength - first) / (last - first)
        half = 0.028 * len(name.strip()) / axes.get_window_extent().width * axes.figure.dpi
        if not 0 <= at <= 1 or at - half < taken:
            continue
        taken = at + half
        axes.text(wavelength, 1 + 0.07 / height, name.strip(), ha="center", va="bottom", fontsize=9, **above)
        axes.plot(2 * [wavelength], (1, 1 + 0.05 / height), linewidth=0.8, **above)


def draw_legend(axes: Axes, lines: Lines, height: float) -> None:
    """What lines and shades mean, above the names of the lines, on the right."""
    handles = [
        Line2D([], [], color=colour, label=word) if kind == "line" else Patch(color=colour, label=word)
        for word, colour, kind in entries(lines)
    ]
    axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1.0, 1 + 0.24 / height), ncols=max(len(handles), 1),
                frameon=False, fontsize=9.5, labelcolor=INK, handlelength=1.4, columnspacing=1.4, borderpad=0,
                borderaxespad=0)  # fmt: skip


def draw_grid(axes: Axes, light: Light) -> None:
    """Light fractions over age and metallicity; the cross is the light-weighted mean with its error."""
    root = np.sqrt(np.maximum(np.nan_to_num(light.grid), 0))
    count = len(light.metallicities)
    ages, steps = edges_around(light.log_ages), np.arange(count + 1) - 0.5
    axes.pcolormesh(ages, steps, root, cmap=ListedColormap(light_palette()), vmin=0, vmax=max(float(root.max()), 1e-3))
    place = mean_place(light.metallicities, light.mean)
    for colour, width in (("white", 3.5), (MODEL, 1.8)):
        axes.plot([place["x0"], place["x1"]], 2 * [place["y"]], color=colour, linewidth=width)
        axes.plot(2 * [place["x"]], [place["y0"], place["y1"]], color=colour, linewidth=width)
    axes.plot(place["x"], place["y"], "o", color=MODEL, markersize=6.5, markeredgecolor="white")
    names = [f"{value:+.2f}".replace("-", "\N{MINUS SIGN}") for value in light.metallicities]
    axes.set_yticks(range(count), names)
    axes.set(xlim=ages[[0, -1]], ylim=steps[[0, -1]])
    _decorate(axes, "[M/H]  (dex)")
    axes.tick_params(axis="y", labelsize=8.5)
    axes.set_xlabel(r"$\log_{10}$ (age / yr)", fontsize=11, color=INK)
    size = 11.5 * min(1.0, 38 / max(len(light.words), 1))  # as long as there is room, with that on the left
    axes.set_title(light.words, loc="left", x=-0.27, fontsize=size, fontweight="bold", color=INK, pad=6)


def _shade(axes: Axes, lines: Lines) -> None:
    """What did not decide the fit."""
    for kind, colour in SHADES.items():
        for first, last in zip(*runs(getattr(lines, kind)), strict=True):
            axes.axvspan(first, last, color=colour, linewidth=0, zorder=0)


def _decorate(axes: Axes, label: str) -> None:
    axes.set_ylabel(label, fontsize=11, color=INK)
    axes.tick_params(labelsize=10, color=INK, labelcolor=INK, length=3, direction="in", top=True, right=True)
    axes.spines[:].set(color="#888888", linewidth=0.8)
