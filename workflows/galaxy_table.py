"""Names of galaxies -> their redshift and the Milky Way's E(B-V): bundled tables, MaNGA's drpall, one's own table.

The bundled tables, `surveys/*.ecsv`, say for each value where it comes from.
"""

import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.table import Table

from galprote.model.errors import ConfigError
from galprote.pipeline.images import plain_reason
from galprote.workflows.header_values import REDSHIFTS, SFD_TO_SF11, SPEED_OF_LIGHT_KMS

#: Surveys with a bundled table.
BUNDLED: Final = ("phangs", "mauve")
#: What columns are called, in any case; the first that is there is taken.
NAME_COLUMNS: Final = ("plateifu", "name", "galaxy", "object", "objname", "object name", "id")
REDSHIFT_COLUMNS: Final = ("nsa_z", "redshift", "z", "zspec", "z_helio")
EBV_COLUMNS: Final = ("ebv", "e(b-v)", "e_bv", "ebvgal", "ebv_sf11", "mwext_sf11", "e_b_v_sandf")

_DESIGNATION: Final = re.compile(r"([A-Z]+)[-_]?0*(\d+)(.*)")
_LONG: Final = {"MESSIER": "M", "MANGA": ""}


@dataclass(frozen=True)
class KnownGalaxy:
    """What a table has on a galaxy; None where it has nothing that can be used.

    Attributes
    ----------
    name : str
        As the table spells it.
    redshift, ebv : float or None
        Barycentric redshift; E(B-V) in magnitudes.
    redshift_source, ebv_source : str
        Where they come from, in a few words.
    remark : str
        What one should know before using them; '' if nothing.
    """

    name: str
    redshift: float | None
    ebv: float | None
    redshift_source: str
    ebv_source: str
    remark: str = ""


def canonical_name(name: str) -> str:
    """Spell a galaxy's name in one way: NGC 628, ngc0628 and NGC_00628 become NGC628, Messier 99 becomes M99."""
    text = re.sub(r"\s+", "", name).upper()
    found = _DESIGNATION.fullmatch(text)
    if found is None:
        return re.sub(r"[^A-Z0-9+.]+", "-", text).strip("-")
    catalogue, number, rest = found.groups()
    rest = re.sub(r"[^A-Z0-9+.]+", "-", rest)
    return f"{_LONG.get(catalogue, catalogue)}{number}{rest}".rstrip("-")


def identity(name: str) -> str:
    """Return the canonical name under which all names of a galaxy are looked up: M 99 is NGC4254."""
    canonical = canonical_name(name)
    return _aliases().get(canonical, canonical)


def bundled_table(survey: str) -> dict[str, KnownGalaxy]:
    """Read a table that comes with galprote.

    Parameters
    ----------
    survey : str
        One of `BUNDLED`.

    Returns
    -------
    dict
        Galaxies by `identity`.
    """
    known = {}
    for row in _bundled_rows(survey):
        galaxy = KnownGalaxy(
            _text(row["name"]),
            _number(row["redshift"]),
            _number(row["ebv"]),
            f"{_text(row['redshift_source'])} (bundled table {survey})",
            _text(row["ebv_source"]),
            _text(row["remark"]),
        )
        known[identity(galaxy.name)] = galaxy
    return known


@cache
def _bundled_rows(survey: str) -> Table:
    with as_file(files("galprote.workflows") / "surveys" / f"{survey}.ecsv") as path:
        return Table.read(path, format="ascii.ecsv")


@cache
def _aliases() -> dict[str, str]:
    """Canonical names of the bundled galaxies' other names -> those of their names."""
    rows = [row for survey in BUNDLED for row in _bundled_rows(survey)]
    return {
        canonical_name(alias): canonical_name(row["name"]) for row in rows for alias in _text(row["aliases"]).split()
    }


