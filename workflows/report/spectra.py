"""Pictures of spectra: what is left of a galaxy's on the mean, and single fits, as SVG."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from galprote.model.grids import STEP, WAVELENGTH
from galprote.pipeline.map_styles import INK
from galprote.workflows.fit_figure import draw_light
from galprote.workflows.refit import Refits
from galprote.workflows.report.charts import Chart
from galprote.workflows.report.drawing import BLUE, GREY, ORANGE, SPREAD, as_svg, new_figure, plain_axes
from galprote.workflows.report.lines import known_lines, spread
from galprote.workflows.report.residual_spectrum import ResidualSpectrum

WIDTH: Final = 10.6
#: Left and right end of the axes, inches.
LEFT, RIGHT = 0.72, 0.12
BAND, MASK, REPLACED, SIGMA = "#e2e2e2", "#f0d9ac", "#9ecae1", "#c6dbef"
_ENDS: Final = (float(WAVELENGTH[0]), float(WAVELENGTH[-1]))


def draw_residuals(
    found: ResidualSpectrum, redshift: float, unused: NDArray[np.bool_], masked: NDArray[np.bool_]
) -> Chart:
    """Draw the mean residual spectrum: the whole range above, what the network uses enlarged below.

    Parameters
    ----------
    found : ResidualSpectrum
    redshift : float
    unused, masked : (948,) bool
        Samples that the network does not use, and others that masks left out.
    """
    whole = 5.3
    figure = new_figure(WIDTH, whole)
    upper, lower = (figure.add_axes(_box(bottom, height, whole)) for bottom, height in ((3.0, 1.75), (0.55, 2.3)))
    mean, low, high = (100 * values for values in (found.mean, found.low, found.high))
    for panel in (upper, lower):
        shade(panel, [(unused, BAND), (masked, MASK)])
        panel.axhline(0, color=GREY, linewidth=0.7)
        panel.fill_between(WAVELENGTH, low, high, step="mid", color=SPREAD, linewidth=0)
        panel.step(WAVELENGTH, mean, where="mid", color=INK, linewidth=0.9)
        panel.set_xlim(*_ENDS)
    used = ~(unused | masked)
    inside = np.concatenate([mean[used], low[used], high[used]])
    finite = np.abs(inside[np.isfinite(inside)])
    limit = max(1.5 * float(np.percentile(finite, 95)) if finite.size else 1.0, 0.05)
    lower.set_ylim(-limit, limit)
    upper.set_ylim(min(-limit, 1.1 * float(np.nanmin([*mean, 0]))), max(limit, 1.12 * float(np.nanmax([*mean, 0]))))
    plain_axes(upper, "", "whole range (%)")
    plain_axes(lower, "rest-frame wavelength, air (Å)", "enlarged (% of the flux)")
    upper.tick_params(labelbottom=False)
    mark_lines(upper, redshift, lower)
    handles: list[Any] = [Line2D([], [], color=INK, label="mean"), Patch(color=SPREAD, label="16 to 84 %")]
    handles += [Patch(color=BAND, label="not used by the network")] if unused.any() else []
    handles += [Patch(color=MASK, label="masked")] if masked.any() else []
    lower.legend(handles=handles, loc="lower left", ncols=4, framealpha=0.85, edgecolor="none", fontsize=9)
    return Chart("Observed minus model", as_svg(figure), _residual_words(found, mean, used))


def _residual_words(found: ResidualSpectrum, mean: NDArray[np.float64], used: NDArray[np.bool_]) -> str:
    inside, peak = mean[used & np.isfinite(mean)], np.abs(mean[np.isfinite(mean)])
    rms = float(np.sqrt(np.mean(inside**2))) if inside.size else np.nan
    return (
        f"Mean residual spectrum of {found.spectra:,} {found.what}: rms of the mean {rms:.2f} % of the flux where the "
        f"network looks, {float(peak.max()) if peak.size else np.nan:.0f} % at the strongest line"
    )


def mark_lines(axes: Axes, redshift: float, *others: Axes) -> None:
    """Mark known lines, their names above the axes without overlap, the sky's in another colour and dashed."""
    lines = known_lines(redshift, *_ENDS)
    named = [line for line in lines if line.name]
    scale = (_ENDS[1] - _ENDS[0]) / (WIDTH - LEFT - RIGHT)  # Angstrom for an inch
    widths = [scale * (0.067 * len(line.name) + 0.07) for line in named]
    places = spread([line.wavelength for line in named], widths, *_ENDS)
    for line in lines:
        colour, dashes = (ORANGE, (0, (3, 2))) if line.sky else (BLUE, (0, (1, 1.5)))
        for panel in (axes, *others):
            panel.axvline(line.wavelength, color=colour, linewidth=0.8, linestyle=dashes, zorder=0.5)
    above: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False}
    for line, place in zip(named, places, strict=True):
        colour = ORANGE if line.sky else BLUE
        axes.plot([line.wavelength, line.wavelength, place], [1.0, 1.05, 1.13], color=colour, linewidth=0.7, **above)
        axes.text(place, 1.15, line.name, ha="center", va="bottom", fontsize=8.5, color=colour, **above)


