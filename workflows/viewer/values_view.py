"""The numbers of a selection as HTML."""

import math
from collections.abc import Sequence
from html import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray

from galprote.pipeline.map_styles import style_of
from galprote.pipeline.quality import Status
from galprote.workflows.report.words import flux_words
from galprote.workflows.viewer.selection import Selection
from galprote.workflows.viewer.stored import StoredGalaxy
from galprote.workflows.viewer.values import Numbers, flag_counts

#: Units as the table writes them.
UNITS: Final = {
    "dex(yr)": "dex", "solMass / solLum": "M☉/L☉", "solMass / pc2": "M☉/pc²", "km / s": "km/s",
}  # fmt: skip
#: Short names for the table; other maps have the titles of their styles.
NAMES: Final = {
    "age_lw": "log age", "age_mw": "log age (mass)", "metallicity_lw": "[M/H]", "metallicity_mw": "[M/H] (mass)",
    "av": "Aᵥ", "ebv_stars": "E(B−V)", "mass_to_light": "M/Lᵥ", "stellar_mass_density": "mass density",
    "t50": "t50", "t90": "t90", "snr": "S/N", "residual_rms": "residual rms", "filled_fraction": "filled fraction",
    "replaced_samples": "replaced", "noise_scale": "noise scale", "trust": "trust", "flux": "flux",
}  # fmt: skip

REGION_HEADS: Final = ["", "mean", "median", "scatter", ""]
COMPARED_HEADS: Final = ["", "A", "B", "A − B", ""]
COMPARED_MEANS: Final = ["", "mean A", "mean B", "A − B", ""]
#: Characters of a unit that the table has room for.
ROOM: Final = 8


def number(value: float, error: float = math.nan) -> str:
    """Write a value with as many digits as its error has a meaning for; without an error four."""
    if not math.isfinite(value):
        return "–"
    if math.isfinite(error) and error > 0:
        digits = max(0, 1 - math.floor(math.log10(error)))
        text = f"{value:,.{min(digits, 6)}f} ± {error:,.{min(digits, 6)}f}"
    elif value == round(value) and abs(value) < 1e7:
        text = f"{value:,.0f}"
    else:
        text = (
            f"{value:.4g}"
            if 1e-3 <= abs(value) < 1e3
            else f"{value:,.0f}"
            if 1e3 <= abs(value) < 1e7
            else _power(value)
        )
    return text.replace("-", "\N{MINUS SIGN}")


def _power(value: float) -> str:
    """A very large or small number, no wider than a column."""
    digits, power = f"{value:.2e}".split("e")
    return f"{digits}e{int(power)}"


def alike(values: Sequence[float], error: float = math.nan) -> list[str]:
    """Write numbers of one quantity with the same decimals: as many as `error`, or else the largest, has a use for."""
    size = max((abs(value) for value in values[:2] if math.isfinite(value)), default=0.0)
    if size and not 1e-3 <= size < 1e7:
        return [number(value) for value in values]
    scale = error / 10 if math.isfinite(error) and error > 0 else max(size, 1.0) / 1e3
    digits = min(max(0, -math.floor(math.log10(scale))), 4)
    whole = all(value == round(value) for value in values if math.isfinite(value))
    digits = 0 if whole else digits
    texts = [f"{round(value, digits) + 0.0:,.{digits}f}" if math.isfinite(value) else "–" for value in values]
    return [text.replace("-", "\N{MINUS SIGN}") for text in texts]


def title(galaxy: StoredGalaxy, selection: Selection) -> str:
    """Name a selection."""
    count = len(selection)
    if selection.kind == "spaxel":
        words = f"Spaxel y {selection.y[0]}, x {selection.x[0]}"
        if galaxy.wcs is not None:
            sky = galaxy.wcs.pixel_to_world(int(selection.x[0]), int(selection.y[0])).icrs
            words += f" · RA {sky.ra.deg:.5f}°, Dec {sky.dec.deg:+.5f}°".replace("-", "\N{MINUS SIGN}")
        return words
    if selection.kind == "bin":
        return f"Bin {galaxy.map('bin_id')[selection.y[0], selection.x[0]]} · {count:,} spaxels"
    of_bins = f" in {selection.bins:,} bins" if selection.bins else ""
    few = f" (one in {selection.step} rows and columns stands for all)" if selection.step > 1 else ""
    return f"Region of {count * selection.step**2:,} spaxels{of_bins}{few}"