def read_table(path: Path) -> dict[str, KnownGalaxy]:
    """Read redshifts and E(B-V) from a table in any format that astropy reads: FITS, ECSV, CSV, VOTable, plain text.

    Parameters
    ----------
    path : Path
        A table with a column of `NAME_COLUMNS`, and one of `REDSHIFT_COLUMNS` or `EBV_COLUMNS` or both. MaNGA's drpall
        file is such a table (plateifu, nsa_z, ebvgal); where it has no nsa_z, its z is taken.

    Returns
    -------
    dict
        Galaxies by `identity`.

    Raises
    ------
    ConfigError
        If the file cannot be read, has no such columns, or has a galaxy twice with different values.
    """
    table = _read_any(path)
    columns = {str(name).lower(): str(name) for name in table.colnames}
    name = _column(columns, NAME_COLUMNS)
    redshifts = [columns[key] for key in REDSHIFT_COLUMNS if key in columns]
    ebv = _column(columns, EBV_COLUMNS)
    if name is None or not (redshifts or ebv):
        found = ", ".join(table.colnames[:20])
        raise ConfigError(
            f"{path}: expected columns name, redshift and ebv (any case; also {', '.join(NAME_COLUMNS)}; "
            f"{', '.join(REDSHIFT_COLUMNS)}; {', '.join(EBV_COLUMNS)}), found {found}"
        )
    _require_redshifts(path, table, redshifts)
    known: dict[str, KnownGalaxy] = {}
    for row in table[[name, *redshifts, *([ebv] if ebv else [])]]:
        galaxy = _galaxy(path, row, name, redshifts, ebv)
        before = known.setdefault(identity(galaxy.name), galaxy)
        if (before.redshift, before.ebv) != (galaxy.redshift, galaxy.ebv):
            raise ConfigError(f"{path}: {galaxy.name} is there twice, with different values: remove one")
    return known


def _read_any(path: Path) -> Table:
    if not path.is_file():
        raise ConfigError(f"{path}: no such table")
    failures = []
    formats: Sequence[str | None] = (None, "ascii") if path.suffix.lower() not in (".fits", ".fit") else ("fits",)
    for kind in formats:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # several tables in a FITS file, units that astropy does not know
                return Table.read(path, format=kind) if kind else Table.read(path)
        except Exception as error:  # astropy raises many types
            failures.append(plain_reason(error)[:200])
    guessed = "guess" in failures[-1]  # and a list of everything that astropy tried
    raise ConfigError(
        f"{path}: cannot be read as a table (FITS, ECSV, CSV, VOTable, plain text with a line of column names)"
        + ("" if guessed else f": {failures[-1]}")
        + "; expected columns name, redshift and ebv"
    )


def _column(columns: dict[str, str], wanted: Sequence[str]) -> str | None:
    return next((columns[key] for key in wanted if key in columns), None)


def _require_redshifts(path: Path, table: Table, columns: Sequence[str]) -> None:
    for column in columns:
        unit = table[column].unit
        if unit is not None and str(unit):
            raise ConfigError(
                f"{path}: column {column} is in {unit}: a barycentric redshift (z, no unit) is wanted, not a velocity"
            )


def _galaxy(path: Path, row: Any, name: str, redshifts: Sequence[str], ebv: str | None) -> KnownGalaxy:
    label = _text(row[name])
    redshift, column, remarks = None, "", []
    for column in redshifts:
        value = _number(row[column])
        if value is None or value <= -9 or value == 0:  # placeholders
            continue
        if REDSHIFTS[0] < value <= REDSHIFTS[1]:
            redshift = value
            break
        remarks.append(
            f"{column} = {value:g} in {path.name} is no redshift; if it is a velocity in km/s, z = v/c = "
            f"{value / SPEED_OF_LIGHT_KMS:.6f}"
        )
    reddening = None if ebv is None else _number(row[ebv])
    if reddening is not None and not 0 <= reddening <= 5:
        remarks.append(f"{ebv} = {reddening:g} in {path.name} is no E(B-V)")
        reddening = None
    source = path.name
    if str(ebv).lower() == "ebvgal" and reddening is not None:
        reddening, source = round(SFD_TO_SF11 * reddening, 5), f"{SFD_TO_SF11:g} x SFD98"
    return KnownGalaxy(label, redshift, reddening, f"{column} of {path.name}", source, "; ".join(remarks))


def _text(value: Any) -> str:
    if value is np.ma.masked:
        return ""
    return (value.decode(errors="replace") if isinstance(value, bytes) else str(value)).strip()


def _number(value: Any) -> float | None:
    """A finite number, or None: masked, empty, no number."""
    if value is np.ma.masked:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
