"""What can be compared with other people's maps: our names, theirs, and the numbers in which differences are taken."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Quantity:
    """A map that others make, too.

    Attributes
    ----------
    name : str
        Variable in our store.
    label : str
        In words, for tables and figures.
    unit : str
        Of the compared numbers and their differences.
    aliases : tuple of str
        What files call it (FITS extensions or columns, upper case), the surest first.
    log : bool
        Compared is the decimal logarithm of the map.
    """

    name: str
    label: str
    unit: str
    aliases: tuple[str, ...]
    log: bool = False

    def comparable(self, values: NDArray[Any], error: NDArray[Any]) -> tuple[Array, Array]:
        """Values and errors of our map in the numbers that are compared."""
        values, error = np.asarray(values, dtype=np.float64), np.asarray(error, dtype=np.float64)
        return logarithm(values, error) if self.log else (values, error)


def logarithm(values: Array, error: Array) -> tuple[Array, Array]:
    """Decimal logarithm and its error; NaN of what is not positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        positive = np.where(values > 0, values, np.nan)
        return np.log10(positive), error / (positive * np.log(10.0))


_AGES_LW: Final = ("AGE_LW", "LOGAGE_LW", "LOG_AGE_LW", "LW_AGE")
_AGES_MW: Final = ("AGE_MW", "LOGAGE_MW", "LOG_AGE_MW", "MW_AGE")

#: In the order of tables and figures. A_V also comes from E(B-V), see `from_reddening`.
COMPARED: Final = (
    Quantity("age_lw", "log age (light)", "dex", _AGES_LW),
    Quantity("metallicity_lw", "[M/H] (light)", "dex", ("Z_LW", "METALLICITY_LW", "METAL_LW", "LW_METAL")),
    Quantity("av", "A_V", "mag", ("AV_STARS", "AV", "A_V")),
    Quantity("ebv_stars", "E(B-V)", "mag", ("EBV_STARS", "EBV")),
    Quantity("age_mw", "log age (mass)", "dex", _AGES_MW),
    Quantity("metallicity_mw", "[M/H] (mass)", "dex", ("Z_MW", "METALLICITY_MW", "METAL_MW", "MW_METAL")),
    Quantity("stellar_mass_density", "log mass density", "dex", ("STELLAR_MASS_DENSITY", "SIGMA_STAR"), log=True),
    Quantity("mass_to_light", "log M/L_V", "dex", ("ML_V", "MASS_TO_LIGHT"), log=True),
    Quantity("t50", "t50", "Gyr", ("T50",)),
    Quantity("t90", "t90", "Gyr", ("T90",)),
    Quantity("v_stars", "V", "km/s", ("V_STARS", "V")),
    Quantity("sigma_stars", "dispersion", "km/s", ("SIGMA_STARS", "SIGMA")),
)
BY_NAME: Final = {quantity.name: quantity for quantity in COMPARED}
#: Not compared unless it is asked for: it says what A_V says.
ON_REQUEST: Final = ("ebv_stars",)


def error_names(name: str) -> tuple[str, ...]:
    """What files call the error of a map or column."""
    return (f"{name}_ERR", f"{name}_ERROR", f"ERR_{name}", f"FORM_ERR_{name}", f"ERR_{name}_MC")
