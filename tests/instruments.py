"""Small cubes in the layouts of other surveys, all of one and the same source: a continuum with the Na I D2 line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from tests import cubes

Array = NDArray[Any]

#: Na I D2 (NIST): air and vacuum wavelengths, Angstrom.
D2_AIR, D2_VACUUM = 5889.951, 5891.583
#: Rest-frame window that all the cubes cover.
WINDOW = (5860.0, 5920.0)
#: Spaxels (y, x), each with a brightness of its own.
NY, NX = 6, 5
CGS = 1e-17
"""Flux of the continuum of a spaxel of brightness one, erg/s/cm2/Angstrom."""
#: S/N of the stated noise, everywhere.
SNR = 50.0
#: Voxels that are bad, as (channel from the line, y, x), and how: masked, or without information.
MASKED, EMPTY = (3, 2, 1), (5, 4, 3)


def brightness() -> Array:
    """(NY, NX), all different."""
    return 1.0 + 0.1 * np.arange(NY * NX).reshape(NY, NX)


def line_depth(distance: Array, fwhm: float = 4.0) -> Array:
    """Relative flux at a distance from D2."""
    return 1.0 - 0.6 * np.exp(-4 * np.log(2) * (distance / fwhm) ** 2)


def source(wavelength: Array, *, vacuum: bool = False, cgs: float = CGS) -> tuple[Array, Array]:
    """Flux and variance of all spaxels, (n, NY, NX), in units of `cgs`."""
    spectrum = line_depth(wavelength - (D2_VACUUM if vacuum else D2_AIR))
    flux = spectrum[:, None, None] * brightness() * CGS / cgs
    variance = np.broadcast_to((brightness() * CGS / cgs / SNR) ** 2, flux.shape)
    return flux, np.array(variance)


def voxel(wavelength: Array, where: tuple[int, int, int], *, vacuum: bool = False) -> tuple[int, int, int]:
    """Index of a voxel that is given by its distance from the line (or the nearest end of the axis) in channels."""
    line = int(np.abs(wavelength - (D2_VACUUM if vacuum else D2_AIR)).argmin())
    line = min(line, wavelength.size - 10)
    return line + where[0], where[1], where[2]


def linear(first: float = 5800.0, step: float = 1.25, n: int = 130) -> Array:
    return first + step * np.arange(n)


def cards(first: float, step: float, **more: Any) -> dict[str, Any]:
    """A cube's header with a linear axis."""
    return cubes.muse_cards(first, step) | {"BUNIT": None, "OBJECT": "TEST"} | more


def image(values: Array, name: str, header: dict[str, Any] | None = None, dtype: str = ">f4") -> fits.ImageHDU:
    hdu = fits.ImageHDU(values.astype(dtype), name=name)
    hdu.header.update({key: value for key, value in (header or {}).items() if value is not None})
    return hdu


def primary(values: Array | None = None, header: dict[str, Any] | None = None) -> fits.PrimaryHDU:
    hdu = fits.PrimaryHDU(None if values is None else values.astype(">f4"))
    hdu.header.update({key: value for key, value in (header or {}).items() if value is not None})
    return hdu


def write(path: Path, *hdus: Any) -> Path:
    fits.HDUList(list(hdus)).writeto(path, overwrite=True)
    return path


def log_vacuum(n: int = 130, first: float = 5800.0) -> Array:
    """MaNGA's sampling: 1e-4 in log10, vacuum."""
    return 10 ** (np.log10(first) + 1e-4 * np.arange(n))


def manga(path: Path, *, lsf: str = "LSFPRE", sigma: float = 1.1, quality: int = 0, extra: str = "") -> Path:
    wave = log_vacuum()
    flux, variance = source(wave, vacuum=True, cgs=1e-17)
    ivar, mask = 1 / variance, np.zeros(flux.shape, np.int32)
    ivar[voxel(wave, EMPTY, vacuum=True)] = 0.0
    mask[voxel(wave, MASKED, vacuum=True)] = 1 << 10 | 1 << 3
    mask[voxel(wave, (8, 0, 0), vacuum=True)] = 1 << 20  # no bit that means "do not use"
    header = cubes.muse_cards(ctype="WAVE-LOG", bunit="1E-17 erg/s/cm^2/Ang/spaxel")
    header |= {"CRVAL3": wave[0], "CD3_3": wave[0] * 1e-4 * np.log(10), "CRPIX3": 1.0}
    width = np.full(flux.shape, sigma)
    width[:, 0, 0] = 0.0  # no data there
    width_hdu = image(width, lsf) if "RES" not in lsf else image(wave / sigma / 2.355, lsf)
    extras = [image(flux, extra)] if extra else []
    return write(
        path, primary(None, {"MANGAID": "1-113379", "DRP3QUAL": quality, "EBVGAL": 0.03}), image(flux, "FLUX", header),
        image(ivar, "IVAR"), image(mask, "MASK", dtype=">i4"), width_hdu, image(wave, "WAVE", dtype=">f8"), *extras,
    )  # fmt: skip


