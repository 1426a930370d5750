"""Small PHANGS-like FITS cubes for the tests, with every trap of the real ones selectable."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from astropy.io import fits
from numpy.typing import NDArray

from galprote.pipeline.readers import open_cube

MUSE_BUNIT = "10**(-20)*erg/s/cm**2/Angstrom"
#: Air wavelengths of the AO notch in the files, first and last channel, Angstrom.
NOTCH = (5806.25, 5963.75)

Array = NDArray[Any]


def spectra(shape: tuple[int, int, int] = (48, 7, 5), *, seed: int = 1, noise: float = 10.0) -> tuple[Array, Array]:
    """Flux (around 1000, some finite zeros and negatives) and variance, float32 `(wavelength, y, x)`."""
    rng = np.random.default_rng(seed)
    sigma = noise * rng.uniform(0.8, 1.2, shape)
    flux = 1000.0 + sigma * rng.standard_normal(shape)
    flux[3, 2, 1], flux[4, 2, 1] = 0.0, -17.5  # finite, valid
    return flux.astype(np.float32), (sigma**2).astype(np.float32)


def wavelengths(channels: int, first: float = 5000.0, step: float = 1.25) -> Array:
    """The channels' centres."""
    return first + step * np.arange(channels)


def add_notch(flux: Array, variance: Array, wavelength: Array) -> None:
    """NaN in both, where adaptive optics leave the sodium lasers' light out."""
    inside = (wavelength >= NOTCH[0]) & (wavelength <= NOTCH[1])
    flux[inside], variance[inside] = np.nan, np.nan


def add_empty_corner(flux: Array, variance: Array, rows: int = 2, columns: int = 2) -> None:
    """NaN in both, in a corner that no exposure covers."""
    flux[:, :rows, :columns], variance[:, :rows, :columns] = np.nan, np.nan


def add_bad_variances(variance: Array) -> list[tuple[int, int, int]]:
    """Zero, negative, infinite and NaN variances under finite fluxes; returns where."""
    where = [(10, 3, 2), (11, 3, 2), (12, 4, 3), (20, 5, 4)]
    for voxel, value in zip(where, (0.0, -4.0, np.inf, np.nan), strict=True):
        variance[voxel] = value
    return where


def add_joint_nans(flux: Array, variance: Array) -> list[tuple[int, int, int]]:
    """Single voxels without flux and variance; returns where."""
    where = [(15, 4, 1), (16, 6, 4)]
    for voxel in where:
        flux[voxel] = variance[voxel] = np.nan
    return where


def celestial_cards() -> dict[str, Any]:
    """A tangential projection with MUSE's pixels, in axes 1 and 2."""
    return {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg",
        "CRVAL1": 184.7, "CRVAL2": 14.4, "CRPIX1": 3.0, "CRPIX2": 2.0,
        "CD1_1": -0.2 / 3600, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.2 / 3600,
    }  # fmt: skip


def muse_cards(
    first: float = 5000.0,
    step: float = 1.25,
    *,
    ctype: str | None = "AWAV",
    cunit: str | None = "Angstrom",
    bunit: str | None = MUSE_BUNIT,
    crpix: float = 1.0,
    matrix: str = "CD",
) -> dict[str, Any]:
    """Header cards of a MUSE cube; `first` and `step` in `cunit`; None leaves a card out.

    `matrix` says how the step is written: "CD" (CD3_3), "CDELT", or "PC" (PC3_3 * CDELT3).
    """
    cards = celestial_cards() | {"CRVAL3": first + (crpix - 1) * step, "CRPIX3": crpix}
    if matrix == "CD":
        cards |= {"CD3_3": step, "CD1_3": 0.0, "CD2_3": 0.0, "CD3_1": 0.0, "CD3_2": 0.0}
    else:
        scale = {"CDELT": 1.0, "PC": 2.0}[matrix]
        cards = {key: value for key, value in cards.items() if not key.startswith("CD")}
        cards |= {"CDELT1": -0.2 / 3600, "CDELT2": 0.2 / 3600, "CDELT3": step / scale, "PC3_3": scale}
    cards |= {"CTYPE3": ctype, "CUNIT3": cunit, "BUNIT": bunit, "OBJECT": "NGC 4254 (DATA)"}
    return {key: value for key, value in cards.items() if value is not None}


def write_muse_cube(
    path: Path,
    flux: Array,
    variance: Array | None,
    cards: dict[str, Any] | None = None,
    *,
    flags: Array | None = None,
    dtype: str = ">f4",
    names: tuple[str, str, str] = ("DATA", "STAT", "DQ"),
    primary: dict[str, Any] | None = None,
) -> Path:
    """Write HDUs PRIMARY, DATA, STAT and DQ as MUSE's pipeline orders them."""
    cards = muse_cards() if cards is None else cards
    hdus = fits.HDUList([fits.PrimaryHDU()])
    hdus[0].header.update({"OBJECT": "NGC 4254", "INSTRUME": "MUSE"} | (primary or {}))
    hdus.append(_image(flux.astype(dtype), names[0], cards | {"ERRDATA": "STAT"}))
    if variance is not None:
        # As in real files, the unit of STAT is not the square that it should be.
        wrong = {"BUNIT": f"{MUSE_BUNIT}**2"} if cards.get("BUNIT") else {}
        hdus.append(_image(variance.astype(dtype), names[1], cards | wrong))
    if flags is not None:
        hdus.append(_image(flags, names[2], {}))
    hdus.writeto(path, overwrite=True)
    return path


def write_plain_cube(path: Path, flux: Array, cards: dict[str, Any], **others: Array) -> Path:
    """Write a cube in the primary HDU, and `others` as extensions under their keyword's name."""
    primary = fits.PrimaryHDU(flux)
    primary.header.update(cards)
    extensions = [_image(values, name, {}) for name, values in others.items()]
    fits.HDUList([primary, *extensions]).writeto(path, overwrite=True)
    return path


def write_sparse_muse_cube(path: Path, shape: tuple[int, int, int], first: float = 4700.0) -> Path:
    """Write a cube of zeros of any size that takes no room on the disk: headers, and holes for the data."""
    with path.open("wb") as file:
        file.write(fits.PrimaryHDU().header.tostring().encode())
        for name in ("DATA", "STAT"):
            header = fits.ImageHDU(np.zeros((1, 1, 1), ">f4"), name=name).header
            header.update({f"NAXIS{i + 1}": length for i, length in enumerate(reversed(shape))})
            header.update(muse_cards(first))
            file.write(header.tostring().encode())
            size = int(np.prod(shape, dtype=np.int64)) * 4
            file.seek(-(-size // 2880) * 2880, 1)
        file.truncate()
    return path


WINDOW = (5008.0, 5050.0)
"""Rest-frame window of `opened`: most of the 48 channels from 5000 A by 1.25 A."""


def opened(path: Path, **settings: Any) -> xr.Dataset:
    """Open a cube of 48 channels."""
    return open_cube(path, **({"rest_window": WINDOW} | settings))


def bits(values: Any) -> bytes:
    """The very bits of float32 numbers, NaN payloads and signs of zero included."""
    return np.ascontiguousarray(values, dtype=np.float32).tobytes()


def _image(values: Array, name: str, cards: dict[str, Any]) -> fits.ImageHDU:
    hdu = fits.ImageHDU(values, name=name.upper())
    hdu.header.update(cards)
    return hdu