def shade(axes: Axes, kinds: list[tuple[NDArray[np.bool_], str]]) -> None:
    """Shade samples of some kinds, (948,) bool, each in its colour."""
    for where, colour in kinds:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], where.astype(np.int8), [0]])))
        for first, last in edges.reshape(-1, 2):
            ends = WAVELENGTH[first] - STEP / 2, WAVELENGTH[last - 1] + STEP / 2
            axes.axvspan(*ends, color=colour, linewidth=0, zorder=0)


def _box(bottom: float, height: float, whole: float, right: float = RIGHT) -> tuple[float, float, float, float]:
    return LEFT / WIDTH, bottom / whole, (WIDTH - LEFT - right) / WIDTH, height / whole


@dataclass(frozen=True)
class _Spectrum:
    """A fit's spectra over their median: observed, noise and model, (948,) float64, and what decided the fit."""

    flux: NDArray[np.float64]
    error: NDArray[np.float64]
    model: NDArray[np.float64]
    used: NDArray[np.bool_]

    @classmethod
    def of(cls, fit: Refits) -> "_Spectrum":
        flux, error, model = (values[0].astype(np.float64) for values in (fit.flux, fit.error, fit.model))
        inside = flux[fit.used[0] & np.isfinite(flux)]
        scale = float(np.median(inside)) if inside.size and np.median(inside) > 0 else 1.0
        return cls(flux / scale, error / scale, model / scale, fit.used[0])


def draw_fit(fit: Refits, title: str, words: str) -> Chart:
    """Draw a fit: spectrum and model, what is left, and the grid of light fractions.

    Parameters
    ----------
    fit : Refits
        Of one spectrum.
    title, words : str
        Of the chart.
    """
    whole, right = 4.3, 3.15
    figure = new_figure(WIDTH, whole)
    upper = figure.add_axes(_box(1.75, 2.45, whole, right))
    lower = figure.add_axes(_box(0.52, 1.13, whole, right), sharex=upper)
    kinds = [(fit.bands, BAND), (fit.masked[0], MASK), (fit.replaced[0], REPLACED)]
    for panel in (upper, lower):
        shade(panel, kinds)
        panel.set_xlim(*_ENDS)
    spectrum = _Spectrum.of(fit)
    _draw_observed(upper, spectrum)
    _draw_rest(lower, spectrum)
    handles: list[Any] = [Line2D([], [], color=INK, label="observed"), Line2D([], [], color=ORANGE, label="model")]
    labels = ("not used by the network", "masked, no data", "replaced")
    handles += [Patch(color=kind[1], label=label) for kind, label in zip(kinds, labels, strict=True) if kind[0].any()]
    handles.append(Patch(color=SIGMA, label="noise, ±1σ"))
    upper.legend(handles=handles, loc="lower center", ncols=6, framealpha=0.85, edgecolor="none", fontsize=8.5,
                 handlelength=1.3, columnspacing=1.1, borderaxespad=0.1, handletextpad=0.5)  # fmt: skip
    height = (whole - 0.52 - 0.35) / whole
    grid = figure.add_axes(((WIDTH - right + 0.75) / WIDTH, 0.52 / whole, (right - 0.9) / WIDTH, height))
    draw_light(grid, fit.populations, fit.log_ages, fit.metallicities)
    return Chart(title, as_svg(figure), words)


def _draw_observed(axes: Axes, spectrum: _Spectrum) -> None:
    """The spectrum and its model, with room below for the legend."""
    axes.step(WAVELENGTH, spectrum.flux, where="mid", color=INK, linewidth=0.7)
    axes.plot(WAVELENGTH, spectrum.model, color=ORANGE, linewidth=1.2)
    shown = np.concatenate([spectrum.flux[spectrum.used], spectrum.model])
    shown = shown[np.isfinite(shown)]
    if shown.size:
        room = float(np.ptp(shown)) or 1.0
        axes.set_ylim(float(shown.min()) - 0.22 * room, float(shown.max()) + 0.06 * room)
    plain_axes(axes, "", "flux / median")
    axes.tick_params(labelbottom=False)


def _draw_rest(axes: Axes, spectrum: _Spectrum) -> None:
    """Observed minus model, in per cent, on the noise."""
    residual, sigma = 100 * (spectrum.flux - spectrum.model), 100 * spectrum.error
    axes.fill_between(WAVELENGTH, -sigma, sigma, step="mid", color=SIGMA, linewidth=0)
    axes.axhline(0, color=GREY, linewidth=0.7)
    axes.step(WAVELENGTH, residual, where="mid", color="#9a9a9a", linewidth=0.5)
    axes.step(WAVELENGTH, np.where(spectrum.used, residual, np.nan), where="mid", color=INK, linewidth=0.7)
    finite = np.abs(residual[spectrum.used & np.isfinite(residual)])
    limit = 1.25 * float(np.percentile(finite, 99.5)) if finite.size else 1.0
    axes.set_ylim(-max(limit, 1e-3), max(limit, 1e-3))
    axes.yaxis.set_major_locator(MaxNLocator(5, symmetric=True))
    plain_axes(axes, "rest-frame wavelength, air (Å)", "residual (%)")
