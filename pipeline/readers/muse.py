"""MUSE's layout, which PHANGS and MAUVE keep: HDUs `DATA`, `STAT` (variance) and sometimes `DQ` (flags).

What these files hold, and what happens to it here:

- NaN in `DATA` (planes, corners, the AO notch at 5806-5964 Angstrom) stays NaN: no channel and no spaxel is
  dropped.
- `STAT` that is zero, negative or not finite stays as it is; the preprocessing knows that it is no variance.
- Finite zero and negative `DATA` are measurements and stay.
- Where `DQ` is not zero, flux and variance become NaN, as in mpdaf, which takes any nonzero flag as a mask of
  both.
- `STAT`'s own BUNIT is not looked at: it is often wrong (``.../Angstrom**2`` for the square). It is the
  square.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from galprote.model.errors import CubeError
from galprote.model.line_spread import MUSE
from galprote.pipeline.readers.axis import is_wavelength, read_wavelengths, spectral_axis_number
from galprote.pipeline.readers.fitsfile import Hdu, find_hdu
from galprote.pipeline.readers.parts import CubeParts, LineWidth, image_of, require_same_shape
from galprote.pipeline.readers.vector import wavelength_hdu

UNIT: Final = "10**(-20)*erg/s/cm**2/Angstrom"


def find_muse(path: Path, hdus: Sequence[Hdu]) -> CubeParts | None:
    """Recognise a cube in MUSE's layout.

    Parameters
    ----------
    path : Path
    hdus : sequence of Hdu
        All HDUs of the file.

    Returns
    -------
    CubeParts or None
        None if there is no image HDU `DATA` with wavelengths along its slowest axis: another reader may know
        it.

    Raises
    ------
    CubeError
        If it is one, but damaged: wrong number of axes, shapes that differ, an axis that makes no sense.
    """
    flux = find_hdu(hdus, "DATA")
    if flux is None or (flux.image is not None and len(flux.image.shape) == 2):
        return None
    variance, flags = find_hdu(hdus, "STAT"), find_hdu(hdus, "DQ")
    length = image_of(flux).shape[0]
    require_same_shape(flux, variance, flags)
    number = spectral_axis_number(flux.header)
    if number is None and wavelength_hdu(hdus) is not None:
        return None
    if number is None:
        found = ", ".join(f"CTYPE{n} = '{flux.header.get(f'CTYPE{n}', '')}'" for n in (1, 2, 3))
        raise CubeError(
            f"HDU {flux.label} has no spectral axis ({found}): "
            f"set CTYPE3 to 'AWAV' (air) or 'WAVE' (vacuum), and CUNIT3"
        )
    if number != 3 or not is_wavelength(flux.header, number):
        return None
    axis = read_wavelengths(flux.header, number, length)
    width = LineWidth(partial(MUSE.fwhm_at, axis.wavelength), "MUSE (Bacon et al. 2017)") if _is_muse(hdus) else None
    return CubeParts(flux, variance, "value", flags, axis, layout="MUSE", default_unit=UNIT, line_width=width)


def _is_muse(hdus: Sequence[Hdu]) -> bool:
    """Tell whether a cube in this layout is MUSE's: those of other instruments say who they are."""
    found = next((str(hdu.header["INSTRUME"]) for hdu in hdus if str(hdu.header.get("INSTRUME", "")).strip()), "MUSE")
    return "MUSE" in found.upper()
