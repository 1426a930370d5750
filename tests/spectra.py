"""Files with one known spectrum, in the layouts that `read_spectrum` knows: two populations behind some dust."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from astropy.io import fits
from numpy.typing import NDArray

from galprote.model.checkpoint import load_checkpoint
from galprote.model.decoder import FINE_EDGES
from galprote.pipeline.readers.axis import vacuum_to_air
from galprote.pipeline.rebin import edges_of, rebin_matrix

Array = NDArray[np.float64]

REDSHIFT, AV, SNR = 0.012, 0.4, 40.0
#: Means over the light: 70 % at 8 Gyr and [M/H] = 0.06, 30 % at 2 Gyr and -0.35.
LOG_AGE = 0.7 * np.log10(8e9) + 0.3 * np.log10(2e9)
METALLICITY = 0.7 * 0.06 + 0.3 * -0.35
#: SDSS' own sampling.
LOGLAM = np.arange(3.6778, 3.8578, 1e-4)


@lru_cache(maxsize=1)
def fine_light() -> Array:
    """Flux on the fine samples, in the rest frame."""
    decoder = load_checkpoint().decoder
    grid = torch.zeros(1, *decoder.shape)
    grid[0, list(decoder.metallicities).index(0.06), list(decoder.ages_gyr).index(8.0)] = 0.7
    grid[0, list(decoder.metallicities).index(-0.35), list(decoder.ages_gyr).index(2.0)] = 0.3
    return decoder.fine_spectra(grid, torch.tensor([AV]))[0].double().numpy()


def light(wavelength: Array, *, vacuum: bool = False) -> Array:
    """Mean flux in samples with these centres, median near 10."""
    return _light(wavelength.tobytes(), vacuum).copy()


@lru_cache(maxsize=16)
def _light(centres: bytes, vacuum: bool) -> Array:
    wavelength = np.frombuffer(centres)
    edges = edges_of(wavelength)
    air = vacuum_to_air(edges) if vacuum else edges
    fine = FINE_EDGES * (1 + REDSHIFT)
    inside = (air[:-1] >= fine[0]) & (air[1:] <= fine[-1])
    assert inside.all()
    return np.asarray(10 * (rebin_matrix(fine, air) @ fine_light()))


def linear(step: float = 1.25) -> Array:
    """Centres of linear samples in air that cover the window."""
    return np.arange(4760.0, 7230.0, step)


def write_sdss(path: Path, *, z: float | None = REDSHIFT, seed: int | None = None, **cards: Any) -> Path:
    """A `spec` file; noise where there is a seed."""
    wavelength = 10**LOGLAM
    flux = light(wavelength, vacuum=True)
    sigma = flux / SNR
    if seed is not None:
        flux = flux + sigma * np.random.default_rng(seed).normal(size=len(flux))
    n = len(flux)
    columns = [
        fits.Column("flux", "E", array=flux),
        fits.Column("loglam", "D", array=LOGLAM),
        fits.Column("ivar", "E", array=sigma**-2),
        fits.Column("and_mask", "J", array=np.zeros(n, np.int32)),
        fits.Column("wdisp", "E", array=np.full(n, 0.9)),
    ]
    primary = fits.PrimaryHDU()
    primary.header.update({"TELESCOP": "SDSS 2.5-M", "REDDEN": "0.0745 0.0548 0.0398 0.0302 0.0214"} | cards)
    hdus = [primary, fits.BinTableHDU.from_columns(columns, name="COADD")]
    if z is not None:
        about = [fits.Column("CLASS", "6A", array=["GALAXY"]), fits.Column("Z", "E", array=[z]),
                 fits.Column("ZWARNING", "J", array=[0])]  # fmt: skip
        hdus.append(fits.BinTableHDU.from_columns(about, name="SPECOBJ"))
    fits.HDUList(hdus).writeto(path)
    return path


def write_spspec(path: Path) -> Path:
    """An `spSpec` file of SDSS-I."""
    flux = light(10**LOGLAM, vacuum=True)
    hdu = fits.PrimaryHDU(np.stack([flux, 0 * flux, flux / SNR, 0 * flux, 0 * flux]).astype(np.float32))
    cards = {"COEFF0": LOGLAM[0], "COEFF1": 1e-4, "FIBERID": 7, "VACUUM": True, "Z": REDSHIFT, "TELESCOP": "SDSS 2.5-M"}
    hdu.header.update(cards | {"BUNIT": "1.0E-17 erg/cm/s/Ang"})
    hdu.writeto(path)
    return path


def write_desi(path: Path, rows: int = 3, row: int = 1) -> Path:
    """A coadd with the galaxy in one row, twice as bright in the next, and noise in the others."""
    arms = {"B": np.arange(4760.0, 5800.1, 0.8), "R": np.arange(5760.0, 7230.0, 0.8)}
    fibermap = [
        fits.Column("TARGETID", "K", array=1000 + np.arange(rows)),
        fits.Column("EBV", "E", array=np.full(rows, 0.05)),
    ]
    hdus: list[Any] = [fits.PrimaryHDU(), fits.BinTableHDU.from_columns(fibermap, name="FIBERMAP")]
    for arm, wavelength in arms.items():
        flux = np.random.default_rng(3).normal(size=(rows, len(wavelength)))
        flux[row] = light(wavelength, vacuum=True)
        inverse = np.full(flux.shape, (SNR / 10) ** 2)
        bands = np.zeros((rows, 11, len(wavelength)))
        bands[:, 5] = 1.0
        bands[:, 4] = bands[:, 6] = 0.5
        values = {"FLUX": flux, "IVAR": inverse, "MASK": np.zeros(flux.shape, np.uint32), "RESOLUTION": bands / 2}
        hdus.append(fits.ImageHDU(wavelength, name=f"{arm}_WAVELENGTH"))
        hdus += [fits.ImageHDU(array if name == "MASK" else array.astype(np.float32), name=f"{arm}_{name}")
                 for name, array in values.items()]  # fmt: skip
        hdus[-4].header["BUNIT"] = "10**-17 erg/(s cm2 Angstrom)"
    fits.HDUList(hdus).writeto(path)
    return path


def write_rows(path: Path, rows: int = 2, *, manga: bool = True) -> Path:
    """Stacked arrays; the galaxy is the last row, the others are all masked."""
    wavelength = 10**LOGLAM
    flux = np.tile(light(wavelength, vacuum=True), (rows, 1))
    mask = np.full(flux.shape, 1027, np.int32)
    mask[-1] = 0
    arrays = {"WAVE": wavelength, "FLUX": flux, "IVAR": (SNR / flux) ** 2, "MASK": mask,
              "SRES": np.full(flux.shape, 1900.0), "Z": np.full(rows, REDSHIFT)}  # fmt: skip
    primary = fits.PrimaryHDU()
    if manga:
        primary.header["DRPVER"] = "v3_1_1"
    fits.HDUList([primary, *(fits.ImageHDU(array, name=name) for name, array in arrays.items())]).writeto(path)
    return path


def write_image(path: Path, cards: dict[str, Any], flux: Array, **others: Array) -> Path:
    """A 1-D image, and images of other names beside it."""
    hdu = fits.PrimaryHDU(flux.astype(np.float32))
    hdu.header.update(cards)
    fits.HDUList([hdu, *(fits.ImageHDU(values, name=name) for name, values in others.items())]).writeto(path)
    return path


def linear_cards(wavelength: Array, ctype: str = "AWAV") -> dict[str, Any]:
    """Cards of a linear axis."""
    return {"CTYPE1": ctype, "CUNIT1": "Angstrom", "CRVAL1": wavelength[0], "CRPIX1": 1.0,
            "CDELT1": wavelength[1] - wavelength[0]}  # fmt: skip


def write_table(path: Path, columns: dict[str, Array], units: dict[str, str] | None = None, *, nested: bool = False,
                **cards: Any) -> Path:  # fmt: skip
    """A FITS table: a sample a row, or (nested) the spectrum in one row."""
    made = []
    for name, values in columns.items():
        form = f"{len(values)}D" if nested else "D"
        made.append(fits.Column(name, form, (units or {}).get(name), array=values[None] if nested else values))
    table = fits.BinTableHDU.from_columns(made)
    table.header.update(cards)
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    return path


def write_text(path: Path, lines: list[str], *columns: Array, separator: str = " ") -> Path:
    """A text file: lines, then columns."""
    rows = [separator.join(f"{value:.8g}" for value in row) for row in zip(*columns, strict=True)]
    path.write_text("\n".join([*lines, *rows]) + "\n")
    return path
