"""Features that figures of spectra name."""

from typing import Final

#: Features of stars and, in the bands, of gas: rest-frame air wavelength, Angstrom.
FEATURES: Final = {
    "Hβ": 4861.3, "[O III]": 5006.8, "Mg b": 5175.0, "Fe": 5270.0, "Fe ": 5335.0, "Na D": 5892.0,
    "[O I]": 6300.3, "Hα, [N II]": 6567.0, "[S II]": 6724.0,
}  # fmt: skip
