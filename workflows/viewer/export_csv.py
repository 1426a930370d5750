"""A selection as a CSV file: a row a spaxel, with every map."""

import csv
import io
from typing import Final

import numpy as np

from galprote.pipeline.quality import status_names
from galprote.workflows.viewer.selection import Selection
from galprote.workflows.viewer.stored import StoredGalaxy, ViewError

#: Rows of a file at most: more is what the FITS files are for.
MOST: Final = 50_000


def selection_csv(galaxy: StoredGalaxy, selection: Selection) -> str:
    """Write the spaxels of a selection, hidden ones too: the column `status` tells which to leave out.

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
    columns = {"y": y.tolist(), "x": x.tolist()}
    if galaxy.wcs is not None:
        sky = galaxy.wcs.pixel_to_world(x, y).icrs
        columns |= {name: [f"{value:.7f}" for value in angle.deg] for name, angle in (("ra", sky.ra), ("dec", sky.dec))}
    for name in galaxy.maps:
        values = galaxy.map(name)[y, x]
        columns[name] = ["" if not np.isfinite(value) else str(value) for value in values]
    status = galaxy.map("status")[y, x]
    columns |= {"status": status.tolist(), "flags": [" ".join(status_names(int(value))) for value in status]}
    text = io.StringIO()
    for line in _comments(galaxy, selection):
        text.write(f"# {line}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def _comments(galaxy: StoredGalaxy, selection: Selection) -> list[str]:
    record = galaxy.record
    lines = [
        f"galaxy: {galaxy.name}, redshift {galaxy.about['redshift']}",
        f"selection: {selection.kind} of {len(selection)} spaxels",
        f"made by: galprote {record['versions']['galprote']}, weights {record['checkpoint_sha256'][:8]}",
        f"fingerprint of input, settings and weights: {record['fingerprint']}",
        f"input: {record['input']['file']}",
        "y, x: row and column in the cube, from 0",
    ]
    if galaxy.wcs is not None:
        lines.append("ra, dec: ICRS, degrees")
    for name in galaxy.maps:
        about = galaxy.attributes(name)
        unit = f" [{about['units']}]" if about.get("units") else ""
        lines.append(f"{name}: {about.get('long_name', '')}{unit}")
    lines.append(f"status: flag bits, by name in flags; {galaxy.unreliable} are those of values that nobody should use")
    return [line.replace("\n", " ") for line in lines]
