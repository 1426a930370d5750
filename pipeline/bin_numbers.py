"""Bin numbers from a file: maps of PHANGS, tables of nGIST, or any image of integers.

An nGIST `*_table.fits` has one row for each spaxel that its reader kept, with `BIN_ID` (negative: in no bin) and the
spaxel's place `X`, `Y` in arcsec from an origin that it does not name; the pixel's side is PIXSIZE in its header. Where
the table belongs on the image follows from its extent, if that is the image's, and else from the spaxels with data:
there must be exactly one place where all of its spaxels have some.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from galprote.model.errors import ConfigError
from galprote.pipeline.images import listing, read_named_image, with_hdus

#: What the maps of PHANGS call the image of bin numbers.
EXTENSIONS: Final = ("BIN_ID", "BINID", "ID")
#: Columns of nGIST's table.
_COLUMNS: Final = ("BIN_ID", "X", "Y")
#: How far from whole pixels the places of a table may be, pixels.
_OFF_GRID: Final = 0.1


def read_bin_numbers(path: str, shape: tuple[int, int], data: NDArray[np.bool_] | None = None) -> NDArray[np.int32]:
    """Read which bin each spaxel is in.

    Parameters
    ----------
    path : str
        A FITS image or `file.fits[EXT]`; or a table of nGIST.
    shape : (int, int)
        (y, x) of the cube.
    data : (y, x) bool, optional
        Spaxels with data, by which a table finds its place; without them it is only checked, and the numbers mean
        nothing.

    Returns
    -------
    (y, x) int32
        -1 where there is none.

    Raises
    ------
    ConfigError
        If the file cannot be read, or has no such numbers.
    """
    table = with_hdus(path, "bin numbers", _table)
    if table is not None:
        return _from_table(
            path, *table, shape, np.ones(shape, dtype=bool) if data is None else data, sure=data is not None
        )
    values, _ = read_named_image(path, "bin numbers", shape, EXTENSIONS)
    known = np.isfinite(values)
    if not np.array_equal(values[known], np.rint(values[known])):
        raise ConfigError(f"bin numbers {path}: the image has values that are no whole numbers; name its extension")
    return np.where(known, values, -1).astype(np.int32)


Table = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], float]


def _table(hdus: Any, extension: str | int | None) -> Table | None:
    """Numbers, places (arcsec) and pixel size of an nGIST table, if the file is one."""
    for hdu in hdus:
        names = getattr(getattr(hdu, "columns", None), "names", None) or []
        if extension is None and all(name in names for name in _COLUMNS):
            size = next((float(other.header["PIXSIZE"]) for other in (hdu, *hdus) if "PIXSIZE" in other.header), 0.0)
            if not 0 < size < np.inf:
                raise ConfigError(f"bin numbers: the table has no PIXSIZE; its HDUs are {listing(hdus)}")
            columns = [np.asarray(hdu.data[name], dtype=np.float64) for name in _COLUMNS]
            return columns[0].astype(np.int64), columns[1], columns[2], size
    return None


def _from_table(
    path: str,
    numbers: NDArray[np.int64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    size: float,
    shape: tuple[int, int],
    data: NDArray[np.bool_],
    *,
    sure: bool,
) -> NDArray[np.int32]:
    columns, rows = ((place - place.min()) / size for place in (x, y))
    if max(np.abs(columns - np.rint(columns)).max(), np.abs(rows - np.rint(rows)).max()) > _OFF_GRID:
        raise ConfigError(f"bin numbers {path}: X and Y are not on a grid of {size:g} arcsec (PIXSIZE)")
    column, row = np.rint(columns).astype(np.int64), np.rint(rows).astype(np.int64)
    room = shape[0] - int(row.max()) - 1, shape[1] - int(column.max()) - 1
    if min(room) < 0:
        raise ConfigError(
            f"bin numbers {path}: the table covers {row.max() + 1} x {column.max() + 1} spaxels, the cube has "
            f"{shape[0]} x {shape[1]}"
        )
    whole = room == (0, 0)  # nGIST 7 keeps the spaxels without data, too
    places = [(0, 0)] if whole else _places(row, column, data) if sure else []
    if sure and len(places) != 1:
        raise ConfigError(
            f"bin numbers {path}: the table names no origin, and its spaxels fit onto those with data at {len(places)} "
            f"places of the cube: make an image of bin numbers on the cube's pixels"
        )
    down, left = places[0] if places else (0, 0)
    image = np.full(shape, -1, dtype=np.int32)
    image[row + down, column + left] = numbers
    return image


def _places(row: NDArray[np.int64], column: NDArray[np.int64], data: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Offsets at which all of a table's spaxels have data: a correlation counts them at all offsets at once."""
    spaxels = np.zeros((int(row.max()) + 1, int(column.max()) + 1))
    spaxels[row, column] = 1.0
    shape = tuple(whole - part + 1 for whole, part in zip(data.shape, spaxels.shape, strict=True))
    spectrum = np.fft.rfft2(data.astype(np.float64)) * np.conj(np.fft.rfft2(spaxels, data.shape))
    # Beyond that shape the table would reach around the image.
    found = np.fft.irfft2(spectrum, data.shape)[: shape[0], : shape[1]]
    return [(int(down), int(left)) for down, left in np.argwhere(found > spaxels.sum() - 0.5)]
