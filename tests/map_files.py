"""Maps of a disc, and files that hold them: our stores and other people's images."""

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from tests import stores

Array = NDArray[Any]
PIXEL_ARCSEC = 0.2
CENTRE = (184.7, 14.4)


def sky_header(shape: tuple[int, int], *, pixel: float = PIXEL_ARCSEC, turn: float = 0.0) -> fits.Header:
    """A tangential projection about `CENTRE`, in the middle of an image (y, x), turned by degrees."""
    header = fits.Header()
    cosine, sine = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    step = pixel / 3600
    header.update({
        "WCSAXES": 2, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg",
        "CRVAL1": CENTRE[0], "CRVAL2": CENTRE[1], "CRPIX1": shape[1] / 2 + 0.5, "CRPIX2": shape[0] / 2 + 0.5,
        "CD1_1": -step * cosine, "CD1_2": step * sine, "CD2_1": step * sine, "CD2_2": step * cosine,
        "RADESYS": "ICRS",
    })  # fmt: skip
    return header


def smooth_maps(shape: tuple[int, int] = (40, 50), seed: int = 3) -> dict[str, Array]:
    """Maps of a disc: ages, [M/H] and dust fall outwards; a corner has no data; S/N from 60 down."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    radius = np.hypot(y - shape[0] / 2, x - shape[1] / 2) / (max(shape) / 2)
    rng = np.random.default_rng(seed)
    status = np.zeros(shape, dtype=np.int32)
    status[:3, :4] = 1
    maps: dict[str, Array] = {
        "age_lw": 9.8 - 0.8 * radius + 0.05 * rng.standard_normal(shape),
        "metallicity_lw": 0.2 - 0.6 * radius,
        "av": 0.2 + 0.5 * np.exp(-(radius**2)),
        "age_mw": 9.9 - 0.4 * radius,
        "metallicity_mw": 0.3 - 0.5 * radius,
        "stellar_mass_density": 1000.0 * np.exp(-2 * radius),
        "mass_to_light": 2.0 - radius,
        "v_stars": 100.0 * (x - shape[1] / 2) / shape[1],
        "snr": 60.0 * np.exp(-2 * radius),
        "trust": np.full(shape, 0.5),
        "flux": 1000.0 * np.exp(-2 * radius),
    }
    maps["ebv_stars"] = maps["av"] / 3.1
    maps |= {f"{name}_error": np.full(shape, 0.1) for name in ("age_lw", "metallicity_lw", "av", "age_mw", "ebv_stars")}
    maps["stellar_mass_density_error"] = 0.1 * np.log(10) * maps["stellar_mass_density"]
    for values in maps.values():
        values[status > 0] = np.nan
    return {name: values.astype(np.float32) for name, values in maps.items()} | {"status": status}


def write_store(path: Path, maps: dict[str, Array], header: fits.Header | None = None, **more: Array) -> Path:
    """Write `<name>.zarr` with these maps, on the sky if there is a header."""
    stores.write_store(path, maps | more, header=header, positions=True, redshift=0.005)
    return path


def write_images(
    path: Path, images: dict[str, tuple[Array, str]], header: fits.Header | None = None, **primary: Any
) -> Path:
    """Write FITS images, each with a unit ('' leaves BUNIT out), and a primary header."""
    hdus = fits.HDUList([fits.PrimaryHDU()])
    hdus[0].header.update(primary)
    for name, (values, unit) in images.items():
        hdu = fits.ImageHDU(values, header=header, name=name)
        if unit:
            hdu.header["BUNIT"] = unit
        hdus.append(hdu)
    hdus.writeto(path, overwrite=True)
    return path
