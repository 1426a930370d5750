"""A catalogue of stars -> the spaxels within each star's radius."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray

from galprote.model.errors import ConfigError
from galprote.model.wording import count
from galprote.pipeline.mask_config import StarsConfig

#: Names of columns, in any case, of the catalogues in use (Gaia's archive, VizieR, SExtractor, hand-written tables).
RA_NAMES: Final = ("ra", "raj2000", "_raj2000", "ra_icrs", "ra_deg", "radeg", "alpha_j2000", "right_ascension")
DEC_NAMES: Final = (
    "dec",
    "dej2000",
    "_dej2000",
    "de_icrs",
    "dec_icrs",
    "dec_deg",
    "dedeg",
    "delta_j2000",
    "declination",
)
RADIUS_NAMES: Final = ("radius", "radius_arcsec", "mask_radius", "r_arcsec")
LARGEST_RADIUS_ARCSEC: Final = 600.0
_INSTEAD: Final = "use masks.files, or regions in pixels"

#: How astropy is told to read a file, by the end of its name; other files it must recognise itself.
_FORMATS: Final = {
    ".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".fits": "fits", ".fit": "fits", ".fits.gz": "fits",
    ".vot": "votable", ".xml": "votable", ".votable": "votable",
}  # fmt: skip


@dataclass(frozen=True)
class Stars:
    """Stars to leave out.

    Attributes
    ----------
    path : str
        The catalogue.
    sky : SkyCoord
        Places of n stars, ICRS.
    radius_arcsec : (n,) float64
    """

    path: str
    sky: SkyCoord
    radius_arcsec: NDArray[np.float64]


def read_stars(config: StarsConfig) -> Stars:
    """Read a catalogue.

    Proper motions are not applied: the positions are taken as they are.

    Raises
    ------
    ConfigError
        If it cannot be read, lacks a column, or a star has no usable position or radius.
    """
    path = config.catalogue
    table = _table(path)
    right_ascension = _degrees(path, *_column(path, table, RA_NAMES, "right ascension"))
    declination = _degrees(path, *_column(path, table, DEC_NAMES, "declination"))
    found = [name for wanted in RADIUS_NAMES for name in table.colnames if name.lower() == wanted]
    if found:
        radius = _numbers(path, found[0], table[found[0]], u.arcsec)
    elif config.radius_arcsec is not None:
        radius = np.full(len(table), config.radius_arcsec)
    else:
        raise ConfigError(
            f"star catalogue {path}: no column {' or '.join(RADIUS_NAMES)} among {', '.join(table.colnames)}: "
            f"add one (arcsec), or give masks.stars.radius_arcsec"
        )
    _refuse(path, "declination", ~(np.abs(declination) <= 90), declination, "-90 to 90 degrees")
    _refuse(path, "right ascension", ~(np.abs(right_ascension) <= 360), right_ascension, "0 to 360 degrees")
    limits = f"0 to {LARGEST_RADIUS_ARCSEC:g} arcsec"
    _refuse(path, "radius", ~((radius > 0) & (radius <= LARGEST_RADIUS_ARCSEC)), radius, limits)
    return Stars(path, SkyCoord(right_ascension, declination, unit="deg"), radius)


def star_mask(stars: Stars, wcs_header: str, shape: tuple[int, int]) -> tuple[NDArray[np.bool_], str]:
    """Find the spaxels whose centre is within the radius of a star, and those that hold one.

    Parameters
    ----------
    stars : Stars
    wcs_header : str
        The cube's celestial WCS.
    shape : (int, int)
        (y, x).

    Returns
    -------
    mask : (y, x) bool
    note : str
        How many stars lie in the field.

    Raises
    ------
    ConfigError
        If the cube has no celestial WCS.
    """
    if not wcs_header:
        raise ConfigError(
            f"star catalogue {stars.path}: the cube has no celestial WCS to place its stars on: {_INSTEAD}"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wcslib reports every keyword that it tidies up
        wcs = WCS(fits.Header.fromstring(wcs_header))
        mask = np.zeros(shape, dtype=bool)
        covering = 0
        for index in _near_field(stars, wcs, shape):
            covering += _paint_star(mask, stars.sky[index], float(stars.radius_arcsec[index]), wcs)
    of = f"{count(len(stars.sky), 'star')} of {Path(stars.path).name}"
    if not covering:
        return mask, f"masks: none of the {of} lies in the field"
    return mask, f"masks: {covering} of {of} lie in the field and cover {int(mask.sum()):,} spaxels"


def _near_field(stars: Stars, wcs: WCS, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Stars that may reach into the field: a projection would also show what is behind the observer."""
    ny, nx = shape
    centre = wcs.pixel_to_world((nx - 1) / 2, (ny - 1) / 2).icrs
    corners = wcs.pixel_to_world([-0.5, -0.5, nx - 0.5, nx - 0.5], [-0.5, ny - 0.5, -0.5, ny - 0.5]).icrs
    reach = centre.separation(corners).arcsec.max()
    return np.flatnonzero(centre.separation(stars.sky).arcsec <= reach + stars.radius_arcsec)