def manga_rss(path: Path) -> Path:
    wave = log_vacuum()
    flux, variance = (values.reshape(len(wave), -1).T for values in source(wave, vacuum=True, cgs=1e-17))
    channel, y, x = voxel(wave, MASKED, vacuum=True)
    empty, row, column = voxel(wave, EMPTY, vacuum=True)
    ivar, mask = 1 / variance, np.zeros(flux.shape, np.int32)
    ivar[row * NX + column, empty], mask[y * NX + x, channel] = 0.0, 1 << 30
    width = np.full(flux.shape, 1.1)
    return write(
        path, primary(None, {"MANGAID": "1-113379"}), image(flux, "FLUX", {"BUNIT": "1E-17 erg/s/cm^2/Ang/fiber"}),
        image(ivar, "IVAR"), image(mask, "MASK", dtype=">i4"), image(width, "LSFPRE"), image(wave, "WAVE", dtype=">f8"),
    )  # fmt: skip


def califa(path: Path, *, step: float = 2.0, silent: bool = True, first: float = 5800.0) -> Path:
    """`silent`: without CTYPE3 and CUNIT3."""
    wave = linear(first, step, round(160 / step))
    flux, variance = source(wave, cgs=1e-16)
    error, bad = np.sqrt(variance), np.zeros(flux.shape, np.uint8)
    error[voxel(wave, EMPTY)] = np.inf
    bad[voxel(wave, MASKED)] = 1
    spectral = {"CTYPE3": None, "CUNIT3": None} if silent else {"CTYPE3": "WAVELENGTH", "CUNIT3": "Angstrom"}
    header = cards(wave[0], step, **spectral)
    return write(
        path, primary(flux, header), image(error, "ERROR"), image(np.ones(flux.shape), "ERRWEIGHT"),
        image(bad, "BADPIX", dtype="u1"), image(np.full(flux.shape, 3), "FIBCOVER", dtype="u1"),
    )  # fmt: skip


def sami(path: Path, *, first: float = 5800.0, step: float = 0.57, n: int = 300) -> Path:
    wave = linear(first, step, n)
    flux, variance = source(wave, cgs=1e-16)
    flux[voxel(wave, MASKED)] = np.nan
    variance[voxel(wave, EMPTY)] = np.nan
    header = cards(first, step, BUNIT="10**(-16) erg /s /cm**2 /angstrom /pixel")
    covariance = image(np.ones((2, 5, 5, NY, NX)), "COVAR")
    return write(
        path, primary(flux, header), image(variance, "VARIANCE"), image(np.ones(flux.shape), "WEIGHT"), covariance
    )


def kcwi(path: Path, *, noise: bool = True, vacuum: bool = False, bunit: str = "1e+16 erg / (Angstrom cm2 s)") -> Path:
    wave = linear(5800.0, 0.5, 300)
    flux, variance = source(wave, cgs=1e-16, vacuum=vacuum)
    sigma, mask = np.sqrt(variance), np.zeros(flux.shape, np.uint8)
    sigma[voxel(wave, EMPTY, vacuum=vacuum)] = 0.0
    mask[voxel(wave, MASKED, vacuum=vacuum)] = 1
    names = {"INSTRUME": "KCWI", "CAMERA": "BLUE", "BGRATNAM": "BM", "IFUNAM": "Large", "BUNIT": bunit}
    header = cards(wave[0], 0.5, CTYPE3="WAVE" if vacuum else "AWAV") | names
    extensions = [image(sigma, "UNCERT"), image(mask, "MASK", dtype="u1"), image(4 * mask, "FLAGS", dtype="u1")]
    return write(path, primary(flux, header), *(extensions if noise else []))


def weave(path: Path, *, arm: str = "RED", response: float = 3e-18) -> Path:
    wave = linear(5800.0, 0.5, 300)
    sensitivity = response * np.linspace(1.0, 2.0, len(wave))
    flux, variance = source(wave, cgs=1.0)
    counts, ivar = flux / sensitivity[:, None, None], sensitivity[:, None, None] ** 2 / variance
    counts[voxel(wave, MASKED)] = np.nan
    ivar[voxel(wave, EMPTY)] = 0.0
    header = cards(wave[0] * 1e-10, 0.5e-10, CUNIT3="m", BUNIT="count")
    return write(
        path, primary(), image(counts, f"{arm}_DATA", header), image(ivar, f"{arm}_IVAR"),
        image(counts, f"{arm}_DATA_NOSS", header), image(sensitivity, f"{arm}_SENSFUNC"),
    )  # fmt: skip


