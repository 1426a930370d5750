"""Flux units as a page writes them."""

from astropy import units as u

_POWERS = str.maketrans("-.0123456789", "⁻·⁰¹²³⁴⁵⁶⁷⁸⁹")


def flux_unit(unit: str) -> str:
    """Write a unit in Unicode, such as 10⁻²⁰ erg s⁻¹ cm⁻² Å⁻¹; as it is if astropy does not know it."""
    try:
        parsed = u.Unit(unit)
    except ValueError:
        return unit
    pairs = zip(parsed.bases, parsed.powers, strict=True)
    factors = sorted((power < 0, str(base) != "s", power, str(base)) for base, power in pairs)
    words = [base if power == 1 else base + str(power).translate(_POWERS) for *_, power, base in factors]
    if parsed.scale != 1:
        digits, power = f"{parsed.scale:.3e}".split("e")
        factor = digits.rstrip("0").rstrip(".")
        words.insert(0, ("" if factor == "1" else f"{factor} × ") + "10" + str(int(power)).translate(_POWERS))
    return " ".join(words).replace("Angstrom", "Å")
