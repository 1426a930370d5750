"""Units of other people's maps: into ours, each conversion in words, none in silence."""

import re
import warnings
from typing import Final

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from galprote.model.errors import ConfigError
from galprote.pipeline.compared_quantities import Quantity, logarithm

Array = NDArray[np.float64]

#: The largest log10(age / yr) that anyone's templates have; ages above `YOUNGEST` may be logarithms, or Gyr of an
#: early type; below `SURE` nobody can tell, above it our own ages may.
OLDEST, YOUNGEST, SURE = 10.35, 5.0, 6.5
_LOG: Final = re.compile(r"(?:log10|log|dex)\s*\(?\s*(?P<unit>[^()]*(?:\([^()]*\)[^()]*)*?)\s*\)?", re.IGNORECASE)
_SPELLINGS: Final = {"msun": "solMass", "m_sun": "solMass", "lsun": "solLum", "l_sun": "solLum"}
#: Units without which numbers are as they stand.
_PLAIN: Final = {"mag": u.mag, "km/s": u.km / u.s, "Gyr": u.Gyr}


def convert(
    quantity: Quantity, values: Array, error: Array, unit: str, ours: float = np.nan
) -> tuple[Array, Array, str]:
    """Turn a reference's map into the numbers that are compared.

    Parameters
    ----------
    quantity : Quantity
    values, error : (...) float64
        The error is NaN where it is not known.
    unit : str
        As the file or the user states it; '' if nobody does: then ages are told by their range, and all else is taken
        to be in our unit.
    ours : float
        Median of our own map in the compared numbers, which tells logarithms of ages from Gyr; NaN: not known.

    Returns
    -------
    values, error : (...) float64
    words : str
        What was done, or assumed; '' if nothing was.

    Raises
    ------
    ConfigError
        If the unit is not one of such a quantity, or that of ages cannot be told from the numbers.
    """
    stated = unit.strip().strip("[]")
    if quantity.name in ("age_lw", "age_mw"):
        if not _split(stated)[0]:
            values = np.where(values == 0, np.nan, values)  # fills what was not fitted
            stated = _age_unit(values, quantity.name, ours)
        values, error, words = _age(values, error, stated, quantity.name)
    elif quantity.name in ("metallicity_lw", "metallicity_mw"):
        values, error, words = _metallicity(values, error, unit, quantity.name)
    elif quantity.log:
        values, error, words = _logarithmic(quantity, values, error, stated)
    else:
        values, error, words = _scaled(quantity, values, error, stated)
    if unit.strip():
        return values, error, words
    default = {"stellar_mass_density": "solMass / pc2", "mass_to_light": "solMass / solLum"}.get(quantity.name)
    return (
        values,
        error,
        f"no unit in the file: taken as {stated or default or quantity.unit}" + (f"; {words}" if words else ""),
    )


def _age_unit(values: Array, name: str, ours: float) -> str:
    """The unit of ages of which nobody says it: what templates' ages, 0.001 to 14 Gyr, can only be in.

    7 to 10 are log10(age / yr) of a disc or Gyr of an early type: the former if our own median is at least twice as
    near to that.
    """
    known = values[np.isfinite(values)]
    if not known.size:
        return "log(yr)"
    low, high = float(known.min()), float(known.max())
    either = low >= YOUNGEST and high <= OLDEST
    middle = float(np.median(known))
    if either and low >= SURE and 2 * abs(middle - ours) <= abs(9 + np.log10(abs(middle)) - ours):
        return "log(yr)"
    if low < 0 and high <= OLDEST - 9:
        return "log(Gyr)"
    if low >= 0 and high <= 25.0 and not either:
        return "Gyr"
    if low >= 0 and high > 1e7:
        return "yr"
    raise ConfigError(
        f"reference: {name}: ages from {low:g} to {high:g} without a unit: say which, --unit {name}='log(yr)', "
        f"'log(Gyr)', Gyr, Myr or yr"
    )


def _age(values: Array, error: Array, unit: str, name: str) -> tuple[Array, Array, str]:
    inner, log = _split(unit)
    inner = re.sub(r"^(?:age|t)\s*/\s*", "", inner, flags=re.IGNORECASE)
    try:
        years = float(_unit(inner).to(u.yr))
    except (ValueError, u.UnitConversionError):
        raise _wrong(name, unit, "log(yr), log(Gyr), Gyr, Myr or yr") from None
    if log:
        shift = float(np.log10(years))
        return values + shift, error, f"log10(age / {inner}) + {shift:g}" if shift else ""
    values, error = logarithm(values * years, error * years)
    return values, error, f"log10 of an age in {inner}: the mean of ages is more than that of their logarithms"


def _metallicity(values: Array, error: Array, unit: str, name: str) -> tuple[Array, Array, str]:
    text = unit.replace(" ", "").replace("_", "").lower()
    if text in ("zsun", "z/zsun", "solar"):
        values, error = logarithm(values, error)
        return values, error, "log10 of Z / Z_sun"
    if text not in ("", "dex", "[m/h]", "[z/h]", "log(z/zsun)", "log10(z/zsun)", "dex(z/zsun)", "dex()"):
        raise _wrong(name, unit, "dex, [M/H], [Z/H], log(Z/Zsun) or Zsun")
    return values, error, ""


def _logarithmic(quantity: Quantity, values: Array, error: Array, unit: str) -> tuple[Array, Array, str]:
    """A surface density or mass-to-light ratio, linear or as a logarithm."""
    inner, log = _split(unit)
    ours = u.solMass / u.pc**2 if quantity.name == "stellar_mass_density" else u.solMass / u.solLum
    try:
        factor = float(_unit(inner).to(ours)) if inner else 1.0
    except (ValueError, u.UnitConversionError):
        raise _wrong(quantity.name, unit, f"{ours} or log({ours})") from None
    shift = float(np.log10(factor))
    words = f"log10 + {shift:g}, from {unit}" if shift else ""
    if not log:
        values, error = logarithm(values, error)
    return values + shift, error, words


def _scaled(quantity: Quantity, values: Array, error: Array, unit: str) -> tuple[Array, Array, str]:
    try:
        factor = float(_unit(unit).to(_PLAIN[quantity.unit])) if unit else 1.0
    except (ValueError, u.UnitConversionError):
        raise _wrong(quantity.name, unit, quantity.unit) from None
    return values * factor, error * factor, f"times {factor:g}, from {unit}" if factor != 1 else ""


def _split(unit: str) -> tuple[str, bool]:
    """What is in a logarithm, and whether it is one."""
    found = _LOG.fullmatch(unit.strip())
    return (found["unit"].strip(), True) if found else (unit.strip(), False)


def _unit(text: str) -> u.UnitBase:
    for spelling, name in _SPELLINGS.items():
        text = re.sub(rf"\b{spelling}\b", name, text, flags=re.IGNORECASE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # for example, about a second slash
        return u.Unit(text)


def _wrong(name: str, unit: str, wanted: str) -> ConfigError:
    return ConfigError(f"reference: {name}: unit {unit!r}: expected {wanted}; say which it is with --unit {name}=...")
