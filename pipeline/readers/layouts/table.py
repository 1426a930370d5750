"""FITS tables with columns of wavelength and flux: one sample a row, or one spectrum a row (as in ESO's Phase 3).

Source for ESO's: Delmotte et al., ESO Science Data Products Standard, section 3; `obs.atmos` in a UCD means air.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from astropy.io import fits

from galprote.pipeline.readers.layouts.columns import has_spectrum, spectrum_of_columns, wavelength_columns
from galprote.pipeline.readers.layouts.raw import RawSpectrum, choose_row
from galprote.pipeline.readers.layouts.wcs import stated_medium


def read_table(hdus: fits.HDUList, row: int | None) -> RawSpectrum | None:
    """Read the first table whose columns are a spectrum."""
    tables = (hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU | fits.TableHDU))
    table = next((hdu for hdu in tables if has_spectrum(list(hdu.columns.names))), None)
    if table is None:
        return None
    names = [name for name in table.columns.names if np.issubdtype(table.data[name].dtype, np.number)
             or table.data[name].dtype == bool]  # fmt: skip
    wave = wavelength_columns(list(table.columns.names))[0]
    rows, chosen = 1, 0
    if table.data[wave].ndim > 1 or any(table.data[name].ndim > 1 for name in names):  # arrays in cells
        rows = len(table.data)
        chosen = choose_row(rows, row)
        long = max(np.size(table.data[name][chosen]) for name in names)
        columns: dict[str, Any] = {
            name: table.data[name][chosen] for name in names if np.size(table.data[name][chosen]) == long
        }
    else:
        choose_row(1, row)
        columns = {name: table.data[name] for name in names}
    units = {column.name: str(column.unit or "") for column in table.columns}
    medium, source = stated_medium(hdus[0].header, table.header)
    if medium is None and _ucd(table.header, wave).endswith("obs.atmos"):
        medium, source = "air", f"header, TUCD of {wave}"
    raw = spectrum_of_columns("FITS table", columns, units, medium, source)
    redshift = table.header.get("REDSHIFT", hdus[0].header.get("REDSHIFT"))
    if isinstance(redshift, int | float):
        raw = replace(raw, redshift=float(redshift), redshift_source="header, REDSHIFT")
    return replace(raw, rows=rows, label=f"row {chosen}" if rows > 1 else "")


def _ucd(header: fits.Header, column: str) -> str:
    """Unified content descriptor of a column, '' if it has none."""
    number = next((n for n in range(1, 1000) if str(header.get(f"TTYPE{n}", "")).strip() == column), 0)
    return str(header.get(f"TUCD{number}", "")).strip().lower()
