"""MaNGA's cubes and row-stacked spectra (`manga-PLATE-IFU-LOGCUBE.fits.gz`, `LINCUBE`, `LOGRSS`).

Data model: https://data.sdss.org/datamodel/files/MANGA_SPECTRO_REDUX/DRPVER/PLATE4/stack/manga-CUBE.html; Law et al.
2016 (AJ 152, 83), Law et al. 2021 (AJ 161, 52) for the line spread function, Westfall et al. 2019 (AJ 158, 231).

- `FLUX` in 1e-17 erg/s/cm2/Angstrom a spaxel, `IVAR` its inverse variance: 0 says nothing.
- `WAVE`: wavelengths in **vacuum**, Angstrom, uniform in the logarithm.
- `MASK`: bits of MANGA_DRP3PIXMASK (cubes) or MANGA_DRP2PIXMASK (row-stacked). Of a cube those are left out that the
  pipeline gathers in DONOTUSE, and each of them besides: NOCOV, LOWCOV, DEADFIBER, FORESTAR.
- `LSFPRE` (DR17) or `PREDISP` (DR15): standard deviation of the line spread function in Angstrom before it is
  integrated over a channel, which is what the rebinning wants; else `LSFPOST` or `DISP`, behind the channel, from
  which the channel is taken out; else the resolving power `PRESPECRES` or `SPECRES`.
- Spectra that mangadap takes out of cubes for its tests have `SRES`, a resolving power for each, and a cube's bits.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import bottleneck as bn
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from galprote.model.errors import CubeError
from galprote.model.line_spread import FWHM_PER_SIGMA
from galprote.pipeline.readers.axis import SpectralAxis
from galprote.pipeline.readers.fitsfile import Hdu, find_hdu
from galprote.pipeline.readers.parts import CubeParts, LineWidth, require_same_shape
from galprote.pipeline.readers.slabs import SlabArray
from galprote.pipeline.readers.stacked import as_cube
from galprote.pipeline.readers.vector import read_vector, vector_axis

#: MANGA_DRP3PIXMASK: NOCOV 0, LOWCOV 1, DEADFIBER 2, FORESTAR 3, DONOTUSE 10 (sdssMaskbits.par).
CUBE_BITS: Final = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 10
#: MANGA_DRP2PIXMASK: NODATA 25, COMBINEREJ 26, FULLREJECT 19, DEADFIBER 13, NOPLUG 0, BADTRACE 1, BADFLAT 2, BADARC 3,
#: LOWFLAT 18, NOSKY 23, BADFLUXFACTOR 27, 3DREJECT 30.
RSS_BITS: Final = sum(1 << bit for bit in (0, 1, 2, 3, 13, 18, 19, 23, 25, 26, 27, 30))
#: MANGA_DRP3QUAL: the cube should not be used for science.
CRITICAL: Final = 1 << 30

#: HDUs with the line spread function, the best first, and whether the channel is in it.
_SIGMAS: Final = {"LSFPRE": False, "PREDISP": False, "LSFPOST": True, "DISP": True}
_POWERS: Final = {"PRESPECRES": False, "SPECRES": True, "SRES": False}
_OWN_KEYS: Final = ("MANGAID", "PLATEIFU", "DRP3QUAL", "DRPVER", "VERSDRP3")
#: Rows of spaxels, in the middle, from which the median line spread function is taken: it differs by 1 to 2 %.
_ROWS: Final = 4


def find_manga(path: Path, hdus: Sequence[Hdu]) -> CubeParts | None:
    """Recognise a cube or row-stacked spectra of MaNGA's reduction pipeline.

    Raises
    ------
    CubeError
        If it is one of the *analysis* pipeline's model cubes, or damaged.
    """
    flux, ivar, mask = (find_hdu(hdus, name) for name in ("FLUX", "IVAR", "MASK"))
    wave = next((hdu for hdu in hdus if hdu.name == "WAVE"), None)
    if flux is None or ivar is None or mask is None or wave is None:
        return None
    names = {hdu.name for hdu in hdus}
    known = any(key in hdu.header for hdu in (hdus[0], flux) for key in _OWN_KEYS)
    if not known and not names & {*_SIGMAS, *_POWERS}:
        return None
    if names & {"MODEL", "REDCORR", "STELLAR"}:
        raise CubeError("spectra of MaNGA's analysis pipeline (DAP): use the reduction's manga-PLATE-IFU-LOGCUBE file")
    axis = vector_axis(path, wave, "vacuum")
    cube = flux.image is not None and len(flux.image.shape) == 3
    axes: tuple[int, int, int] = (0, 1, 2)
    if not cube:
        flux, axes = as_cube(flux, axis.wavelength.size)
        ivar, mask = (as_cube(hdu, axis.wavelength.size)[0] for hdu in (ivar, mask))
    require_same_shape(flux, ivar, mask)
    parts = CubeParts(
        flux, ivar, "inverse", mask, axis, axes,
        layout="MaNGA LOGCUBE" if cube else "MaNGA row-stacked spectra",
        flag_bits=CUBE_BITS if cube or "SRES" in names else RSS_BITS,  # spectra taken out of cubes keep their bits
        default_unit="1e-17 erg/s/cm2/Angstrom",
        notes=tuple(_quality(hdus[0], flux)),
    )  # fmt: skip
    if axis.wavelength.size != parts.shape[0]:
        raise CubeError(f"HDU {wave.label} and HDU {flux.label} differ in the number of channels")
    return replace(parts, line_width=_line_width(path, hdus, parts))


def _quality(*hdus: Hdu) -> list[str]:
    bits = next((int(hdu.header["DRP3QUAL"]) for hdu in hdus if "DRP3QUAL" in hdu.header), 0)
    if bits & CRITICAL:
        return ["DRP3QUAL has the bit CRITICAL: MaNGA's pipeline says that this cube is not for science"]
    return []


def _line_width(path: Path, hdus: Sequence[Hdu], parts: CubeParts) -> LineWidth | None:
    for name, behind in (_SIGMAS | _POWERS).items():
        hdu = next((hdu for hdu in hdus if hdu.name == name and hdu.image is not None), None)
        if hdu is None:
            continue
        if name in _POWERS:
            return LineWidth(partial(_from_power, path, hdu, parts.axis, behind=behind), f"HDU {name}")
        if len(hdu.image.shape if hdu.image else ()) == 2:
            hdu = as_cube(hdu, parts.axis.wavelength.size)[0]
        require_same_shape(parts.flux, hdu)
        return LineWidth(partial(_from_sigma, path, hdu, parts, behind=behind), f"HDU {name}, median")
    return None


def _from_sigma(path: Path, hdu: Hdu, parts: CubeParts, *, behind: bool) -> NDArray[np.float64]:
    """Median FWHM of some rows in the middle, (n,)."""
    assert hdu.image is not None
    status = path.stat()
    stamp = status.st_size, status.st_mtime_ns
    values = SlabArray(str(path), stamp, hdu.image, 0, parts.shape[0], axes=parts.axes)
    middle = max(parts.shape[1] // 2 - _ROWS // 2, 0)
    sigma = values[:, middle : middle + _ROWS].reshape(parts.shape[0], -1)
    sigma[~(sigma > 0)] = np.nan  # where there are no data
    median: NDArray[np.float64] = bn.nanmedian(sigma, axis=1).astype(np.float64)
    return FWHM_PER_SIGMA * _without_channel(median, parts.axis, behind=behind)


def _from_power(path: Path, hdu: Hdu, axis: SpectralAxis, *, behind: bool) -> NDArray[np.float64]:
    if hdu.image is not None and len(hdu.image.shape) == 2:
        with fits.open(path, memmap=False) as file:
            every = np.asarray(file[hdu.index].data, dtype=np.float64)
        every[~(every > 0)] = np.nan
        power: NDArray[np.float64] = bn.nanmedian(every, axis=0)
    else:
        power = read_vector(path, hdu)
        power[~(power > 0)] = np.nan
    return FWHM_PER_SIGMA * _without_channel(axis.wavelength / power / FWHM_PER_SIGMA, axis, behind=behind)


def _without_channel(sigma: NDArray[np.float64], axis: SpectralAxis, *, behind: bool) -> NDArray[np.float64]:
    """Take the width of a channel out of a line spread function that was integrated over it."""
    if not behind:
        return sigma
    return np.sqrt(np.maximum(sigma**2 - np.gradient(axis.wavelength) ** 2 / 12, 0.0))
