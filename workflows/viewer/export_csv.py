"""A selection as a CSV file: a row a spaxel, with every map."""

import csv
import io
from typing import Any, Final

import numpy as np

from galprote.pipeline.quality import status_names
from galprote.workflows.viewer.selection import Selection
from galprote.workflows.viewer.stored import StoredGalaxy, ViewError

#: Rows of a file at most: more is what the FITS files are for.
MOST: Final = 50_000
#: After the names of the other run's columns.
SUFFIX: Final = "_b"


def selection_csv(galaxy: StoredGalaxy, selection: Selection, other: StoredGalaxy | None = None) -> str:
    """Write the spaxels of a selection, hidden ones too: the column `status` tells which to leave out.

    The maps of `other`, a run that the galaxy's is compared to, are in columns of the same names with `_b` after them.

    Comments above the table (lines that begin with #) name the galaxy, what made the maps, and every column's unit;
    missing values are empty.

    Raises
    ------
    ViewError
        If the selection has over 50,000 spaxels.
    """
    count = len(selection) * selection.step**2
    if count > MOST:
        raise ViewError(
            f"{count:,} spaxels in the selection, and {MOST:,} are what a CSV file takes: make it smaller, or read the "
            f"maps themselves: {galaxy.path.name}, {galaxy.path.stem}_MAPS.fits"
        )
    y, x = selection.y, selection.x
    columns: dict[str, list[Any]] = {"y": y.tolist(), "x": x.tolist()}
    if galaxy.wcs is not None:
        sky = galaxy.wcs.pixel_to_world(x, y).icrs
        columns |= {name: [f"{value:.7f}" for value in angle.deg] for name, angle in (("ra", sky.ra), ("dec", sky.dec))}
    columns |= _columns(galaxy, selection, "")
    if other is not None:
        columns |= _columns(other, selection, SUFFIX)
    text = io.StringIO()
    for line in _comments(galaxy, selection, other):
        text.write(f"# {line}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def _columns(galaxy: StoredGalaxy, selection: Selection, suffix: str) -> dict[str, list[Any]]:
    """All maps of a run, and the names of the flags."""
    y, x = selection.y, selection.x
    columns: dict[str, list[Any]] = {}
    for name in galaxy.maps:
        values = galaxy.map(name)[y, x]
        columns[name] = ["" if not np.isfinite(value) else str(value) for value in values]
    status = galaxy.map("status")[y, x]
    columns |= {"status": status.tolist(), "flags": [" ".join(status_names(int(value))) for value in status]}
    return {f"{name}{suffix}": values for name, values in columns.items()}


def _comments(galaxy: StoredGalaxy, selection: Selection, other: StoredGalaxy | None) -> list[str]:
    lines = [
        f"galaxy: {galaxy.name}, redshift {galaxy.about['redshift']}",
        f"selection: {selection.kind} of {len(selection)} spaxels",
        *_made_by(galaxy),
        "y, x: row and column in the cube, from 0",
    ]
    if galaxy.wcs is not None:
        lines.append("ra, dec: ICRS, degrees")
    lines += _meanings(galaxy, "")
    if other is not None:
        lines += [f"columns that end in {SUFFIX}: run B, {other.path}", *_made_by(other), *_meanings(other, SUFFIX)]
    return [line.replace("\n", " ") for line in lines]


def _made_by(galaxy: StoredGalaxy) -> list[str]:
    record = galaxy.record
    return [
        f"made by: galprote {record['versions']['galprote']}, weights {record['checkpoint_sha256'][:8]}",
        f"fingerprint of input, settings and weights: {record['fingerprint']}",
        f"input: {record['input']['file']}",
    ]


def _meanings(galaxy: StoredGalaxy, suffix: str) -> list[str]:
    lines = []
    for name in galaxy.maps:
        about = galaxy.attributes(name)
        unit = f" [{about['units']}]" if about.get("units") else ""
        lines.append(f"{name}{suffix}: {about.get('long_name', '')}{unit}")
    flags = f"status{suffix}: flag bits, by name in flags{suffix}"
    return [*lines, f"{flags}; {galaxy.unreliable} are those of values that nobody should use"]
