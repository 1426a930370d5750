"""KCWI's cubes (`*_icubes.fits`, `*_icubew.fits` of KCWI_DRP in Python; `*_icube*.fits` of its predecessor in IDL).

Format: https://kcwi-drp.readthedocs.io and `kcwi_file_primitives.py`, `FluxCalibrate.py` of KCWI_DRP 1.2; Morrissey et
al. 2018 (ApJ 864, 93).

- The primary HDU holds the flux; its axis is in air (`icubed`, `icubes`) or, where corrected to the barycentre, in
  vacuum (`CTYPE3 = 'WAVE'`), Angstrom.
- Flux-calibrated values are multiples of 1e-16 erg/s/cm2/Angstrom, but BUNIT has the inverse of the factor (`1e+16 erg
  / (Angstrom cm2 s)`, or `FLAM16`): it is put right here.
- `UNCERT`: standard deviation. `MASK`: nonzero = bad. Without it `FLAGS`: 8 saturated, 64 not observed (nod and
  shuffle), 128 padding; 2 (defects) and 4 (cosmic rays) have been mended.
- The IDL pipeline writes variances into a file of their own (`*_vcube*.fits`): without them the noise is estimated.
- Resolving power by slicer and grating, from the header (IFUNAM, BGRATNAM; Morrissey et al. 2018, table 1).
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from galprote.model.line_spread import LineSpread
from galprote.pipeline.readers.axis import is_wavelength, read_wavelengths, spectral_axis_number
from galprote.pipeline.readers.fitsfile import Hdu, find_hdu
from galprote.pipeline.readers.parts import CubeParts, LineWidth, image_of, require_same_shape
from galprote.pipeline.readers.slabs import ANY_BIT

_WRONG_UNIT: Final = re.compile(r"1e\+?16|FLAM16", re.IGNORECASE)
_FLAG_BITS: Final = 8 | 64 | 128
#: Resolving power with the large slicer; half the slice doubles it.
_POWER: Final = {"BL": 900.0, "BM": 2000.0, "BH1": 4500.0, "BH2": 4500.0, "BH3": 4500.0}
_SLICER: Final = {"large": 1.0, "medium": 2.0, "small": 4.0}


def find_kcwi(path: Path, hdus: Sequence[Hdu]) -> CubeParts | None:
    """Recognise a KCWI (or KCRM) cube by its header: flux in the primary HDU.

    Raises
    ------
    CubeError
        If it is one, but damaged.
    """
    flux = hdus[0]
    if "KCWI" not in str(flux.header.get("INSTRUME", "")).upper() or flux.image is None:
        return None
    if spectral_axis_number(flux.header) != 3 or not is_wavelength(flux.header, 3):
        return None
    shape = image_of(flux).shape
    uncert, mask = find_hdu(hdus, "UNCERT"), find_hdu(hdus, "MASK", "FLAGS")
    require_same_shape(flux, uncert, mask)
    axis = read_wavelengths(flux.header, 3, shape[0])
    notes = []
    if uncert is None:
        notes.append("no HDU UNCERT: variances in a file of their own (*_vcube*.fits, IDL pipeline) are not read")
    unit = str(flux.header.get("BUNIT", ""))
    return CubeParts(
        flux, uncert, "sigma", mask, axis,
        layout="KCWI",
        flag_bits=_FLAG_BITS if mask is not None and mask.name == "FLAGS" else ANY_BIT,
        unit="1e-16 erg/s/cm2/Angstrom" if _WRONG_UNIT.search(unit) else "",
        line_width=_line_width(flux, axis.wavelength),
        notes=tuple(notes),
        advice="KCWI's blue and red arms (KCWI, KCRM) are separate files: each has a part of 3500-10800 A.",
    )  # fmt: skip


def _line_width(flux: Hdu, wavelength: NDArray[np.float64]) -> LineWidth | None:
    grating, slicer = (str(flux.header.get(key, "")).strip() for key in ("BGRATNAM", "IFUNAM"))
    red = "RED" in str(flux.header.get("CAMERA", "")).upper()
    if red or grating not in _POWER or slicer.lower() not in _SLICER:
        return None
    law = LineSpread(resolving_power=_POWER[grating] * _SLICER[slicer.lower()])
    return LineWidth(partial(law.fwhm_at, wavelength), f"KCWI {slicer} slicer, {grating} (Morrissey et al. 2018)")
