"""The one list of the maps that galprote makes: names, FITS extensions (as PHANGS names them), units and meaning."""

from dataclasses import dataclass
from typing import Final

#: Unit of maps in the cube's own flux unit.
CUBE_UNIT: Final = "cube"


@dataclass(frozen=True)
class MapProduct:
    """One map.

    Attributes
    ----------
    name : str
        Variable in the Zarr store.
    extension : str
        FITS extension.
    unit : str
        Unit as astropy reads it; `CUBE_UNIT` stands for the cube's.
    dtype : str
    long_name : str
    """

    name: str
    extension: str
    unit: str
    dtype: str
    long_name: str


MAPS: Final = (
    MapProduct("age_lw", "AGE_LW", "dex(yr)", "float32", "light-weighted mean of log10(age / yr)"),
    MapProduct("metallicity_lw", "Z_LW", "dex", "float32", "light-weighted mean metallicity [M/H]"),
    MapProduct("av", "AV_STARS", "mag", "float32", "attenuation A_V of the stars by dust inside the galaxy"),
    MapProduct("ebv_stars", "EBV_STARS", "mag", "float32", "reddening E(B-V) of the stars, A_V / 3.1"),
    MapProduct("flux", "FLUX", CUBE_UNIT, "float32", "median flux density in 4750-7100 A rest frame, dereddened"),
    MapProduct("snr", "SNR", "", "float32", "median signal-to-noise ratio per 2.48 A sample"),
    MapProduct(
        "residual_rms", "RESIDUAL_RMS", "", "float32", "rms of observed minus model, relative to the median flux"
    ),
    MapProduct("filled_fraction", "FILLED_FRACTION", "", "float32", "share of the model's samples without data"),
    MapProduct("replaced_samples", "REPLACED_SAMPLES", "", "int16", "samples replaced by the line filter"),
    MapProduct("status", "STATUS", "", "uint16", "flag bits; 0: good"),
)

#: R_V of the dust inside the galaxy (paper, section 2.1).
INTERNAL_R_V: Final = 3.1
