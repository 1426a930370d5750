"""Histograms and radial profiles of a galaxy."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from galprote.pipeline.map_styles import INK, STYLES, MapStyle
from galprote.workflows.report.axes import Axes
from galprote.workflows.report.galaxy_maps import GalaxyMaps, percentiles
from galprote.workflows.report.limits import LIMITS
from galprote.workflows.report.radial import Profile
from galprote.workflows.report.words import fixed_words, number_words

#: Maps with a histogram.
HISTOGRAMS: Final = ("age_lw", "metallicity_lw", "av", "snr", "residual_rms", "stellar_mass_density")
CELLS: Final = 60


@dataclass(frozen=True)
class Chart:
    """A chart: its title, SVG, and what it shows, for who cannot see it."""

    title: str
    svg: str
    words: str


def histograms(galaxy: GalaxyMaps) -> list[Chart]:
    """Distributions of what the good spaxels have."""
    return [chart for name in HISTOGRAMS if (chart := _histogram(galaxy, STYLES[name])) is not None]


def _histogram(galaxy: GalaxyMaps, style: MapStyle) -> Chart | None:
    values = galaxy.good_values(style.name).astype(np.float64) * style.factor
    values = values[values > 0] if style.log else values
    if not values.size:
        return None
    limits = LIMITS.get(style.name) or style.limits(values)
    ends = np.log10(limits) if style.log else np.array(limits)
    cells = np.linspace(ends[0], ends[1], CELLS + 1)
    counts, _ = np.histogram(np.clip(np.log10(values) if style.log else values, cells[0], cells[-1]), cells)
    share = 100 * counts / len(values)
    edges = 10**cells if style.log else cells
    axes = Axes((float(edges[0]), float(edges[-1])), (0.0, 1.08 * float(share.max())), x_log=style.log)
    x, y = np.repeat(edges, 2), np.concatenate([[0.0], np.repeat(share, 2), [0.0]])
    low, middle, high = percentiles(values)
    marks = [axes.area(x, y), axes.line(x, y, 1.1), axes.line([middle, middle], axes.y, 1.5, INK)]
    marks += [axes.line([end, end], axes.y, 1.1, INK, "5 3") for end in (low, high)]
    write = fixed_words if not style.log and max(-low, high) < 100 else number_words
    numbers = f"{write(middle)} ({write(low)} to {write(high)})"
    beyond = float(((values < limits[0]) | (values > limits[1])).mean())
    note = f"; {100 * beyond:.1f} % lie beyond the ends and are counted there" if beyond > 0.0005 else ""
    words = f"Histogram of {style.title.lower()}: median and 16 to 84 %: {numbers}{note}"
    svg = axes.chart(marks, style.plain_label(galaxy.about), "spaxels (%)", numbers)
    return Chart(style.title, svg, words)


def profile_charts(profiles: list[Profile]) -> list[Chart]:
    """Radial profiles: medians, 16 to 84 % of the spaxels as a band."""
    return [_profile(profile) for profile in profiles]


def _profile(profile: Profile) -> Chart:
    style = STYLES[profile.name]
    known = np.isfinite(profile.median)
    radius = profile.radius[known]
    median, low, high = (values[known] * style.factor for values in (profile.median, profile.low, profile.high))
    log = style.log and bool((low > 0).all())
    bottom, top = float(low.min()), float(high.max())
    room = max(0.06 * (top - bottom), 1e-6 * max(abs(top), abs(bottom)), 1e-9)
    ends = (bottom / 1.15, top * 1.15) if log else (bottom - room, top + room)
    axes = Axes((0.0, 1.04 * float(radius.max())), ends, y_log=log)
    marks = [
        axes.area(np.concatenate([radius, radius[::-1]]), np.concatenate([low, high[::-1]])),
        axes.line(radius, median),
        axes.dots(radius, median),
    ]
    words = (
        f"Radial profile of {style.title.lower()}: median {number_words(float(median[0]))} at the centre, "
        f"{number_words(float(median[-1]))} at {number_words(float(radius[-1]))} {profile.unit}"
    )
    return Chart(style.title, axes.chart(marks, f"radius ({profile.unit})", style.plain_label(profile.about)), words)
