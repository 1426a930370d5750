"""The cube that a finished store was made from: where the run found it."""

import json
import tempfile
from pathlib import Path

from galprote.model.errors import ConfigError
from galprote.pipeline.readers.unpack import is_gzip


def find_store_cube(store: Path, galaxy: str, file: str, told: Path | None = None) -> Path:
    """Find it.

    Parameters
    ----------
    store : Path
        `OUT/NAME.zarr`.
    galaxy : str
    file : str
        The cube's name, as the store's provenance has it.
    told : Path, optional
        Where the user says it is.

    Raises
    ------
    ConfigError
        If it is not there.
    """
    if told is not None:
        if not told.exists():
            raise ConfigError(f"--cube {told}: no such file (looked from {Path.cwd()})")
        return told
    folder = store.resolve().parent
    places = [folder / "mock" / file, folder / file]
    recorded = _recorded(folder, galaxy)
    places = [Path(recorded), *places] if recorded else places
    for place in places:
        if place.exists():
            return place
    looked = ", ".join(str(place) for place in places)
    raise ConfigError(f"{store}: the cube that it was made from, {file}, was not found ({looked}): name it with --cube")


def unpacking_words(cube: Path) -> str:
    """What is said before a compressed cube is unpacked; empty for others."""
    if not is_gzip(cube):
        return ""
    return f"{cube.name} is compressed: it is unpacked, once, into {tempfile.gettempdir()}."


def _recorded(folder: Path, galaxy: str) -> str:
    """Where run.json says that the cube is; '' if it does not."""
    try:
        galaxies = json.loads((folder / "run.json").read_text(encoding="utf-8"))["galaxies"]
        return next(str(entry.get("cube") or "") for entry in galaxies if entry["name"] == galaxy)
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return ""
