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


def _with_error(name: str, extension: str, unit: str, long_name: str) -> tuple[MapProduct, MapProduct]:
    """A map, and the map of its error."""
    return (
        MapProduct(name, extension, unit, "float32", long_name),
        MapProduct(f"{name}_error", f"{extension}_ERR", unit, "float32", f"error (1 sigma) of: {long_name}"),
    )


MAPS: Final = (
    *_with_error("age_lw", "AGE_LW", "dex(yr)", "light-weighted mean of log10(age / yr)"),
    *_with_error("metallicity_lw", "Z_LW", "dex", "light-weighted mean metallicity [M/H]"),
    *_with_error("av", "AV_STARS", "mag", "attenuation A_V of the stars by dust inside the galaxy"),
    *_with_error("ebv_stars", "EBV_STARS", "mag", "reddening E(B-V) of the stars, A_V / 3.1"),
    *_with_error("age_mw", "AGE_MW", "dex(yr)", "mass-weighted mean of log10(age / yr)"),
    *_with_error("metallicity_mw", "Z_MW", "dex", "mass-weighted mean metallicity [M/H]"),
    *_with_error("mass_to_light", "ML_V", "solMass / solLum", "stellar mass over V-band luminosity without dust"),
    *_with_error("stellar_mass_density", "STELLAR_MASS_DENSITY", "solMass / pc2", "stellar mass surface density"),
    MapProduct("t50", "T50", "Gyr", "float32", "lookback time by which 50 % of the mass had formed"),
    MapProduct("t90", "T90", "Gyr", "float32", "lookback time by which 90 % of the mass had formed"),
    MapProduct("trust", "TRUST", "", "float32", "share of ordinary spectra that look as odd as this one, or odder"),
    MapProduct("flux", "FLUX", CUBE_UNIT, "float32", "median flux density in 4750-7100 A rest frame, dereddened"),
    MapProduct("snr", "SNR", "", "float32", "median signal-to-noise ratio per 2.48 A sample"),
    MapProduct("noise_scale", "NOISE_SCALE", "", "float32", "scatter of the residuals in units of the cube's noise"),
    MapProduct(
        "residual_rms", "RESIDUAL_RMS", "", "float32", "rms of observed minus model, relative to the median flux"
    ),
    MapProduct("filled_fraction", "FILLED_FRACTION", "", "float32", "share of the model's samples without data"),
    MapProduct("replaced_samples", "REPLACED_SAMPLES", "", "int16", "samples replaced by the line filter"),
    MapProduct("status", "STATUS", "", "int32", "flag bits; 0: good"),
)

#: Maps of galaxies whose spaxels are binned: the other maps have the same value all over a bin.
BIN_MAPS: Final = (
    MapProduct("bin_id", "BIN_ID", "", "int32", "number of the spaxel's bin; -1: none"),
    MapProduct("bin_spaxels", "BIN_NSPAX", "", "int32", "number of spaxels in the bin"),
    MapProduct("bin_snr", "BIN_SNR", "", "float32", "signal-to-noise ratio per channel of the bin, corrected"),
    MapProduct("spaxel_flux", "SPAXEL_FLUX", CUBE_UNIT, "float32", "median flux density of the spaxel, as observed"),
    MapProduct("spaxel_snr", "SPAXEL_SNR", "", "float32", "signal-to-noise ratio per channel of the spaxel"),
)

#: Maps of galaxies whose stars' motions are known: read from a map (the velocity alone), or measured.
KINEMATIC_MAPS: Final = (
    *_with_error("v_stars", "V_STARS", "km / s", "velocity of the stars relative to the galaxy's redshift"),
    *_with_error("sigma_stars", "SIGMA_STARS", "km / s", "velocity dispersion of the stars"),
)

#: All maps that there can be, in the order of the FITS extensions.
EVERY_MAP: Final = (*MAPS, *BIN_MAPS, *KINEMATIC_MAPS)

#: R_V of the dust inside the galaxy (paper, section 2.1).
INTERNAL_R_V: Final = 3.1