def generic_wave(path: Path, *, table: bool = False, unit: str | None = "nm", vacuum: bool = True) -> Path:
    """Flux without a spectral WCS, and the wavelengths in an HDU of their own."""
    wave = 10 ** np.linspace(np.log10(5810.0), np.log10(5990.0), 140)  # any spacing
    flux, variance = source(wave, vacuum=vacuum, cgs=1e-20)
    flux[voxel(wave, MASKED, vacuum=vacuum)] = np.nan
    variance[voxel(wave, EMPTY, vacuum=vacuum)] = 0.0
    stored = wave / 10 if unit == "nm" else wave
    about = {"AIRORVAC": "vac" if vacuum else "air"}
    if table:
        column = fits.Column("WAVELENGTH", "D", array=stored, unit=unit)
        vector: Any = fits.BinTableHDU.from_columns([column], name="WAVE")
        vector.header.update(about)
    else:
        vector = image(stored, "WAVELENGTH", about | {"BUNIT": unit}, dtype=">f8")
    header = cubes.celestial_cards() | {"BUNIT": cubes.MUSE_BUNIT}
    return write(path, primary(), image(flux, "SCI", header), image(variance, "VAR"), vector)


def long_slit(path: Path, *, iraf: bool = False) -> Path:
    """Wavelength along the rows (iraf) or along the columns."""
    wave = linear(step=1.0, n=160)
    flux, variance = (values.reshape(len(wave), -1) for values in source(wave, cgs=1e-17))
    channel, y, x = voxel(wave, MASKED)
    empty, row, column = voxel(wave, EMPTY)
    flux[channel, y * NX + x], variance[empty, row * NX + column] = np.nan, np.nan
    number = 1 if iraf else 2
    axis = {"CRVAL": wave[0], "CRPIX": 1.0, "CUNIT": "Angstrom", "CTYPE": "LINEAR" if iraf else "AWAV"}
    header: dict[str, Any] = {f"{key}{number}": value for key, value in axis.items()}
    header |= {f"CD{number}_{number}": 1.0, "BUNIT": "1e-17 erg/s/cm2/Angstrom"}
    header |= {"CTYPE2": "LINEAR", "CD2_2": 0.5, "DISPAXIS": 1} if iraf else {}
    if iraf:
        flux, variance = flux.T, variance.T
    return write(path, primary(flux, header), image(variance, "VARIANCE"))


def stacked(path: Path) -> Path:
    """Spectra in rows, and their wavelengths in an HDU."""
    wave = linear(step=1.0, n=160)
    flux, variance = (values.reshape(len(wave), -1).T for values in source(wave, cgs=1e-17))
    channel, y, x = voxel(wave, MASKED)
    empty, row, column = voxel(wave, EMPTY)
    flux[y * NX + x, channel], variance[row * NX + column, empty] = np.nan, np.nan
    about = {"CUNIT1": "Angstrom", "AIRORVAC": "air"}
    return write(
        path, primary(), image(flux, "FLUX", {"BUNIT": "1e-17 erg/s/cm2/Angstrom"}), image(variance, "VAR"),
        image(wave, "WAVELENGTH", about, dtype=">f8"),
    )  # fmt: skip


#: Every layout: its writer, what `layout` says, whether its own axis is in vacuum.
LAYOUTS: dict[str, tuple[Callable[[Path], Path], str, bool]] = {
    "manga": (manga, "MaNGA LOGCUBE", True),
    "manga_rss": (manga_rss, "MaNGA row-stacked spectra", True),
    "califa": (califa, "CALIFA V500 or COMB", False),
    "sami": (sami, "SAMI, blue arm", False),
    "kcwi": (kcwi, "KCWI", False),
    "kcwi_vacuum": (lambda path: kcwi(path, vacuum=True), "KCWI", True),
    "weave": (weave, "WEAVE, red arm, low resolution", False),
    "wave_image": (generic_wave, "generic FITS", True),
    "wave_table": (lambda path: generic_wave(path, table=True, unit="Angstrom"), "generic FITS", True),
    "long_slit": (long_slit, "generic FITS, image of spectra", False),
    "iraf": (lambda path: long_slit(path, iraf=True), "generic FITS, image of spectra", False),
    "stacked": (stacked, "generic FITS, image of spectra", False),
}
