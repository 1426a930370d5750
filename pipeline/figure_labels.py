"""Numbers and units as a figure writes them."""

import warnings

from astropy import units as u


def plain(value: float, _: int = 0) -> str:
    """Write a positive number: as a power of ten only where that is shorter."""
    if 1e-3 <= value < 1e5:
        return f"{value:g}"
    digits, power = f"{value:.5e}".split("e")
    digits = digits.rstrip("0").rstrip(".")
    return rf"${digits} \times 10^{{{int(power)}}}$" if digits != "1" else rf"$10^{{{int(power)}}}$"


def flux_label(unit: str) -> str:
    """Write a flux unit as matplotlib sets it; as it is if astropy does not know it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # for example, about a second slash
            parsed = u.Unit(unit)
    except ValueError:
        return unit.replace("$", r"\$")
    pairs = zip(parsed.bases, parsed.powers, strict=True)
    factors = sorted((power < 0, str(base) != "s", power, str(base)) for base, power in pairs)
    words = [base if power == 1 else f"{base}$^{{{power}}}$" for *_, power, base in factors]
    return " ".join([plain(parsed.scale)] * (parsed.scale != 1) + words).replace("Angstrom", "Å")  # erg s-1 cm-2 Å-1
