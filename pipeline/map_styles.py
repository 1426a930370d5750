"""How each quantity is drawn, wherever it is drawn: colours, limits, words. Pages, figures and `.plot()` share it.

Each quantity has a colour map of its own, told apart at a glance, also without colour vision: perceptually uniform, as
they are or as `even_colours` makes them. Velocities have two sides, each of which is.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from matplotlib.colors import ListedColormap, to_hex
from numpy.typing import NDArray

from galprote.pipeline.even_colours import even_colours
from galprote.pipeline.figure_labels import flux_label
from galprote.pipeline.quality import Kinds

#: Spaxels with data but without values, those under a mask, those whose fit is not trusted, or doubtful.
UNFITTED_COLOUR, MASKED_COLOUR, UNTRUSTED_COLOUR, DOUBTFUL_COLOUR = "#dcdcdc", "#a6a6a6", "#6b6b6b", "#d55e00"
INK: Final = "#222222"


@dataclass(frozen=True)
class MapStyle:
    """How a map (`name` in the store) is drawn: `title` above it, `label` at its colour bar.

    Attributes
    ----------
    name, title : str
    label : str
        As matplotlib sets it; empty: the flux unit of the cube (`label_for`).
    colours : str
        A colour map of matplotlib's, which is made even.
    span : (float, float)
        The part of it that does not look like a spaxel without values.
    empty : (float, float)
        Limits when there are no values.
    factor : float
        Leads from the store's unit to the label's.
    log, around_zero : bool
        Scale of the colours.
    fixed : bool
        The limits are always `empty`.
    complete : bool
        Shows every value there is, also of what is not trusted: what the others were found from.
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
    fixed: bool = False
    complete: bool = False

    def colour_map(self) -> ListedColormap:
        """256 colours."""
        return ListedColormap(even_colours(self.colours, self.span))

    def palette(self) -> list[str]:
        """256 colours as ``#rrggbb``."""
        return [to_hex(colour) for colour in even_colours(self.colours, self.span)]

    def values(self, values: NDArray[Any], status: NDArray[Any] | None) -> NDArray[np.floating[Any]]:
        """Values (y, x) in the label's unit; NaN where they are not shown: not trusted, or not positive on a log scale.

        Of a `complete` map everything is shown.
        """
        shown = np.asarray(values, dtype=np.result_type(values, np.float32)) * np.float32(self.factor)
        if status is not None and not self.complete:
            shown = np.where(Kinds.of(status).untrusted, np.float32(np.nan), shown)
        return np.where(np.isfinite(shown) & ((shown > 0) | (not self.log)), shown, np.float32(np.nan))

    def limits(self, values: NDArray[np.floating[Any]]) -> tuple[float, float]:
        """Ends of the colours, from what `values` gives."""
        if self.fixed:
            return self.empty
        low, high = log_limits(values, self.empty) if self.log else nice_limits(values, self.empty)
        return (-max(abs(low), abs(high)), max(abs(low), abs(high))) if self.around_zero else (low, high)

    def label_for(self, about: Mapping[str, Any]) -> str:
        """The colour bar's label for matplotlib, given the attributes of a store: its flux unit is that of the cube."""
        return self.label or flux_label(str(about.get("flux_unit", "")))

    def plain_label(self, about: Mapping[str, Any]) -> str:
        """The same in Unicode, for pages."""
        text = self.label or str(about.get("flux_unit", ""))
        for mathtext, plain in _PLAIN:
            text = text.replace(mathtext, plain)
        return text.replace("  ", " ")


_PLAIN: Final = (
    (r"$\log_{10}$", "log₁₀"), ("$A_V$", "Aᵥ"), (r"$1\sigma$", "1σ"), (r"$\sigma$", "σ"), ("$V$", "V"),
    (r"$M_\odot$", "M☉"), (r"$L_{\odot,V}$", "L☉,ᵥ"), ("$^{-2}$", "⁻²"), ("$t_{50}$", "t₅₀"), ("$t_{90}$", "t₉₀"),
)  # fmt: skip


def _error(name: str, title: str, unit: str) -> MapStyle:
    return MapStyle(f"{name}_error", f"Error of {title}", rf"$1\sigma$  ({unit})", "YlGnBu", (0.1, 1.0))


