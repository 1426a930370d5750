"""Columns of a table -> a spectrum, by the names that people give them."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from galprote.model.errors import SpectrumError
from galprote.pipeline.readers.axis import Medium
from galprote.pipeline.readers.layouts.raw import RawSpectrum, plain, variance_of_inverse, variance_of_sigma

WAVELENGTH: Final = re.compile(
    r"(obs_)?(wave(length)?s?|lambda|lam|wl|awav)(_?(air|vac(uum)?|obs|aa|angstroms?))?|(air|vac)_?wave"
)
LOGARITHM: Final = re.compile(r"log(10)?_?(lam(bda)?|wave(length)?)")
FLUX: Final = re.compile(r"flux(es)?|f_?lam(bda)?|flux_?(density|lambda)|spec(trum)?")
INVERSE: Final = re.compile(r"ivar|inv_?var(iance)?|inverse_variance|flux_ivar")
VARIANCE: Final = re.compile(r"var(iance)?|stat|flux_?var(iance)?")
SIGMA: Final = re.compile(
    r"(flux_?)?(err(or)?s?|sigma|noise|std(dev)?|unc(ertainty)?)|(e|d|err|error|sigma|unc)_?(flux|flam)|std_dev"
)
MASK: Final = re.compile(r"(and_?)?mask|qual(ity)?|flags?|dq|bad")

#: Columns without a header, in this order.
USUAL: Final = ("wavelength", "flux", "error", "mask")

_FROM: Final[dict[str, tuple[re.Pattern[str], Callable[[Any], NDArray[np.float64]]]]] = {
    "inverse variance": (INVERSE, variance_of_inverse),
    "variance": (VARIANCE, plain),
    "standard deviation": (SIGMA, variance_of_sigma),
}


def clean_name(name: str) -> str:
    """A column's name without its unit in brackets, in lower case, with single underscores."""
    return re.sub(r"[\W_]+", "_", re.sub(r"[\[(].*?[\])]", "", name).strip().lower()).strip("_")


def bracketed_unit(name: str) -> str:
    """The unit that a column's name has in brackets; '' without one."""
    found = re.search(r"[\[(](.*?)[\])]", name)
    return found.group(1).strip() if found else ""


def has_spectrum(names: list[str]) -> bool:
    """Whether columns of these names are a spectrum."""
    return bool(wavelength_columns(names)) and any(FLUX.fullmatch(clean_name(name)) for name in names)


def wavelength_columns(names: list[str]) -> list[str]:
    """Those of the names that can be the wavelength, or its logarithm."""
    return [name for name in names if any(kind.fullmatch(clean_name(name)) for kind in (WAVELENGTH, LOGARITHM))]


def spectrum_of_columns(
    layout: str, columns: Mapping[str, Any], units: Mapping[str, str], medium: Medium | None, source: str
) -> RawSpectrum:
    """Make a spectrum of named columns.

    Parameters
    ----------
    layout : str
    columns : mapping
        (m,) numbers by the names of the file.
    units : mapping
        Units by the same names, where the file has them elsewhere than in a name's brackets.
    medium : {"air", "vacuum"} or None
        What the file says besides the names, such as ``wave_vac``.
    source : str
        Where it says so.

    Raises
    ------
    SpectrumError
        If there is no wavelength or no flux among them, or more than one, or a unit is no length.
    """
    names = {name: clean_name(name) for name in columns}
    wave = _only(wavelength_columns(list(names)), "wavelength", columns)
    flux = _only([name for name, cleaned in names.items() if FLUX.fullmatch(cleaned)], "flux", columns)
    values, notes = plain(columns[wave]), []
    unit = units.get(wave, "") or bracketed_unit(wave)
    if LOGARITHM.fullmatch(names[wave]):
        values = 10.0**values
        unit = "Angstrom"
    if not unit:
        notes.append(f"column {wave} has no unit: Angstrom assumed")
    named: Medium | None = "vacuum" if "vac" in names[wave] else "air" if "air" in names[wave] else None
    variance, mask = None, next((name for name, cleaned in names.items() if MASK.fullmatch(cleaned)), None)
    for kind, (pattern, convert) in _FROM.items():
        found = next((name for name, cleaned in names.items() if pattern.fullmatch(cleaned)), None)
        if found is not None:
            variance = convert(columns[found])
            notes.append(f"column {found} is taken to be the {kind}")
            break
    return RawSpectrum(
        layout=layout,
        wavelength=values * _angstroms(unit, wave),
        flux=plain(columns[flux]),
        variance=variance,
        bad=None if mask is None else np.nan_to_num(plain(columns[mask])) != 0,
        medium=named or medium,
        medium_source=f"column {wave}" if named else source,
        unit=units.get(flux, "") or bracketed_unit(flux),
        notes=tuple(notes),
    )


def _only(found: list[str], what: str, columns: Mapping[str, Any]) -> str:
    if len(found) == 1:
        return found[0]
    problem = f"columns {', '.join(found)} may all be the {what}" if found else f"no column is named as the {what}"
    raise SpectrumError(
        f"{problem}; found {', '.join(columns)}: rename them wavelength, flux and error (or ivar, variance, mask)"
    )


def _angstroms(unit: str, name: str) -> float:
    spelled = {"a": "Angstrom", "aa": "Angstrom", "ang": "Angstrom", "angstroms": "Angstrom"}.get(unit.lower(), unit)
    try:
        return float(u.Unit(spelled or "Angstrom").to(u.AA))
    except (ValueError, TypeError, u.UnitConversionError) as error:
        raise SpectrumError(f"column {name} has the unit '{unit}': expected Angstrom, nm or um") from error
