"""Numbers and units as pages write them, in Unicode."""

import math
import re
from datetime import UTC, datetime
from typing import Final

from galprote.pipeline.figure_labels import flux_label

_RAISED: Final = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
MINUS: Final = "\N{MINUS SIGN}"


def number_words(value: float, digits: int = 3) -> str:
    """Write a number with so many digits; as a power of ten only where that is shorter."""
    if not math.isfinite(value):
        return "–"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        text = f"{value:.{digits}g}"
        text = f"{float(text):,.0f}" if "e" in text else text
    else:
        mantissa, power = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        text = ("" if mantissa == "1" else f"{mantissa} × ") + "10" + str(int(power)).translate(_RAISED)
    return text.replace("-", MINUS)


def fixed_words(value: float, digits: int = 2) -> str:
    """Write a number with so many decimals."""
    return f"{value:.{digits}f}".replace("-", MINUS) if math.isfinite(value) else "–"


def flux_words(unit: str) -> str:
    """Write a flux unit; as it is if astropy does not know it."""
    text = flux_label(unit).replace(r"\times", "×").replace(r"\$", "§dollar§").replace("$", "")
    text = re.sub(r"\^\{?(-?\d+(?:\.\d+)?)\}?", lambda found: found[1].translate(_RAISED), text)
    return text.replace("§dollar§", "$")


def utc_words(seconds: float) -> str:
    """Write a Unix time, s, as a date."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration_words(seconds: float | None) -> str:
    """Write how long something took."""
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
