"""A map as a picture: SVG with the values as an image inside, a colour bar, a scale bar and a compass.

Written here rather than by matplotlib: a page has a dozen, each is then made in milliseconds and stays sharp in print.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from xml.sax.saxutils import escape

import numpy as np
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from galprote.pipeline.map_panel import ASPECTS, log_ticks, sky_directions
from galprote.pipeline.map_styles import INK, STYLES, MapStyle
from galprote.pipeline.map_wcs import LENGTHS, read_wcs
from galprote.pipeline.quality import Status
from galprote.workflows.report.galaxy_maps import GalaxyMaps
from galprote.workflows.report.hatching import Thinned, colour_strip, paint_map, thin
from galprote.workflows.report.limits import LIMITS
from galprote.workflows.report.words import flux_words, number_words

#: Maps of a page, in their order; those that a galaxy does not have are left out.
ON_PAGE: Final = (
    "age_lw", "metallicity_lw", "av", "age_lw_error", "metallicity_lw_error", "av_error", "flux", "snr",
    "residual_rms", "stellar_mass_density", "trust", "v_stars", "sigma_stars", "v_stars_error", "bin_spaxels",
)  # fmt: skip

#: Pixels of the picture: its width, the largest height of the map, the rows below it.
WIDTH: Final = 360
FONT: Final = "font-family=\"'DejaVu Sans',Verdana,Helvetica,Arial,sans-serif\""
HIGHEST: Final = 420
_SKY, _BAR, _LABELS = 46, 14, 38


@dataclass(frozen=True)
class MapPicture:
    """A picture of a map.

    Attributes
    ----------
    title : str
    svg : str
    words : str
        What it shows, for who cannot see it.
    """

    title: str
    svg: str
    words: str


@dataclass(frozen=True)
class Frame:
    """The part of a galaxy's maps that pictures show, in spaxels, and its size in pixels of the picture."""

    left: float
    bottom: float
    nx: float
    ny: float
    width: float
    height: float

    @property
    def scale(self) -> float:
        """Pixels of the picture for a spaxel."""
        return self.width / self.nx


def map_pictures(galaxy: GalaxyMaps) -> Iterator[MapPicture]:
    """Draw a galaxy's maps, one after the other: only one is in memory."""
    data = (galaxy.status & Status.NO_DATA) == 0
    maps, frame = thin(galaxy.kinds, data), plan_frame(data)
    sky = _sky(galaxy, frame)
    for name in ON_PAGE:
        values = galaxy.read(name)
        if values is not None:
            yield _picture(galaxy, STYLES[name], values, maps, frame, sky)
    yield _flags(galaxy, maps, frame, sky)


def thumbnail(galaxy: GalaxyMaps, name: str, pixels: int = 112) -> str:
    """A small picture of a map on its common scale, without a frame: a PNG data URI, empty without values."""
    values, style = galaxy.read(name), STYLES[name]
    if values is None:
        return ""
    rows, columns = _around((galaxy.status & Status.NO_DATA) == 0)
    cut = (slice(*rows), slice(*columns))
    kinds = type(galaxy.kinds)(*(kind[cut] for kind in galaxy.kinds))
    data = (galaxy.status[cut] & Status.NO_DATA) == 0
    maps = thin(kinds, data, pixels)
    shown = maps.mean(style.values(values[cut], galaxy.status[cut]).astype(np.float32))
    return paint_map(shown, style, LIMITS[name], maps, pixels)


def plan_frame(data: NDArray[np.bool_]) -> Frame:
    """Choose what pictures show: the spaxels (y, x) with data, and space around maps that are very flat or slim."""
    (bottom, top), (left, right) = _around(data)
    nx, ny = 1.03 * (right - left), 1.03 * (top - bottom)
    nx, ny = max(nx, ny / ASPECTS[1]), max(ny, nx * ASPECTS[0] / 2)
    nx = max(nx, ny * WIDTH / HIGHEST)
    return Frame((left + right - nx) / 2, (bottom + top - ny) / 2, nx, ny, WIDTH, WIDTH * ny / nx)


