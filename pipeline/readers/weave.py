"""WEAVE's cubes of the large field unit (`stackcube_*.fit`), one file an arm.

Layout: HDUs `RED_DATA`, `RED_IVAR`, `RED_DATA_NOSS`, `RED_IVAR_NOSS` (without sky subtraction), `RED_SENSFUNC`,
`RED_DATA_COLLAPSE3`, `RED_IVAR_COLLAPSE3`, or the same with `BLUE_`; Jin et al. 2024 (MNRAS 530, 2688), and how
clifspy (https://pypi.org/project/clifspy/) and pycasso2 read it.

- `*_DATA` is in counts: times `*_SENSFUNC` it is in erg/s/cm2/Angstrom; `*_IVAR` divided by its square.
- The flux is that of a fibre of 2.6 arcsec, not of a spaxel: shapes are right, masses are those of a larger area.
- Resolving power 2500 in the low-resolution mode, 10,000 in the high one, told apart by the channels' width.
- Low resolution has 3660-6060 Angstrom in the blue arm and 5790-9590 in the red: only both together hold what the
  shipped weights look at. Cubes of both (such as clifspy's, with HDUs FLUX, IVAR, MASK) are read as generic FITS.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from galprote.model.errors import CubeError
from galprote.model.line_spread import LineSpread
from galprote.pipeline.readers.axis import is_wavelength, read_wavelengths, spectral_axis_number
from galprote.pipeline.readers.fitsfile import Hdu, find_hdu
from galprote.pipeline.readers.parts import CubeParts, LineWidth, image_of, require_same_shape
from galprote.pipeline.readers.vector import read_vector

_LOW, _HIGH = LineSpread(resolving_power=2500.0), LineSpread(resolving_power=10_000.0)
#: Channels of the high-resolution mode are narrower, Angstrom.
_HIGH_STEP: Final = 0.3
_FIBRE: Final = "WEAVE's flux is that of a fibre (2.6 arcsec), not of a spaxel: masses are those of a larger area"


def find_weave(path: Path, hdus: Sequence[Hdu]) -> CubeParts | None:
    """Recognise a cube of one of WEAVE's arms.

    Raises
    ------
    CubeError
        If it is one, but damaged, or not calibrated.
    """
    flux = find_hdu(hdus, "BLUE_DATA", "RED_DATA")
    if flux is None:
        return None
    arm = flux.name.removesuffix("_DATA")
    shape, ivar = image_of(flux).shape, find_hdu(hdus, f"{arm}_IVAR")
    require_same_shape(flux, ivar)
    if spectral_axis_number(flux.header) != 3 or not is_wavelength(flux.header, 3):
        raise CubeError(f"HDU {flux.label}: axis 3 is no wavelength: set CTYPE3 to 'AWAV' (air) or 'WAVE', and CUNIT3")
    axis = read_wavelengths(flux.header, 3, shape[0])
    step = float(np.median(np.abs(np.diff(axis.wavelength))))
    mode, law = ("high", _HIGH) if step < _HIGH_STEP else ("low", _LOW)
    sensitivity = next((hdu for hdu in hdus if hdu.name == f"{arm}_SENSFUNC"), None)
    response = None if sensitivity is None else read_vector(path, sensitivity)
    if response is not None and response.size != shape[0]:
        raise CubeError(f"HDU {arm}_SENSFUNC has {response.size:,} values, {flux.name} has {shape[0]:,} channels")
    other = "RED" if arm == "BLUE" else "BLUE"
    return CubeParts(
        flux, ivar, "inverse", None, axis,
        layout=f"WEAVE, {arm.lower()} arm, {mode} resolution",
        unit="" if response is None else "erg/s/cm2/Angstrom",
        response=response,
        line_width=LineWidth(partial(law.fwhm_at, axis.wavelength), f"WEAVE, {mode} resolution (Jin et al. 2024)"),
        notes=(_FIBRE,) if response is not None else (f"no HDU {arm}_SENSFUNC: the fluxes are counts",),
        advice=f"This is WEAVE's {arm.lower()} arm: join it with the {other.lower()} one into one cube.",
    )  # fmt: skip
