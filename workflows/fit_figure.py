"""One fit in one figure: the spectrum, the model, what is left, what was left out, and the age-metallicity grid."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from galprote.model.grids import WAVELENGTH
from galprote.model.populations import Populations
from galprote.pipeline.even_colours import even_colours
from galprote.pipeline.map_styles import INK
from galprote.pipeline.single import SpectrumFit
from galprote.workflows.drawing_style import default_style
from galprote.workflows.features import FEATURES

SIZE: Final = (13.33, 6.2)
DPI: Final = 120
OBSERVED, MODEL, BAND, FILLED, REPLACED, SIGMA = "#222222", "#d55e00", "#e4e4e4", "#f3d9a4", "#9ecae1", "#c6dbef"
GREY: Final = "#666666"


def draw_fit(fit: SpectrumFit, path: Path, kind: str) -> None:
    """Draw a fit into a file.

    Parameters
    ----------
    fit : SpectrumFit
    path : Path
    kind : {"png", "pdf", "svg"}
    """
    stamp: dict[str, Any] = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[kind]
    with default_style(svg_hashsalt="galprote"):
        figure = fit_figure(fit)
        options: dict[str, Any] = {"pil_kwargs": {"optimize": True}} if kind == "png" else {}
        figure.savefig(path, format=kind, dpi=DPI, metadata=stamp, **options)


def fit_figure(fit: SpectrumFit) -> Figure:
    """Draw a fit."""
    figure = Figure(figsize=SIZE, facecolor="white")
    FigureCanvasAgg(figure)
    width, height = SIZE
    left, right, top, bottom = 0.75, 4.1, 1.0, 0.6
    panel = (width - left - right) / width
    upper = figure.add_axes((left / width, 2.35 / height, panel, (height - 2.35 - top) / height))
    lower = figure.add_axes((left / width, bottom / height, panel, 1.4 / height), sharex=upper)
    draw_spectrum(upper, fit)
    draw_residual(lower, fit)
    at = (width - right + 0.75) / width
    grid = figure.add_axes((at, 2.75 / height, (right - 0.95) / width, (height - 2.75 - top) / height))
    draw_grid(grid, fit)
    draw_numbers(figure, fit, at, 2.05 / height)
    draw_title(figure, fit)
    return figure


def draw_spectrum(axes: Axes, fit: SpectrumFit) -> None:
    """Observed and model spectrum, in units of the median of what was used."""
    scale = float(np.nanmedian(fit.flux[fit.used]))
    flux, model = fit.flux / scale, fit.model / scale
    shade(axes, fit)
    axes.step(WAVELENGTH, flux, where="mid", color=OBSERVED, linewidth=0.8, zorder=3)
    axes.plot(WAVELENGTH, model, color=MODEL, linewidth=1.1, zorder=4)
    shown = np.concatenate([flux[fit.used], model])
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    room = high - low
    axes.set_ylim(low - 0.16 * room, high + 0.06 * room)
    axes.set_xlim(WAVELENGTH[0], WAVELENGTH[-1])
    above: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "color": GREY, "clip_on": False}
    for name, wavelength in FEATURES.items():
        axes.text(wavelength, 1.032, name, ha="center", va="bottom", fontsize=9, **above)
        axes.plot(2 * [wavelength], (1.0, 1.025), linewidth=0.8, **above)
    decorate(axes, "flux / median")
    axes.tick_params(labelbottom=False)
    handles: list[Any] = [Line2D([], [], color=OBSERVED, label="observed"), Line2D([], [], color=MODEL, label="model")]
    kinds = (("emission bands", BAND, fit.bands), ("no data", FILLED, fit.filled), ("replaced", REPLACED, fit.replaced))
    handles += [Patch(color=colour, label=label) for label, colour, where in kinds if where.any()]
    axes.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 0.0), ncols=len(handles), frameon=False,
                fontsize=9.5, labelcolor=INK, handlelength=1.4, columnspacing=1.4, borderaxespad=0.1)  # fmt: skip


def draw_residual(axes: Axes, fit: SpectrumFit) -> None:
    """Observed minus model, in per cent of the median, on the noise's one sigma."""
    scale = float(np.nanmedian(fit.flux[fit.used])) / 100
    residual, sigma = (fit.flux - fit.model) / scale, fit.error / scale
    shade(axes, fit)
    axes.fill_between(WAVELENGTH, -sigma, sigma, step="mid", color=SIGMA, linewidth=0, zorder=2)
    axes.axhline(0, color=GREY, linewidth=0.7, zorder=3)
    inside = np.where(fit.used, residual, np.nan)
    axes.step(WAVELENGTH, residual, where="mid", color="#aaaaaa", linewidth=0.6, zorder=3)
    axes.step(WAVELENGTH, inside, where="mid", color=OBSERVED, linewidth=0.8, zorder=4)
    limit = 1.25 * float(np.nanpercentile(np.abs(inside), 99.5))
    axes.set_ylim(-limit, limit)
    decorate(axes, "residual (%)")
    axes.yaxis.set_major_locator(MaxNLocator(5, symmetric=True))
    axes.set_xlabel("rest-frame wavelength, air (Å)", fontsize=11, color=INK)
    scaled = (fit.flux - fit.model)[fit.used] / fit.error[fit.used]
    spread = float(np.nanstd(residual[fit.used]))
    noise = "estimated" if fit.spectrum.variance is None else "stated"
    words = f"rms {spread:.1f} %, {float(np.nanstd(scaled)):.2f} times the {noise} noise (blue, ±1σ)"
    axes.text(0.0, 1.04, words, transform=axes.transAxes, fontsize=9, color=GREY, va="bottom")