def _around(data: NDArray[np.bool_]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns with data, each as first and one after the last; all if there are none."""
    seen = data if data.any() else np.ones_like(data)
    rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    return (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)


def _picture(
    galaxy: GalaxyMaps, style: MapStyle, values: NDArray[np.float32], maps: Thinned, frame: Frame, sky: str
) -> MapPicture:
    shown = style.values(values, galaxy.status).astype(np.float32)
    counted = shown[np.isfinite(shown)]
    limits = LIMITS.get(style.name) or style.limits(counted)
    label = style.plain_label(galaxy.about) if style.label else flux_words(str(galaxy.about["flux_unit"]))
    image = paint_map(maps.mean(shown), style, limits, maps)
    low, middle, high = np.percentile(counted, (16, 50, 84)) if counted.size else 3 * [np.nan]
    words = f"Map of {style.title.lower()}, {label}"
    numbers = (number_words(float(value)) for value in (middle, low, high))
    words += ": median {}, 16 to 84 % of the spaxels: {} to {}".format(*numbers) if counted.size else ": no values"
    body = _image(image, maps, frame) + sky + _bar(style, limits, label, counted, frame.height + _SKY)
    if not counted.size:
        body += f'<text x="{WIDTH / 2}" y="{frame.height / 2:.1f}" text-anchor="middle">no values</text>'
    return MapPicture(style.title, _svg(body, frame.height + _SKY + _BAR + _LABELS), words)


def _flags(galaxy: GalaxyMaps, maps: Thinned, frame: Frame, sky: str) -> MapPicture:
    """What is good, and what is not for which reason."""
    counts = galaxy.counts()
    words = f"Map of flags: {counts['good']:,} spaxels good" + "".join(
        f", {counts[kind]:,} {label}"
        for kind, label in (("doubtful", "of them doubtful"), ("untrusted", "not trusted"), ("masked", "masked"),
                            ("unfitted", "not fitted")) if counts[kind]
    )  # fmt: skip
    image = _image(paint_map(None, STYLES["snr"], (1.0, 10.0), maps), maps, frame)
    return MapPicture("Flags", _svg(image + sky, frame.height + _SKY + _BAR + _LABELS), words)


def _svg(body: str, height: float) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + 16}" height="{height + 4:.0f}" '
        f'viewBox="-8 -2 {WIDTH + 16} {height + 4:.0f}" {FONT} font-size="12.5" fill="{INK}">{body}</svg>'
    )


def _image(image: str, maps: Thinned, frame: Frame) -> str:
    """The values, and a frame around them."""
    ny, nx = (size * maps.step for size in maps.data.shape)
    x, y = -frame.left * frame.scale, frame.height - (ny - frame.bottom) * frame.scale
    return (
        f'<svg width="{frame.width}" height="{frame.height:.2f}"><image x="{x:.2f}" y="{y:.2f}" '
        f'width="{nx * frame.scale:.2f}" height="{ny * frame.scale:.2f}" preserveAspectRatio="none" '
        f'href="{image}"/></svg>'
        f'<rect width="{frame.width}" height="{frame.height:.2f}" fill="none" stroke="#8a8a8a"/>'
    )


def _bar(style: MapStyle, limits: tuple[float, float], label: str, values: NDArray[Any], top: float) -> str:
    """The colour bar with its ticks, pointed where values lie beyond its ends."""
    low, high = (np.log10(limits[0]), np.log10(limits[1])) if style.log else limits
    palette, half = style.palette(), _BAR / 2
    parts = [
        f'<image x="10" y="{top:.1f}" width="{WIDTH - 20}" height="{_BAR}" preserveAspectRatio="none" '
        f'href="{colour_strip(style)}"/>'
    ]
    if (values < limits[0]).any():
        parts.append(f'<path d="M10 {top:.1f}v{_BAR}l-10 -{half}z" fill="{palette[0]}" stroke="{INK}"/>')
    if (values > limits[1]).any():
        parts.append(f'<path d="M{WIDTH - 10} {top:.1f}v{_BAR}l10 -{half}z" fill="{palette[-1]}" stroke="{INK}"/>')
    parts.append(f'<rect x="10" y="{top:.1f}" width="{WIDTH - 20}" height="{_BAR}" fill="none" stroke="#8a8a8a"/>')
    for tick in ticks(limits, log=style.log):
        x = 10 + (WIDTH - 20) * ((np.log10(tick) if style.log else tick) - low) / (high - low)
        parts.append(f'<path d="M{x:.1f} {top + _BAR:.1f}v4" stroke="{INK}"/>')
        words = escape(number_words(tick))
        parts.append(f'<text x="{x:.1f}" y="{top + _BAR + 16:.1f}" text-anchor="middle">{words}</text>')
    words = escape(f"{label} (log)" if style.log else label)
    parts.append(f'<text x="{WIDTH / 2}" y="{top + _BAR + 34:.1f}" text-anchor="middle">{words}</text>')
    return "".join(parts)


def ticks(limits: tuple[float, float], *, log: bool) -> list[float]:
    """Round numbers between two limits."""
    found = log_ticks(limits) if log else MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(*limits)
    inside = [float(tick) for tick in found if limits[0] * (1 - 1e-9) - 1e-9 <= tick <= limits[1] * (1 + 1e-9) + 1e-9]
    return inside if len(inside) > 1 or not log else [float(f"{end:.2g}") for end in limits]


def _sky(galaxy: GalaxyMaps, frame: Frame) -> str:
    """A scale bar and a compass below the map; without a WCS, a bar in spaxels."""
    wcs = read_wcs(str(galaxy.about["wcs_header"])) if galaxy.about.get("wcs_header") else None
    middle, top = frame.height + 24, frame.height
    if wcs is None:
        length = max(n for n in (1, *LENGTHS) if n >= 1 and n <= max(1.0, 0.35 * frame.nx))
        words, pixels = f"{length:g} spaxels" if length > 1 else "1 spaxel", length * frame.scale
        place = f'<text x="{WIDTH}" y="{middle + 4:.1f}" text-anchor="end" font-size="11">no sky coordinates</text>'
        return _scale_bar(pixels, words, middle) + place
    arcsec = float(np.mean(proj_plane_pixel_scales(wcs))) * 3600
    length = max((n for n in LENGTHS if n <= 0.35 * frame.nx * arcsec), default=LENGTHS[0])
    words = f"{length:g}″" if length < 60 else f"{length / 60:g}′"
    return _scale_bar(length / arcsec * frame.scale, words, middle) + _compass(wcs, frame, top)


def _scale_bar(pixels: float, words: str, middle: float) -> str:
    line = f'<path d="M2 {middle - 4:.1f}v8m0 -4h{pixels:.2f}m0 -4v8" stroke="{INK}" stroke-width="2" fill="none"/>'
    return f'{line}<text x="{pixels + 8:.1f}" y="{middle + 4:.1f}">{escape(words)}</text>'


def _compass(wcs: WCS, frame: Frame, top: float) -> str:
    """Arrows to north and east, in a box below the map's right corner."""
    directions = sky_directions(wcs, frame.left + frame.nx / 2, frame.bottom + frame.ny / 2)
    arrows = [(19 * float(x), -19 * float(y)) for x, y in directions]  # SVG counts y downwards
    ends = np.array([*arrows, (0.0, 0.0)])
    centre = (ends.max(axis=0) + ends.min(axis=0)) / 2
    x0, y0 = WIDTH - 22 - centre[0], top + 24 - centre[1]
    parts = []
    for letter, (x, y) in zip("NE", arrows, strict=True):
        across, along = (-y / 19, x / 19), (x / 19, y / 19)
        tip = (x0 + x, y0 + y)
        sides = [
            (tip[0] - 6 * along[0] + s * 3.2 * across[0], tip[1] - 6 * along[1] + s * 3.2 * across[1]) for s in (1, -1)
        ]
        points = " ".join(f"{px:.1f},{py:.1f}" for px, py in (tip, *sides))
        parts.append(f'<path d="M{x0:.1f} {y0:.1f}L{tip[0]:.1f} {tip[1]:.1f}" stroke="{INK}" stroke-width="1.6"/>')
        parts.append(f'<polygon points="{points}"/>')
        at = (tip[0] + 8 * along[0], tip[1] + 8 * along[1])
        parts.append(f'<text x="{at[0]:.1f}" y="{at[1] + 4:.1f}" text-anchor="middle" font-size="11">{letter}</text>')
    return "".join(parts)
