"""Any other FITS cube: the first 3-D image, on whichever axes spectral-cube understands; or an image of spectra.

The data are read by our own slab reader, whatever the order of the axes in the file; `spectral_cube` is asked
what the axes are where they are not plain wavelengths (frequency, velocity with a rest value, energy). Where the
header has no spectral axis, an HDU with one wavelength a channel will do (`vector.WAVELENGTH_HDUS`).
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy import units as u
from astropy.wcs import WCS
from numpy.typing import NDArray

from galprote.model.errors import CubeError
from galprote.pipeline.readers.axis import (
    SpectralAxis,
    checked_axis,
    is_wavelength,
    read_wavelengths,
    spectral_axis_number,
)
from galprote.pipeline.readers.fitsfile import Hdu, find_hdu
from galprote.pipeline.readers.parts import CubeParts, image_of, require_same_shape
from galprote.pipeline.readers.slabs import Kind
from galprote.pipeline.readers.stacked import find_stacked
from galprote.pipeline.readers.vector import vector_axis, wavelength_hdu

#: Names of noise HDUs (MUSE, KCWI, CALIFA, SAMI, MaNGA, WEAVE), and what they hold.
NOISE_HDUS: Final[dict[str, Kind]] = {
    "STAT": "value", "VAR": "value", "VARIANCE": "value",
    "ERR": "sigma", "ERROR": "sigma", "SIGMA": "sigma", "UNCERT": "sigma",
    "IVAR": "inverse",
}  # fmt: skip
#: Names of integer HDUs in which nonzero means bad.
FLAG_HDUS: Final = ("DQ", "MASK", "BADPIX")


def find_generic(path: Path, hdus: Sequence[Hdu]) -> CubeParts:
    """Find a cube in any FITS file.

    Parameters
    ----------
    path : Path
        The (uncompressed) file, for spectral-cube.
    hdus : sequence of Hdu
        All HDUs of the file.

    Returns
    -------
    CubeParts
        The flux is HDU `DATA`, `FLUX` or `SCI`, or else the first image with three axes; noise and flags are
        found by name (`NOISE_HDUS`, `FLAG_HDUS`).

    Raises
    ------
    CubeError
        If there is no 3-D image, or no spectral axis that can be converted to wavelengths.
    """
    flux = _find_flux(hdus)
    noise = find_hdu([hdu for hdu in hdus if hdu is not flux], *NOISE_HDUS)
    flags = find_hdu([hdu for hdu in hdus if hdu.image and "f" not in hdu.image.stored], *FLAG_HDUS)
    kind = NOISE_HDUS[noise.name] if noise else "value"
    wave = wavelength_hdu(hdus)
    if flux.image is not None and len(flux.image.shape) == 2:
        axis, axes, (image, noise, flags) = find_stacked(path, flux, (noise, flags), wave)
        assert image is not None
        require_same_shape(image, noise, flags)
        return CubeParts(image, noise, kind, flags, axis, axes, layout="generic FITS, image of spectra")
    shape = image_of(flux).shape
    require_same_shape(flux, noise, flags)
    number = spectral_axis_number(flux.header)
    if number is None and wave is not None:
        axis = vector_axis(path, wave)
        number = _axis_of_length(flux, axis.wavelength.size)
    elif number is None:
        found = ", ".join(f"CTYPE{n} = '{flux.header.get(f'CTYPE{n}', '')}'" for n in (1, 2, 3))
        raise CubeError(f"HDU {flux.label} has no spectral axis ({found}): set CTYPE and CUNIT of the wavelength axis")
    elif is_wavelength(flux.header, number):
        axis = read_wavelengths(flux.header, number, shape[3 - number])
    else:
        axis = _axis_from_spectral_cube(path, flux, number)
    return CubeParts(flux, noise, kind, flags, axis, _axis_order(flux, number))


def _axis_of_length(flux: Hdu, channels: int) -> int:
    """FITS number of the only axis with so many elements; the third one if there are more."""
    shape = image_of(flux).shape
    numbers = [number for number in (3, 2, 1) if shape[3 - number] == channels]
    if not numbers:
        raise CubeError(f"HDU {flux.label}: no axis has the {channels:,} channels of the HDU with the wavelengths")
    return numbers[0]


def _find_flux(hdus: Sequence[Hdu]) -> Hdu:
    named = find_hdu(hdus, "DATA", "FLUX", "SCI")
    if named is not None:
        return named
    if any(hdu.header.get("ZIMAGE") for hdu in hdus):
        raise CubeError("the file is tile-compressed (fpack), which cannot be read in slabs: run funpack on it first")
    # Where the flux is lost, its noise must not be taken for it.
    images = [hdu for hdu in hdus if hdu.image and hdu.name not in (*NOISE_HDUS, *FLAG_HDUS)]
    cubes = [hdu for hdu in images if hdu.image and len(hdu.image.shape) == 3]
    if cubes:
        return cubes[0]
    flat = [hdu for hdu in images if hdu.image and len(hdu.image.shape) == 2]
    if flat:
        return flat[0]
    listing = "; ".join(hdu.label for hdu in hdus)
    if images:
        image_of(images[0])
    raise CubeError(f"there is no image of fluxes in the file: a cube with 3 axes is wanted, the HDUs are {listing}")


def _axis_order(flux: Hdu, number: int) -> tuple[int, int, int]:
    """File axes (numpy order) of wavelength, y and x; x is the pixel axis of the WCS' longitude."""
    spatial = [axis for axis in (0, 1, 2) if axis != 3 - number]
    y, x = spatial
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wcs: Any = WCS(flux.header).wcs
    except Exception as error:  # wcslib raises many types
        raise CubeError(f"HDU {flux.label}: its WCS cannot be used: {' '.join(str(error).split())}") from error
    if wcs.lng >= 0 and wcs.lat >= 0 and wcs.lng > wcs.lat:
        y, x = x, y
    return 3 - number, y, x


def _axis_from_spectral_cube(path: Path, flux: Hdu, number: int) -> SpectralAxis:
    ctype, unit = (str(flux.header.get(f"{key}{number}", "")).strip() for key in ("CTYPE", "CUNIT"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # beams, Stokes axes, slow operations: none of them matters here
            from spectral_cube import SpectralCube  # imports for a second, and is needed by few cubes

            cube: Any = SpectralCube.read(str(path), format="fits", hdu=flux.index, use_dask=True)
            values: NDArray[np.float64] = cube.with_spectral_unit(u.AA).spectral_axis.to_value(u.AA)
    except Exception as error:  # spectral-cube raises many types
        reason = " ".join(str(error).split())
        raise CubeError(
            f"HDU {flux.label}: axis CTYPE{number} = '{ctype}' cannot be converted to wavelengths: {reason}"
        ) from error
    return checked_axis(np.asarray(values, dtype=np.float64), "vacuum", ctype, unit)
