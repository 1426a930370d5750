"""DESI: `coadd-*.fits` and `spectra-*.fits`, in which each arm of the spectrographs has arrays of its own.

Source: https://desidatamodel.readthedocs.io; wavelengths are in vacuum and barycentric. The survey keeps redshifts in
other files (redrock), unless somebody has put a table REDSHIFTS beside the spectra.
"""

from typing import Any, Final

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from galprote.pipeline.readers.layouts.raw import SIGMA_TO_FWHM, RawSpectrum, choose_row, plain
from galprote.pipeline.readers.layouts.sdss import SFD_TO_SF11, WARNING

ARMS: Final = ("B", "R", "Z", "BRZ")
#: Samples of two arms that are nearer than this are the same, Angstrom: the arms share a grid of 0.8.
SAME: Final = 0.01

Array = NDArray[np.float64]


def read_desi(hdus: fits.HDUList, row: int | None) -> RawSpectrum | None:
    """Read one row of a coadd or spectra file, its arms joined."""
    names = {hdu.name for hdu in hdus}
    arms = [arm for arm in ARMS if {f"{arm}_WAVELENGTH", f"{arm}_FLUX", f"{arm}_IVAR"} <= names]
    if not arms:
        return None
    rows = int(hdus[f"{arms[0]}_FLUX"].shape[0])
    chosen = choose_row(rows, row)
    wavelength, flux, inverse, fwhm = join_arms([_arm(hdus, arm, chosen, names) for arm in arms])
    fibermap = hdus["FIBERMAP"].data if "FIBERMAP" in names else None
    ebv = _number(fibermap, "EBV", chosen)
    target = None if fibermap is None or "TARGETID" not in fibermap.names else int(fibermap["TARGETID"][chosen])
    redshifts = hdus["REDSHIFTS"].data if "REDSHIFTS" in names and len(hdus["REDSHIFTS"].data) == rows else None
    redshift, warning = _number(redshifts, "Z", chosen), _number(redshifts, "ZWARN", chosen)
    good = inverse > 0
    return RawSpectrum(
        layout=f"DESI ({', '.join(arms)})",
        wavelength=wavelength,
        flux=np.where(good, flux, np.nan),
        variance=np.where(good, 1 / np.where(good, inverse, 1.0), np.nan),
        medium="vacuum",
        medium_source="DESI",
        unit=str(hdus[f"{arms[0]}_FLUX"].header.get("BUNIT", "")),
        fwhm=fwhm if np.isfinite(fwhm).any() else None,
        redshift=redshift,
        redshift_source="" if redshift is None else "table REDSHIFTS, Z",
        ebv=None if ebv is None else SFD_TO_SF11 * ebv,
        ebv_source="" if ebv is None else f"table FIBERMAP, EBV = {ebv:.4f} (SFD), times {SFD_TO_SF11}",
        rows=rows,
        label=f"row {chosen}" + ("" if target is None else f", target {target}"),
        notes=(WARNING.format(int(warning)),) if warning else (),
    )


def _arm(hdus: fits.HDUList, arm: str, row: int, names: set[str]) -> tuple[Array, Array, Array, Array]:
    """Wavelength, flux, inverse variance and FWHM of an arm; only the row is read."""
    wavelength = plain(hdus[f"{arm}_WAVELENGTH"].data)
    flux, inverse = (plain(hdus[f"{arm}_{name}"].section[row]) for name in ("FLUX", "IVAR"))
    bad = ~np.isfinite(flux) | ~(inverse > 0)
    if f"{arm}_MASK" in names:
        bad |= plain(hdus[f"{arm}_MASK"].section[row]) != 0
    fwhm = np.full_like(wavelength, np.nan)
    if f"{arm}_RESOLUTION" in names:
        fwhm = _fwhm(plain(hdus[f"{arm}_RESOLUTION"].section[row]), wavelength)
    return wavelength, np.where(bad, 0.0, flux), np.where(bad, 0.0, inverse), fwhm


def _fwhm(bands: Array, wavelength: Array) -> Array:
    """FWHM in Angstrom of the resolution matrix, (2 k + 1, m) diagonals: the second moment of each column."""
    offset = np.arange(len(bands), dtype=np.float64) - len(bands) // 2
    total = bands.sum(axis=0)
    total[total <= 0] = np.nan
    mean = offset @ bands / total
    spread = offset**2 @ bands / total - mean**2
    return np.sqrt(np.where(spread > 0, spread, np.nan)) * np.gradient(wavelength) * SIGMA_TO_FWHM


def join_arms(arms: list[tuple[Array, Array, Array, Array]]) -> tuple[Array, Array, Array, Array]:
    """Join arms, blue to red: where two share samples, their mean, weighted by the inverse variance.

    Arms on different grids are cut in the middle of their overlap.

    Parameters
    ----------
    arms : list of (wavelength, flux, inverse variance, FWHM)

    Returns
    -------
    wavelength, flux, inverse variance, FWHM : (m,) float64
    """
    joined, *others = sorted(arms, key=lambda arm: float(arm[0][0]))
    for arm in others:
        joined = _join(joined, arm)
    return joined


def _join(blue: tuple[Array, Array, Array, Array], red: tuple[Array, Array, Array, Array]) -> Any:
    first, last = red[0][0], blue[0][-1]
    shared, beyond = blue[0] >= first - SAME, red[0] > last + SAME
    same = int(shared.sum())
    if same and same == len(red[0]) - int(beyond.sum()) and np.allclose(blue[0][shared], red[0][:same], atol=SAME):
        inverse = blue[2][shared] + red[2][:same]
        total = np.where(inverse > 0, inverse, 1.0)
        flux = (blue[1][shared] * blue[2][shared] + red[1][:same] * red[2][:same]) / total
        fwhm = np.where(blue[2][shared] >= red[2][:same], blue[3][shared], red[3][:same])
        middle = (blue[0][shared], flux, inverse, fwhm)
        return tuple(np.concatenate([b[~shared], m, r[same:]]) for b, m, r in zip(blue, middle, red, strict=True))
    cut = (first + last) / 2 if last > first else last
    before, after = blue[0] <= cut, red[0] > cut
    return tuple(np.concatenate([b[before], r[after]]) for b, r in zip(blue, red, strict=True))


def _number(table: Any, column: str, row: int) -> float | None:
    if table is None or column not in table.names:
        return None
    value = float(table[column][row])
    return value if np.isfinite(value) else None