def _paint_star(mask: NDArray[np.bool_], star: SkyCoord, radius_arcsec: float, wcs: WCS) -> bool:
    """Add a star's circle to a mask; tells whether any of it lies in the field."""
    ny, nx = mask.shape
    x, y = (float(value) for value in wcs.world_to_pixel(star))
    reach = radius_arcsec / (3600 * float(proj_plane_pixel_scales(wcs).min())) + 2
    left, right = max(0, int(np.floor(x - reach))), min(nx, int(np.ceil(x + reach)) + 1)
    bottom, top = max(0, int(np.floor(y - reach))), min(ny, int(np.ceil(y + reach)) + 1)
    if left >= right or bottom >= top:
        return False
    rows, columns = np.mgrid[bottom:top, left:right]
    within = wcs.pixel_to_world(columns, rows).icrs.separation(star).arcsec <= radius_arcsec
    within |= (np.abs(columns - x) <= 0.5) & (np.abs(rows - y) <= 0.5)
    mask[bottom:top, left:right] |= within
    return bool(within.any())


def _table(path: str) -> Table:
    suffix = next((end for end in _FORMATS if path.lower().endswith(end)), None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of faults that do not keep it from being read
            table = Table.read(path, format=_FORMATS[suffix] if suffix else "ascii")
    except Exception as error:  # astropy raises many types for damaged files
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError(
            f"star catalogue {path}: cannot be read ({reason}): expected CSV, ECSV, FITS or VOTable by the name's end"
        ) from error
    if not table.colnames:
        raise ConfigError(f"star catalogue {path}: has no columns")
    return table


def _column(path: str, table: Table, names: tuple[str, ...], what: str) -> tuple[str, Any]:
    """The first column that has one of some names."""
    for wanted in names:
        for name in table.colnames:
            if name.lower() == wanted:
                return name, table[name]
    raise ConfigError(
        f"star catalogue {path}: no column for the {what} among {', '.join(table.colnames)}: "
        f"call it {' or '.join(names[:4])}"
    )


def _degrees(path: str, name: str, column: Any) -> NDArray[np.float64]:
    return _numbers(path, name, column, u.deg)


def _numbers(path: str, name: str, column: Any, unit: u.Unit) -> NDArray[np.float64]:
    """A column in a unit, which is that of a column without one; NaN where masked."""
    if column.dtype.kind not in "fiu":
        found = f"; found {column[0]!r:.40}" if len(column) else ""
        raise ConfigError(f"star catalogue {path}: column {name}: expected numbers in {unit}{found}")
    values = np.ma.filled(np.ma.asarray(column).astype(np.float64), np.nan)
    if not column.unit:
        return np.asarray(values)
    try:
        return np.asarray((values * u.Unit(column.unit)).to_value(unit))
    except (u.UnitConversionError, ValueError, TypeError) as error:
        raise ConfigError(f"star catalogue {path}: column {name}: unit {column.unit} is no angle") from error


def _refuse(path: str, what: str, wrong: NDArray[np.bool_], values: NDArray[np.float64], wanted: str) -> None:
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ConfigError(f"star catalogue {path}: row {row + 1}: {what} {values[row]:g}: expected {wanted}")