def shade(axes: Axes, fit: SpectrumFit) -> None:
    """Shade what did not decide the fit."""
    for colour, where in ((BAND, fit.bands), (FILLED, fit.filled), (REPLACED, fit.replaced)):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], where.astype(np.int8), [0]])))
        half = (WAVELENGTH[1] - WAVELENGTH[0]) / 2
        for first, last in edges.reshape(-1, 2):
            axes.axvspan(WAVELENGTH[first] - half, WAVELENGTH[last - 1] + half, color=colour, linewidth=0, zorder=0)


def draw_grid(axes: Axes, fit: SpectrumFit) -> None:
    """Light fractions of a fit."""
    draw_light(axes, fit.populations, fit.log_ages, fit.metallicities)


def draw_light(
    axes: Axes, populations: Populations, log_ages: NDArray[np.float64], metallicities: NDArray[np.float64]
) -> None:
    """Light fractions over age and metallicity, with the mean and its error, of one spectrum."""
    shades = even_colours("YlGnBu", (0.08, 1.0))
    shades[:24] = np.linspace((1, 1, 1, 1), shades[24], 24)  # white where there is no light
    colours = ListedColormap(shades)
    grid = populations.grid[0]
    ages, metals = edges_around(log_ages), np.arange(len(metallicities) + 1) - 0.5
    norm = PowerNorm(0.5, 0, max(float(grid.max()), 1e-3))
    axes.pcolormesh(ages, metals, grid, cmap=colours, norm=norm, rasterized=True)
    mean = float(np.interp(populations.metallicity[0], metallicities, np.arange(len(metallicities))))
    ends = [np.interp(populations.metallicity[0] + sign * populations.metallicity_error[0], metallicities,
                      np.arange(len(metallicities))) for sign in (-1, 1)]  # fmt: skip
    error = None if np.isnan(ends).any() else [[mean - ends[0]], [ends[1] - mean]]
    axes.errorbar([populations.log_age[0]], [mean], xerr=[populations.log_age_error[0]], yerr=error, fmt="o",
                  color=MODEL, markersize=6, markeredgecolor="white", capsize=2.5, linewidth=1.4)  # fmt: skip
    axes.set_yticks(
        np.arange(len(metallicities)),
        [f"{value:+.2f}".replace("-", "\N{MINUS SIGN}") for value in metallicities],
    )
    decorate(axes, "[M/H]  (dex)")
    axes.tick_params(axis="y", labelsize=8.5)
    axes.set_xlabel(r"$\log_{10}$ (age / yr)", fontsize=11, color=INK)
    axes.set_title("Light fractions", loc="left", fontsize=12, fontweight="bold", color=INK, pad=6)


def draw_numbers(figure: Figure, fit: SpectrumFit, left: float, top: float) -> None:
    """Write the results."""
    populations = fit.populations

    def both(value: Any, error: Any) -> str:
        text = f"{value[0]:.2f}" + (f" ± {error[0]:.2f}" if np.isfinite(error[0]) else "")
        return text.replace("-", "\N{MINUS SIGN}")

    p = populations
    rows = (
        ("", "light-weighted", "mass-weighted"),
        ("log age", both(p.log_age, p.log_age_error), both(p.log_age_mw, p.log_age_mw_error)),
        ("[M/H]", both(p.metallicity, p.metallicity_error), both(p.metallicity_mw, p.metallicity_mw_error)),
        (r"$A_V$", both(p.av, p.av_error) + " mag", ""),
        (r"$M/L_V$", both(p.mass_to_light, p.mass_to_light_error), ""),
        ("S/N", f"{fit.snr:.0f} per 2.48 Å", f"trust {p.trust[0]:.2f}" if np.isfinite(p.trust[0]) else ""),
    )
    for number, row in enumerate(rows):
        for place, text in zip((-0.035, 0.035, 0.135), row, strict=True):
            figure.text(left + place, top - 0.05 * number, text, fontsize=10.5, va="baseline",
                        color=GREY if number == 0 or place < 0 else INK)  # fmt: skip


def draw_title(figure: Figure, fit: SpectrumFit) -> None:
    """Write the name, what was assumed, and what made it."""
    width, height = SIZE
    y = 1 - 0.36 / height
    name = figure.text(0.75 / width, y, fit.spectrum.name, fontsize=17, weight="bold", color=INK, va="center")
    name.set_fontsize(17 * min(1.0, 0.6 * figure.bbox.width / name.get_window_extent().width))
    after = (name.get_window_extent().x1 / figure.dpi + 0.3) / width
    words = f"$z$ = {fit.redshift:.5f}     foreground $E(B-V)$ = {fit.ebv:.4f}"
    figure.text(after, y, words, fontsize=12, color=GREY, va="center")
    from importlib.metadata import version

    made = f"galprote {version('galprote')} · weights {fit.checkpoint_sha256[:8]}"
    figure.text(1 - 0.15 / width, 0.13 / height, made, fontsize=8.5, color="#888888", ha="right", va="center")


def decorate(axes: Axes, label: str) -> None:
    """Set what all panels share."""
    axes.set_ylabel(label, fontsize=11, color=INK)
    axes.tick_params(labelsize=10, color=INK, labelcolor=INK, length=3, direction="in", top=True, right=True)
    axes.spines[:].set(color="#888888", linewidth=0.8)


def edges_around(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges of cells around unevenly spaced centres, (n,) -> (n + 1,)."""
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])