_LIST: Final = (
    MapStyle("age_lw", "Age", r"$\log_{10}$ (age / yr)", "plasma", (0.0, 0.95), (8.0, 10.0)),
    _error("age_lw", "age", "dex"),
    MapStyle("metallicity_lw", "Metallicity", "[M/H]  (dex)", "viridis", empty=(-1.0, 0.5)),
    _error("metallicity_lw", "metallicity", "dex"),
    MapStyle("av", "Dust attenuation", r"$A_V$  (mag)", "magma_r", (0.08, 0.95)),
    _error("av", "attenuation", "mag"),
    MapStyle("ebv_stars", "Reddening", "E(B-V)  (mag)", "magma_r", (0.08, 0.95)),
    _error("ebv_stars", "reddening", "mag"),
    MapStyle("age_mw", "Age, by mass", r"$\log_{10}$ (age / yr)", "plasma", (0.0, 0.95), (8.0, 10.0)),
    _error("age_mw", "age by mass", "dex"),
    MapStyle("metallicity_mw", "Metallicity, by mass", "[M/H]  (dex)", "viridis", empty=(-1.0, 0.5)),
    _error("metallicity_mw", "metallicity by mass", "dex"),
    MapStyle("mass_to_light", "Mass to light", r"$M_\odot$ / $L_{\odot,V}$", "BuPu", (0.1, 1.0), (0.0, 4.0)),
    _error("mass_to_light", "mass to light", r"$M_\odot$ / $L_{\odot,V}$"),
    MapStyle("stellar_mass_density", "Stellar mass density", r"$M_\odot$ pc$^{-2}$", "YlOrBr", (0.1, 1.0), (1.0, 10.0),
             log=True),
    replace(_error("stellar_mass_density", "mass density", r"$M_\odot$ pc$^{-2}$"), log=True, empty=(1.0, 10.0)),
    MapStyle("t50", "Half of the mass formed", "$t_{50}$  (Gyr ago)", "plasma", (0.0, 0.95), (0.0, 14.0)),
    MapStyle("t90", "90 % of the mass formed", "$t_{90}$  (Gyr ago)", "plasma", (0.0, 0.95), (0.0, 14.0)),
    MapStyle("trust", "Trust", "share of spectra as odd", "cividis", fixed=True, complete=True),
    MapStyle("flux", "Flux", "", "gray_r", (0.08, 1.0), (1.0, 10.0), log=True, complete=True),
    MapStyle("snr", "Signal to noise", "S/N per 2.48 Å", "cividis", empty=(1.0, 10.0), log=True, complete=True),
    MapStyle("noise_scale", "Noise scale", "scatter of residuals / noise", "Purples", (0.15, 1.0), (0.5, 2.0)),
    MapStyle("residual_rms", "Residuals", "rms / flux  (%)", "Purples", (0.15, 1.0), (0.0, 10.0), 100.0),
    MapStyle("filled_fraction", "Samples without data", "filled  (%)", "Purples", (0.15, 1.0), (0.0, 10.0), 100.0),
    MapStyle("replaced_samples", "Samples replaced", "by the line filter", "Purples", (0.15, 1.0), (0.0, 10.0)),
    MapStyle("bin_id", "Bin", "number", "viridis", complete=True),
    MapStyle("bin_spaxels", "Spaxels in the bin", "number", "Blues", (0.15, 1.0), (1.0, 10.0), log=True, complete=True),
    MapStyle("bin_snr", "Signal to noise of the bin", "S/N per channel", "cividis", empty=(1.0, 10.0), log=True,
             complete=True),
    MapStyle("spaxel_flux", "Flux of the spaxel", "", "gray_r", (0.08, 1.0), (1.0, 10.0), log=True, complete=True),
    MapStyle("spaxel_snr", "Signal to noise of the spaxel", "S/N per channel", "cividis", empty=(1.0, 10.0), log=True,
             complete=True),
    MapStyle("v_stars", "Velocity", r"$V$  (km/s)", "RdYlBu_r", (0.02, 0.98), (-100.0, 100.0), around_zero=True),
    _error("v_stars", "velocity", "km/s"),
    MapStyle("sigma_stars", "Dispersion", r"$\sigma$  (km/s)", "inferno", (0.05, 0.95), (0.0, 100.0)),
    _error("sigma_stars", "dispersion", "km/s"),
)  # fmt: skip

#: Every map but `status` (which has the colours above), by its name.
STYLES: Final[Mapping[str, MapStyle]] = {style.name: style for style in _LIST}


def style_of(name: str, attributes: Mapping[str, Any] | None = None) -> MapStyle:
    """The style of a map; of one that galprote does not make, a plain one with its attributes' words.

    Parameters
    ----------
    name : str
    attributes : mapping, optional
        Of the map: `long_name` and `units`.
    """
    if name in STYLES:
        return STYLES[name]
    about = attributes or {}
    unit = str(about.get("units", "")).replace("$", r"\$")
    words = str(about.get("long_name", name)).replace("$", r"\$")
    return MapStyle(name, name, f"{words}  ({unit})" if unit else words, "viridis")


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
