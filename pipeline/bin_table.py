"""The bins' table, from a finished store, as FITS and as text.

`<name>_BINS.fits` has a binary table with a row for each bin and units for every column, then the bins' spectra that
were asked for, as images whose rows are in the table's order. `<name>_bins.csv` is the table alone.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import zarr
from astropy import units as u
from astropy.io import fits
from numpy.typing import NDArray

from galprote.pipeline.bin_products import COLUMNS
from galprote.pipeline.fits_export import Block, Cards, Hdu, galaxy_cards, spectral_cards, write_hdus
from galprote.pipeline.products import EVERY_MAP
from galprote.pipeline.store import BINS
from galprote.pipeline.whole_files import appearing

#: Spectra of bins, and the HDUs that hold them; of each the array of its last axis.
SPECTRA: Final = {
    "residual": ("RESIDUAL", "wavelength"),
    "continuum_subtracted": ("CONTSUB", "wavelength_observed"),
    "continuum_subtracted_error": ("CONTSUB_ERR", "wavelength_observed"),
}


def export_bins(store: Path, folder: Path) -> Path:
    """Write `<name>_BINS.fits`.

    Parameters
    ----------
    store : Path
        A finished `<name>.zarr` of a galaxy with bins.
    folder : Path
        Where to write; must exist.

    Returns
    -------
    Path

    Raises
    ------
    OSError
        If the file cannot be written; no part of it is left.
    """
    group = zarr.open_group(store, mode="r")
    table = zarr.open_group(store / BINS, mode="r")
    arrays, about = dict(table.arrays()), dict(group.attrs)
    hdus = [Hdu(galaxy_cards(about)), _table_hdu(arrays)]
    for name, (extension, axis) in SPECTRA.items():
        if name in arrays:
            wavelength = np.asarray(arrays[axis][...], dtype=np.float64)
            cards = _cards(arrays[name], extension) + spectral_cards(wavelength, axis=1)
            cards.append(("CTYPE2", "INDEX", "row of the table BINS"))
            shape = (arrays[name].shape[1], arrays[name].shape[0])
            hdus.append(Hdu(cards, shape, "float32", _transposed(arrays[name])))
    if "grid" in arrays:
        hdus.append(Hdu(_cards(arrays["grid"], "GRID"), arrays["grid"].shape, "float32", _grids(arrays["grid"])))
    for axis in ("wavelength", "wavelength_observed", "metallicity", "age"):
        if axis in arrays:
            values = np.asarray(arrays[axis][...], dtype=np.float64)
            name = {"wavelength_observed": "WAVELENGTH_OBS"}.get(axis, axis.upper())
            hdus.append(Hdu(_cards(arrays[axis], name), values.shape, "float64", [(0, 0, values[None])]))
    path = folder / f"{store.name.removesuffix('.zarr')}_BINS.fits"
    write_hdus(path, hdus)
    return path


def write_csv(store: Path, folder: Path) -> Path:
    """Write `<name>_bins.csv`: the columns of the FITS table by their names in the store, missing values empty.

    Raises
    ------
    OSError
        If the file cannot be written; no part of it is left.
    """
    columns = _columns(dict(zarr.open_group(store / BINS, mode="r").arrays()))
    path = folder / f"{store.name.removesuffix('.zarr')}_bins.csv"
    with appearing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in zip(*(values.tolist() for values in map(_shortest, columns.values())), strict=True):
            writer.writerow(row)
    return path


def _shortest(values: NDArray[Any]) -> NDArray[Any]:
    """Numbers as text: no more digits than lead back to them, nothing where there is no number."""
    texts = np.array([str(value) for value in values], dtype=object)
    if values.dtype.kind == "f":
        texts[~np.isfinite(values)] = ""
    return texts


def _columns(arrays: dict[str, zarr.Array[Any]]) -> dict[str, NDArray[Any]]:
    """What the table has, in its order."""
    names = [name for name in [*COLUMNS, *(product.name for product in EVERY_MAP)] if name in arrays]
    return {name: np.asarray(arrays[name][...]) for name in dict.fromkeys(names)}


def _table_hdu(arrays: dict[str, zarr.Array[Any]]) -> Hdu:
    """The binary table, its rows as bytes."""
    extensions = {product.name: product.extension for product in EVERY_MAP}
    made = []
    for name, values in _columns(arrays).items():
        unit = str(arrays[name].attrs["units"])
        code = {"f4": "E", "f8": "D", "i2": "I", "i4": "J"}[values.dtype.str[1:]]
        made.append(fits.Column(extensions.get(name, name.upper()), code, unit=_unit(unit) or None, array=values))
    table: Any = fits.BinTableHDU.from_columns(made)
    columns = _columns(arrays)
    stored = np.empty(
        len(table.data), dtype=[(name, values.dtype.newbyteorder(">")) for name, values in columns.items()]
    )
    for name, values in columns.items():
        stored[name] = values
    rows = stored.view(np.uint8).reshape(len(stored), -1)
    skipped = ("XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT")
    cards = [(card.keyword, card.value, card.comment) for card in table.header.cards if card.keyword not in skipped]
    for number, name in enumerate(columns, 1):
        unit, meaning = str(arrays[name].attrs["units"]), str(arrays[name].attrs["long_name"])
        told = f" ({unit})" if unit and not _unit(unit) else ""  # where FITS cannot say it
        cards.append((f"TCOMM{number}", meaning + told, ""))
    return Hdu([*cards, ("EXTNAME", "BINS", "")], rows.shape, "uint8", [(0, 0, rows)], table=True)


def _unit(text: str) -> str:
    """A unit as FITS writes it; nothing if the standard does not know it, such as dex."""
    try:
        return str(u.Unit(text).to_string("fits")) if text else ""
    except ValueError:
        return ""


def _cards(array: zarr.Array[Any], extension: str) -> Cards:
    return [
        ("EXTNAME", extension, ""),
        ("BUNIT", str(array.attrs["units"]), ""),
        ("LONGNAME", str(array.attrs["long_name"]), ""),
    ]


def _transposed(array: zarr.Array[Any]) -> Iterator[Block]:
    """Spectra (wavelength, bin) as rows (bin, wavelength), a few bins at a time."""
    step = array.chunks[1]
    for first in range(0, array.shape[1], step):
        yield first, 0, np.ascontiguousarray(np.asarray(array[:, first : first + step]).T)


def _grids(array: zarr.Array[Any]) -> Iterator[Block]:
    """Grids (bin, metallicity, age) as planes of an image, a few bins at a time; rows count through all planes."""
    step = array.chunks[0]
    for first in range(0, array.shape[0], step):
        part = np.asarray(array[first : first + step], dtype=np.float32)
        yield first * part.shape[1], 0, part.reshape(-1, part.shape[2])
