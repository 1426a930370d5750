"""SAMI's cubes (`ID_A_cube_blue.fits.gz`, `ID_A_cube_red.fits.gz`), one file an arm.

Format: https://docs.datacentral.org.au/sami/data-release-3/core-data-products/; Croom et al. 2021 (MNRAS 505, 991).

- The primary HDU holds the flux in 1e-16 erg/s/cm2/Angstrom a spaxel, air, linear; NaN where there is none.
- `VARIANCE`; `WEIGHT` and `COVAR` (the covariance of neighbouring spaxels) are not used.
- FWHM: 2.65 Angstrom in the blue arm, 1.61 in the red (van de Sande et al. 2017, ApJ 835, 104).
- The blue arm has 3750-5750 Angstrom, the red one 6300-7400: neither has what the shipped weights look at.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from galprote.model.line_spread import LineSpread
from galprote.pipeline.readers.axis import is_wavelength, read_wavelengths, spectral_axis_number
from galprote.pipeline.readers.fitsfile import Hdu, find_hdu
from galprote.pipeline.readers.parts import CubeParts, LineWidth, image_of, require_same_shape

_ARMS: Final = {"blue": LineSpread(fwhm=2.65), "red": LineSpread(fwhm=1.61)}
#: The arms' first and last wavelengths are on either side of it, Angstrom.
_BETWEEN: Final = 6000.0


def find_sami(path: Path, hdus: Sequence[Hdu]) -> CubeParts | None:
    """Recognise a SAMI cube: flux in the primary HDU, `VARIANCE` and `WEIGHT` beside it.

    Raises
    ------
    CubeError
        If it is one, but damaged.
    """
    flux, variance = hdus[0], find_hdu(hdus, "VARIANCE")
    if flux.image is None or variance is None or "WEIGHT" not in {hdu.name for hdu in hdus}:
        return None
    shape = image_of(flux).shape
    require_same_shape(flux, variance)
    if spectral_axis_number(flux.header) != 3 or not is_wavelength(flux.header, 3):
        return None
    axis = read_wavelengths(flux.header, 3, shape[0])
    arm = "blue" if axis.wavelength.min() < _BETWEEN else "red"
    other = "red" if arm == "blue" else "blue"
    return CubeParts(
        flux, variance, "value", None, axis,
        layout=f"SAMI, {arm} arm",
        default_unit="1e-16 erg/s/cm2/Angstrom",
        line_width=LineWidth(partial(_ARMS[arm].fwhm_at, axis.wavelength), f"SAMI {arm} (van de Sande et al. 2017)"),
        advice=(
            f"This is SAMI's {arm} arm; the {other} one is another file, and neither has 5750-6300 A."
        ),
    )  # fmt: skip