def table(
    galaxy: StoredGalaxy, selection: Selection, numbers: Sequence[Numbers], others: Sequence[Numbers], hidden: int
) -> str:
    """The numbers as a table, and the flags."""
    other = {found.name: found for found in others}
    if others:
        heads = COMPARED_HEADS if selection.single else COMPARED_MEANS
    else:
        heads = ["", "value", ""] if selection.single else REGION_HEADS
    rows = "".join(_row(galaxy, selection, found, other) for found in numbers)
    status = galaxy.map("status")[selection.y, selection.x]
    used = int(np.count_nonzero((status & hidden) == 0))
    read = " that were read" if selection.step > 1 else ""
    words = "All spaxels count." if used == len(selection) else f"{used:,} of {len(selection):,} spaxels{read} count."
    count = "" if selection.single else f'<p id="used">{words}</p>'
    head = "".join(f"<th>{word}</th>" for word in heads)
    values = f'<div class="values"><table class=values><tr>{head}</tr>{rows}</table></div>'
    return f"{count}{values}{_flux_words(galaxy, numbers)}{flags(status, single=selection.single)}"


def _flux_words(galaxy: StoredGalaxy, numbers: Sequence[Numbers]) -> str:
    """The unit of fluxes, which is too long for the table."""
    if not any(str(galaxy.attributes(found.name).get("units", "")) and not _unit(galaxy, found.name)
               for found in numbers):  # fmt: skip
        return ""
    return f"<p>flux in {escape(flux_words(str(galaxy.about.get('flux_unit', ''))))}</p>"


def _unit(galaxy: StoredGalaxy, name: str) -> str:
    """A unit as the table has room for it; '' of one that is longer."""
    unit = str(galaxy.attributes(name).get("units", ""))
    return UNITS.get(unit, unit if len(unit) < ROOM else "")


def _row(galaxy: StoredGalaxy, selection: Selection, found: Numbers, other: dict[str, Numbers]) -> str:
    about = galaxy.attributes(found.name)
    name = NAMES.get(found.name, style_of(found.name, about).title)
    unit = str(about.get("units", ""))
    short = _unit(galaxy, found.name)
    help_text = escape(
        f"{about.get('long_name', '')} ({unit})" if unit else str(about.get("long_name", "")), quote=True
    )
    first = f'<td title="{help_text}">{escape(name)}</td>'
    if other:
        cells = [*_compared(found, other.get(found.name)), escape(short)]
    elif selection.single:
        cells = [number(found.value, found.error), escape(short)]
    else:
        cells = [*alike([found.value, found.median, found.scatter], found.scatter), escape(short)]
    return (
        f'<tr data-map="{escape(found.name, quote=True)}">{first}{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
    )


def _compared(found: Numbers, other: Numbers | None) -> list[str]:
    """A, B and A - B; errors below them, but not of the difference: two runs share the noise of their cube."""
    if other is None:
        return [*_below(alike([found.value], found.error), [found.error]), "–", "–"]
    texts = alike([found.value, other.value, found.value - other.value], found.error)
    return [*_below(texts[:2], [found.error, other.error]), texts[2]]


def _below(texts: Sequence[str], errors: Sequence[float]) -> list[str]:
    """Values with their errors in a second line."""
    return [
        text + (f"<small>{escape(f'± {error:,.2g}')}</small>" if math.isfinite(error) and text != "–" else "")
        for text, error in zip(texts, errors, strict=True)
    ]


def flags(status: NDArray[np.int32], *, single: bool) -> str:
    """The status bits of a selection, counted."""
    counts = flag_counts(status)
    if not counts:
        return "<p class=flags>No flags.</p>"
    words = ", ".join(flag_word(bit) + ("" if single else f" {count:,}") for bit, count in counts.items())
    return f"<p class=flags><b>Flags</b> {words}</p>"


def flag_word(bit: Status) -> str:
    """A bit in words."""
    return str(bit.name).lower().replace("_", " ")
