"""Write a mock cube in the layout of PHANGS-MUSE, and beside it the truth that it was made from.

The cube has an empty primary HDU, `DATA` and `STAT` (variance), float32 (wavelength, y, x), NaN where nothing was
observed. The truth has `AGE_LW`, `Z_LW`, `AGE_MW`, `Z_MW`, `STELLAR_MASS_DENSITY`, `AV_STARS`, `V_STARS`, `FLUX`
(median of the stars in the model's window, without foreground dust), `SNR` (median per model sample of 2.48 A), and the
fluxes of the emission lines as observed, behind the galaxy's and the foreground's dust, integrated over each line:
`HA6562_FLUX` and the other `LINE_EXTENSIONS`, named as in the maps of PHANGS-MUSE; zero without emission. All are
float32 (y, x), NaN where nothing was observed.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from galprote.model.decoder import Decoder
from galprote.model.errors import CubeError
from galprote.pipeline.mock_galaxy import CHANNEL, FIRST_WAVELENGTH, SPAXEL_ARCSEC, Galaxy, MockConfig, make_galaxy
from galprote.pipeline.mock_spectra import EMISSION_LINES, MockSpectra

__all__ = ["LINE_EXTENSIONS", "MockConfig", "make_mock", "truth_path"]

#: Names of the lines of `EMISSION_LINES` in the data products of PHANGS-MUSE (Emsellem et al. 2022), in their order.
_PHANGS_LINES: Final = (
    "HB4861", "OIII4958", "OIII5006", "OI6300", "NII6548", "HA6562", "NII6583", "SII6716", "SII6730",
)  # fmt: skip
#: Extensions of the truth with the fluxes of `EMISSION_LINES`, by the line.
LINE_EXTENSIONS: Final = {line: f"{name}_FLUX" for line, name in zip(EMISSION_LINES, _PHANGS_LINES, strict=True)}

#: What is known of the stars only after the spectra are made, with units as in galprote's own maps.
_TRUTH_UNITS: Final = {
    "AGE_LW": "dex(yr)", "Z_LW": "dex", "AGE_MW": "dex(yr)", "Z_MW": "dex", "STELLAR_MASS_DENSITY": "solMass / pc2",
}  # fmt: skip
_LINE_BUNIT: Final = "10**(-20)*erg/s/cm**2"
_BUNIT: Final = f"{_LINE_BUNIT}/Angstrom"
_SPAXEL_DEG: Final = SPAXEL_ARCSEC / 3600
_CENTRE_DEG: Final = (184.7068, 14.4164)
_FITS_BLOCK: Final = 2880
#: Memory for the rows that are written together.
_SLAB_BYTES: Final = 96 * 1024**2


def truth_path(cube_path: Path) -> Path:
    """Where the truth of a mock cube is: `<stem>_TRUTH.fits` beside it."""
    return cube_path.with_name(f"{cube_path.stem}_TRUTH.fits")


def make_mock(config: MockConfig, path: Path, decoder: Decoder, *, slab_rows: int | None = None) -> Path:
    """Make a mock cube and its truth.

    Written under temporary names and renamed when complete. The same configuration and decoder give the same bytes.

    Parameters
    ----------
    config : MockConfig
    path : Path
        The cube to write, `*.fits`; replaced if it exists.
    decoder : Decoder
        On the CPU.
    slab_rows : int, optional
        Rows that are held and written together, by default as many as fit into 96 MB; the bytes do not depend on it.

    Returns
    -------
    Path

    Raises
    ------
    CubeError
        If `path` does not end in `.fits`.
    """
    if path.suffix != ".fits":
        raise CubeError(f"{path}: a mock cube's name must end in .fits")
    spectra = MockSpectra(config, make_galaxy(config), decoder)
    shape = (len(spectra.wavelength), *config.shape)
    rows = slab_rows or max(1, _SLAB_BYTES // (8 * shape[0] * shape[2]))
    path.parent.mkdir(parents=True, exist_ok=True)
    cube, truth = (target.with_name(target.name + ".partial") for target in (path, truth_path(path)))
    try:
        maps = _write_cube(cube, _cube_headers(config, shape), spectra, shape, rows)
        _truth_hdus(config, spectra.galaxy, maps, decoder.library).writeto(truth, overwrite=True)
        os.replace(truth, truth_path(path))
        os.replace(cube, path)
    finally:
        cube.unlink(missing_ok=True)
        truth.unlink(missing_ok=True)
    return path


def _write_cube(
    path: Path, headers: Sequence[fits.Header], spectra: MockSpectra, shape: tuple[int, int, int], rows: int
) -> dict[str, NDArray[np.float32]]:
    """Write the cube slab by slab; return the maps that are known only after the spectra are made."""
    names = (*_TRUTH_UNITS, "SNR", *LINE_EXTENSIONS.values())
    maps = {name: np.full(shape[1:], np.nan, dtype=np.float32) for name in names}
    with path.open("wb") as file:
        offsets = _allocate(file.fileno(), headers, shape)
        for first in range(0, shape[1], rows):
            slab = np.full((2, shape[0], min(rows, shape[1] - first), shape[2]), np.nan, dtype=">f4")
            for y in range(first, first + slab.shape[2]):
                row = spectra.row(y)
                slab[0, :, y - first, row.columns] = row.flux
                slab[1, :, y - first, row.columns] = row.variance
                masses = (row.log_age_mw, row.metallicity_mw, row.density)
                truth = (row.log_age, row.metallicity, *masses, row.snr, *row.lines.T)
                for name, values in zip(names, truth, strict=True):
                    maps[name][y, row.columns] = values
            for offset, extension in zip(offsets, slab, strict=True):
                _write_rows(file.fileno(), extension, offset, shape, first)
        os.fsync(file.fileno())
    return maps


def _allocate(file: int, headers: Sequence[fits.Header], shape: tuple[int, int, int]) -> list[int]:
    """Write the headers and make the file as long as it will be; return where each array starts."""
    length = 4 * int(np.prod(shape, dtype=np.int64))
    offsets, position = [], 0
    for header in headers:
        text = header.tostring(padding=True).encode("ascii")
        os.pwrite(file, text, position)
        position += len(text)
        if header["NAXIS"]:
            offsets.append(position)
            position += -(-length // _FITS_BLOCK) * _FITS_BLOCK
    os.ftruncate(file, position)
    return offsets


def _write_rows(file: int, slab: NDArray[np.float32], offset: int, shape: tuple[int, int, int], first: int) -> None:
    """Put rows (m, k, nx) of big-endian float32 into their places in the planes of the file."""
    for channel, plane in enumerate(slab):
        view = memoryview(plane.view(np.uint8).reshape(-1))
        position = offset + 4 * shape[2] * (channel * shape[1] + first)
        while view:
            written = os.pwrite(file, view, position)
            view, position = view[written:], position + written


def _cube_headers(config: MockConfig, shape: tuple[int, int, int]) -> tuple[fits.Header, ...]:
    """Headers of the primary HDU, DATA and STAT, as PHANGS-MUSE has them."""
    primary = fits.PrimaryHDU().header
    primary["OBJECT"] = config.name
    primary["REDSHIFT"] = (config.redshift, "barycentric")
    primary["ORIGIN"] = ("galprote", "synthetic: not an observation")
    headers = [primary]
    for name, other, kind, unit in (("DATA", "STAT", "DATA", _BUNIT), ("STAT", "DATA", "ERROR", f"({_BUNIT})**2")):
        header = fits.Header([("XTENSION", "IMAGE"), ("BITPIX", -32), ("NAXIS", 3)])
        header.update({f"NAXIS{axis}": size for axis, size in enumerate(reversed(shape), start=1)})
        header.update({"PCOUNT": 0, "GCOUNT": 1, "EXTNAME": name, "OBJECT": config.name, "BUNIT": unit})
        header.update({"HDUCLASS": "ESO", "HDUDOC": "DICD", "HDUVERS": "DICD version 6", "HDUCLAS1": "IMAGE"})
        header.update({"HDUCLAS2": kind, **({"HDUCLAS3": "MSE"} if kind == "ERROR" else {})})
        header["ERRDATA" if kind == "DATA" else "SCIDATA"] = other
        header.extend(_celestial(shape[1:]))
        header.update({"CTYPE3": "AWAV", "CUNIT3": "Angstrom", "CRPIX3": 1.0, "CRVAL3": FIRST_WAVELENGTH})
        header.update({"CD3_3": CHANNEL, "CD1_3": 0.0, "CD2_3": 0.0, "CD3_1": 0.0, "CD3_2": 0.0})
        header["SPECSYS"] = "BARYCENT"
        headers.append(header)
    return tuple(headers)


def _celestial(shape: tuple[int, ...]) -> fits.Header:
    """WCS of the sky: tangential, north up, 0.2 arcsec spaxels."""
    header = fits.Header()
    for axis, (name, step) in enumerate((("RA---TAN", -_SPAXEL_DEG), ("DEC--TAN", _SPAXEL_DEG)), start=1):
        header[f"CTYPE{axis}"] = name
        header[f"CUNIT{axis}"] = "deg"
        header[f"CRPIX{axis}"] = (shape[-axis] + 1) / 2
        header[f"CRVAL{axis}"] = _CENTRE_DEG[axis - 1]
        header[f"CD{axis}_{axis}"] = step
        header[f"CD{axis}_{3 - axis}"] = 0.0
    header["RADESYS"] = "ICRS"
    return header


def _truth_hdus(config: MockConfig, galaxy: Galaxy, maps: dict[str, NDArray[np.float32]], library: str) -> fits.HDUList:
    """The truth as FITS: units as in galprote's own maps, the configuration in HISTORY."""
    primary = fits.PrimaryHDU()
    primary.header["OBJECT"] = config.name
    primary.header["REDSHIFT"] = (config.redshift, "barycentric")
    primary.header["LIBRARY"] = (library, "template library")
    primary.header.add_history(config.model_dump_json())
    layers: tuple[tuple[str, NDArray[np.floating], str], ...] = (
        *((name, maps[name], unit) for name, unit in _TRUTH_UNITS.items()),
        ("AV_STARS", galaxy.av, "mag"),
        ("V_STARS", galaxy.velocity_kms, "km/s"),
        ("FLUX", galaxy.flux, _BUNIT),
        ("SNR", maps["SNR"], ""),
        *((name, maps[name], _LINE_BUNIT) for name in LINE_EXTENSIONS.values()),
    )
    hdus = fits.HDUList([primary])
    for name, values, unit in layers:
        inside = np.where(galaxy.inside, values, np.nan).astype(np.float32)
        image = fits.ImageHDU(inside, _celestial(config.shape), name=name)
        image.header["BUNIT"] = unit
        hdus.append(image)
    return hdus
