"""Maps of an inclined disc that are known exactly, on any WCS, without a run."""

import json
from typing import Any

import numpy as np
import xarray as xr
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS, Sip
from numpy.typing import NDArray

from galprote.pipeline import accessor  # noqa: F401 - registers `Dataset.galprote`
from galprote.pipeline.map_wcs import on_sky, wcs_text
from galprote.pipeline.products import EVERY_MAP
from galprote.pipeline.quality import Status, flag_attributes

CENTRE = SkyCoord(184.7, 14.4, unit="deg")


def sky_wcs(
    shape: tuple[int, int], angle: float = 0.0, parity: float = -1.0, scale: float = 0.2, centre: SkyCoord = CENTRE
) -> WCS:
    """Pixels of `scale` arcsec around `centre`; north is `angle` degrees counter-clockwise of up, if east is left."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cunit = ["RA---TAN", "DEC--TAN"], ["deg", "deg"]
    wcs.wcs.crval = [centre.ra.deg, centre.dec.deg]
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.cd = np.diag([parity, 1.0]) @ np.array([[cosine, sine], [-sine, cosine]]) * scale / 3600
    wcs.array_shape = shape
    return wcs


def distorted_wcs(shape: tuple[int, int] = (30, 26)) -> WCS:
    """A WCS with distortions of a pixel and more (SIP)."""
    wcs = sky_wcs(shape, angle=25.0, scale=0.4)
    a, b = np.zeros((3, 3)), np.zeros((3, 3))
    a[2, 0], a[1, 1], b[0, 2], b[2, 0] = 6e-3, -2e-3, -5e-3, 1e-3
    wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
    wcs.sip = Sip(a, b, None, None, wcs.wcs.crpix)
    wcs.wcs.set()
    return wcs


def disc_maps(
    shape: tuple[int, int] = (60, 64), *, pa: float = 35.0, inclination: float = 60.0, gradient: float = -0.05,
    scale_length: float = 3.0, **wcs: Any,
) -> xr.Dataset:  # fmt: skip
    """An exponential disc around `CENTRE`, whose age falls by `gradient` dex an arcsec in its plane."""
    header = sky_wcs(shape, **wcs)
    y, x = np.mgrid[: shape[0], : shape[1]]
    places = header.pixel_to_world(x, y)
    radius = disc_radius(places, pa, inclination)
    maps = {
        "age_lw": 9.8 + gradient * radius,
        "age_lw_error": 0.05 + 0 * radius,
        "flux": 1000 * np.exp(-radius / scale_length),
        "stellar_mass_density": 500 * np.exp(-radius / scale_length),
    }
    units = {product.name: {"units": product.unit, "long_name": product.long_name} for product in EVERY_MAP}
    variables: dict[str, Any] = {name: (("y", "x"), v.astype(np.float32), units[name]) for name, v in maps.items()}
    variables["status"] = (("y", "x"), np.zeros(shape, np.int32), units["status"] | flag_attributes())
    pixels = {"y": np.arange(shape[0]), "x": np.arange(shape[1])}
    return on_sky(xr.Dataset(variables, pixels, attributes(wcs_text(header))))


def attributes(header: str) -> dict[str, Any]:
    """What the accessor reads of a store's attributes."""
    record = {"versions": {"galprote": "1.2.3"}, "checkpoint_sha256": "0123456789abcdef" * 4}
    return {
        "galaxy": "DISC", "redshift": 0.008, "flux_unit": "10**(-20)*erg/s/cm**2/Angstrom", "wcs_header": header,
        "provenance": json.dumps(record),
    }  # fmt: skip


def disc_radius(places: SkyCoord, pa: float, inclination: float) -> NDArray[np.float64]:
    """Distance from `CENTRE` in the plane of a disc, arcsec: from separations and position angles alone."""
    theta = CENTRE.position_angle(places).to_value(u.rad) - np.radians(pa)
    separation = CENTRE.separation(places).to_value(u.arcsec)
    return np.asarray(separation * np.hypot(np.cos(theta), np.sin(theta) / np.cos(np.radians(inclination))))


def distrust(maps: xr.Dataset, rows: slice, columns: slice) -> None:
    """Flag spaxels as stars."""
    maps["status"].values[rows, columns] |= int(Status.UNLIKE_TRAINING | Status.STAR_LIKE)
