"""Text files of two to four columns, with or without names above them; ECSV."""

import re
import warnings
from pathlib import Path
from typing import Final

import numpy as np
from astropy.io import ascii as tables
from astropy.table import Table

from galprote.model.errors import SpectrumError
from galprote.pipeline.readers.axis import Medium
from galprote.pipeline.readers.layouts.columns import USUAL, has_spectrum, spectrum_of_columns
from galprote.pipeline.readers.layouts.raw import RawSpectrum, choose_row

_SEPARATOR: Final = re.compile(r"[,;\s]+")
_LARGEST: Final = 200 * 2**20


def read_text(path: Path, row: int | None) -> RawSpectrum:
    """Read a text file.

    Raises
    ------
    SpectrumError
        If it is no table of numbers.
    """
    if path.stat().st_size > _LARGEST:
        raise SpectrumError(f"{path.stat().st_size:,} bytes: too long for a spectrum")
    choose_row(1, row)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpectrumError("neither FITS nor text") from error
    if text.startswith("# %ECSV"):
        return _read_ecsv(text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    comments = [line.lstrip("#!% ").strip() for line in lines if line[0] in "#!%"]
    rows = [_SEPARATOR.split(line.strip(",; \t")) for line in lines if line[0] not in "#!%"]
    if not rows:
        raise SpectrumError("it has no numbers")
    medium, source = _medium(comments)
    if not all(_is_number(word) for word in rows[0]):
        names, rows = rows[0], rows[1:]
        if not rows:
            raise SpectrumError(f"it has one line, and no numbers: {' '.join(names):.60}")
    else:
        names = next((words for words in map(_SEPARATOR.split, comments[::-1]) if len(words) == len(rows[0])
                      and has_spectrum(words)), [])  # fmt: skip
    notes: tuple[str, ...] = ()
    if not names:
        if not 2 <= len(rows[0]) <= len(USUAL):
            raise SpectrumError(f"{len(rows[0])} columns without names: expected wavelength, flux, error, mask")
        names = list(USUAL[: len(rows[0])])
        notes = (f"columns have no names: taken to be {', '.join(names)}",)
    for number, words in enumerate(rows, 1):
        if len(words) != len(names):
            raise SpectrumError(f"row {number} of the numbers has {len(words)} columns, expected {len(names)}")
    try:
        values = np.array(rows, dtype=np.float64)
    except ValueError as error:
        raise SpectrumError(f"it is not all numbers: {error}") from error
    raw = spectrum_of_columns("text", dict(zip(names, values.T, strict=True)), {}, medium, source)
    return RawSpectrum(**(vars(raw) | {"notes": (*notes, *raw.notes)}))


def _read_ecsv(text: str) -> RawSpectrum:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table: Table = tables.read(text, format="ecsv")
    except Exception as error:  # astropy raises many types
        raise SpectrumError(f"it is not valid ECSV: {error}") from error
    numbers = {name: table[name] for name in table.colnames if table[name].dtype.kind in "fiub"}
    units = {name: str(table[name].unit or "") for name in numbers}
    medium, source = _medium([f"{key}: {value}" for key, value in table.meta.items()])
    columns = {name: np.ma.filled(column.astype(float), np.nan) for name, column in numbers.items()}
    raw = spectrum_of_columns("ECSV", columns, units, medium, source)
    redshift = table.meta.get("redshift", table.meta.get("REDSHIFT"))
    if isinstance(redshift, int | float):
        raw = RawSpectrum(**(vars(raw) | {"redshift": float(redshift), "redshift_source": "header, redshift"}))
    return raw


#: How a comment says what wavelengths are in; an air mass is no such thing.
_SAID: Final = (
    r"\bin {}\b(?!\W*mass)",
    r"\b{}[ -]*wave",
    r"\bwave\w*[^a-z]{{0,3}}{}\b(?!\W*mass)",
    r"\b(?:medium|airorvac|wave\w*|lambda)\s*[:=]\s*\W?(?:in )?{}\b(?!\W*mass)",
)


def _medium(comments: list[str]) -> tuple[Medium | None, str]:
    """Air or vacuum, if the comments say of the wavelengths that they are in one of the two."""
    air, vacuum = (
        any(re.search(pattern.format(medium), line.lower()) for line in comments for pattern in _SAID)
        for medium in ("air", "vac(?:uum)?")
    )
    if air == vacuum:
        return None, ""
    return ("air" if air else "vacuum"), "the comments"


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
