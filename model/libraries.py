"""Read template libraries from the formats in which they are distributed.

- `.npz` with `flux`, `metallicity`, `age`, `wave`;
- pPXF's `.npz` (`templates`, `lam`, `ages`, `metals`, `fwhm`);
- a folder of MILES, E-MILES or MIUSCAT FITS files, whose names carry metallicity and age
  (`Ech1.30Zp0.06T00.0300_iTp0.00_baseFe.fits`; https://miles.iac.es).
"""

import hashlib
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galprote.model.errors import LibraryError
from galprote.model.templates import TemplateLibrary

#: FWHM of the MILES-based libraries, Angstrom (Falcon-Barroso et al. 2011).
MILES_FWHM = 2.51

_NAME = re.compile(r"^(?P<family>[A-Z])(?P<imf>[a-z]{2}\d\.\d\d)Z(?P<sign>[pm])(?P<z>\d\.\d\d)T(?P<age>\d\d\.\d{4})")


def library_sha256(path: Path) -> str:
    """Hash of a library's content: a file, or the files of a folder by name."""
    if path.is_file():
        return file_sha256(path)
    digest = hashlib.sha256()
    for file in sorted(item for item in path.iterdir() if item.is_file()):
        digest.update(f"{file.name} {file_sha256(file)}\n".encode())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_library(path: str | Path, *, fwhm: float | None = None) -> TemplateLibrary:
    """Read a template library.

    Parameters
    ----------
    path : str or Path
        An `.npz` file or a folder of FITS files.
    fwhm : float, optional
        Resolution of the library, Angstrom; needed when the files do not tell (2.51 for MILES and E-MILES).

    Returns
    -------
    TemplateLibrary

    Raises
    ------
    LibraryError
        If nothing is there, the format is unknown, or the age-metallicity grid has holes.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path, fwhm)
    if not path.is_file():
        raise LibraryError(
            f"{path.resolve()}: no such template library; give an .npz file or a folder of FITS files (`--library`); "
            "docs/training.md says where to get one"
        )
    if path.suffix != ".npz":
        raise LibraryError(f"{path}: not an .npz file nor a folder of FITS files")
    with np.load(path, allow_pickle=False) as arrays:
        if {"flux", "wave", "age", "metallicity"} <= set(arrays):
            return TemplateLibrary(
                arrays["flux"],
                arrays["wave"].astype(np.float64),
                arrays["age"].astype(np.float64),
                arrays["metallicity"].astype(np.float64),
                fwhm or MILES_FWHM,
                path.stem,
            )
        if {"templates", "lam", "ages", "metals"} <= set(arrays):
            return _from_ppxf({name: arrays[name] for name in arrays.files if name != "masses"}, fwhm, path)
        found = sorted(arrays)
    raise LibraryError(
        f"{path}: arrays {found}; expected flux, wave, age, metallicity, or pPXF's templates, lam, ages, metals"
    )


def _from_ppxf(arrays: dict[str, NDArray[np.floating]], fwhm: float | None, path: Path) -> TemplateLibrary:
    """pPXF keeps templates as (wavelength, age, metallicity), and the resolution as a number or one per sample."""
    if fwhm is None:
        if "fwhm" not in arrays:
            raise LibraryError(f"{path}: does not tell its resolution; give fwhm in Angstrom")
        fwhm = float(np.median(arrays["fwhm"]))
    flux = np.moveaxis(arrays["templates"], (0, 1, 2), (2, 1, 0))
    wavelength = arrays["lam"].astype(np.float64)
    return TemplateLibrary(
        flux, wavelength, arrays["ages"].astype(np.float64), arrays["metals"].astype(np.float64), fwhm, path.stem
    )


def _read_folder(folder: Path, fwhm: float | None) -> TemplateLibrary:
    """Read a folder of MILES-like FITS files by their names."""
    from astropy.io import fits

    files: dict[tuple[float, float], Path] = {}
    families: set[str] = set()
    for file in sorted(folder.glob("*.fits")):
        match = _NAME.match(file.name)
        if match is None:
            continue
        sign = 1.0 if match["sign"] == "p" else -1.0
        files[sign * float(match["z"]), float(match["age"])] = file
        families.add(match["family"] + match["imf"])
    if not files:
        raise LibraryError(f"{folder}: no file named like Ech1.30Zp0.06T00.0300_iTp0.00_baseFe.fits")
    if len(families) > 1:
        raise LibraryError(
            f"{folder}: several libraries or IMFs in one folder ({', '.join(sorted(families))}); keep one"
        )
    metallicities = np.array(sorted({z for z, _ in files}))
    ages = np.array(sorted({age for _, age in files}))
    holes = [(z, age) for z in metallicities for age in ages if (z, age) not in files]
    if holes:
        raise LibraryError(
            f"{folder}: {len(holes)} of {len(metallicities) * len(ages)} age-metallicity pairs have no file; "
            f"the first is [M/H] = {holes[0][0]}, age = {holes[0][1]} Gyr"
        )
    spectra, axes = [], set()
    for z in metallicities:
        for age in ages:
            with fits.open(files[z, age]) as hdus:
                header, data = hdus[0].header, np.asarray(hdus[0].data, dtype=np.float64)
            step = header.get("CDELT1", header.get("CD1_1"))
            axes.add((float(header["CRVAL1"]), float(step), float(header.get("CRPIX1", 1.0)), data.size))
            spectra.append(data.ravel())
    if len(axes) > 1:
        raise LibraryError(f"{folder}: the files have {len(axes)} different wavelength axes; expected one")
    start, step, pixel, size = axes.pop()
    wavelength: NDArray[np.float64] = start + step * (np.arange(size, dtype=np.float64) + 1.0 - pixel)
    flux: NDArray[np.float64] = np.stack(spectra).reshape(len(metallicities), len(ages), size)
    return TemplateLibrary(
        flux, wavelength, ages, metallicities, fwhm or MILES_FWHM, families.pop() + "_" + folder.name
    )
